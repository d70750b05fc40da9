"""One process owns a data directory: an flock on ``owner.lock``, and where its server listens.

The kernel releases the lock when the owner ends, however it ends, so the files of a killed owner do no
harm: nobody believes ``server.json`` unless the lock is held by the process that wrote it. The lock is one
of the open file: a child made by fork without exec would share it, so children are started with exec.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedcore.errors import EmbedcoreError, FailedPrecondition, ResourceExhausted, Unavailable

LOCK_FILE: Final = "owner.lock"
ADDRESS_FILE: Final = "server.json"

# Someone who only looks (read_owner) holds a shared lock for an instant; an opener outlasts that.
_TRIES: Final = 10
_PID_BYTES: Final = 20
_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class DirectoryOwner:
    """Who owns a data directory. The addresses are empty until the owner's server has published them."""

    pid: int
    address: str = ""
    stream_address: str = ""


class DirectoryOwned(FailedPrecondition):
    """The data directory belongs to a live process; ``owner`` says how to reach it."""

    def __init__(self, data_dir: Path, owner: DirectoryOwner) -> None:
        if owner.address:
            advice = f"its server listens on {owner.address}: connect with grpc://{owner.address} instead"
        else:
            advice = "wait for it to end, or use another data directory"
        super().__init__(
            f"data directory {data_dir} is in use by process {owner.pid or 'unknown'}; {advice}",
            {"pid": owner.pid, "address": owner.address, "stream_address": owner.stream_address},
        )
        self.owner = owner

    @property
    def pid(self) -> int:
        return self.owner.pid

    @property
    def address(self) -> str | None:
        """``host:port`` of the owner's server, None while it has published none."""
        return self.owner.address or None

    @property
    def stream_address(self) -> str | None:
        return self.owner.stream_address or None


class Ownership:
    """The lock on a data directory, held from construction to :meth:`release`. Thread-safe."""

    @classmethod
    def acquire(cls, data_dir: Path | str) -> Ownership:
        """Takes the lock, e.g. before other files of the directory are touched; hand the result on to
        ``open_store(..., ownership=...)``. Raises DirectoryOwned when a live process holds it."""
        return cls(Path(data_dir))

    def __init__(self, data_dir: Path) -> None:
        """Creates the directory if needed and takes the lock. DirectoryOwned when another holds it."""
        self.data_dir = data_dir
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._file = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable(
                f"cannot use {data_dir} as data directory ({error.strerror}): check path and rights"
            ) from error
        try:
            self._lock()
        except BaseException:
            os.close(self._file)
            raise
        try:
            # A killed owner left its address behind; process ids come round again.
            (data_dir / ADDRESS_FILE).unlink(missing_ok=True)
            # Written over what is there: a full disk has no room for a file that was emptied before.
            written = os.pwrite(self._file, f"{os.getpid():<{_PID_BYTES}}".encode(), 0)
            os.ftruncate(self._file, written)
        except OSError as error:
            os.close(self._file)
            raise _unwritable(data_dir / LOCK_FILE, error) from error
        self._released = False

    def publish_address(self, address: str, stream_address: str = "") -> None:
        """Tells other processes where the server of this directory listens."""
        text = json.dumps({"pid": os.getpid(), "address": address, "stream_address": stream_address})
        temporary = self.data_dir / (ADDRESS_FILE + ".tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.data_dir / ADDRESS_FILE)
        except OSError as error:
            raise _unwritable(self.data_dir / ADDRESS_FILE, error) from error

    def release(self) -> None:
        """Gives the directory up; doing so twice does nothing."""
        if self._released:
            return
        self._released = True
        (self.data_dir / ADDRESS_FILE).unlink(missing_ok=True)
        os.close(self._file)

    def _lock(self) -> None:
        for attempt in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise Unavailable(
                        f"cannot lock {self.data_dir} ({error.strerror}): use a local file system"
                    ) from error
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_S)
        raise DirectoryOwned(self.data_dir, _owner(self.data_dir, self._file))


def _unwritable(path: Path, error: OSError) -> EmbedcoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted(f"no space left for {path}: free disk space and retry")
    return Unavailable(f"{path} cannot be written ({error.strerror}): make its directory writable and retry")


def read_owner(data_dir: Path | str) -> DirectoryOwner | None:
    """The live owner of a data directory, or None: nobody owns it, or it does not exist."""
    data_dir = Path(data_dir)
    try:
        file = os.open(data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _owner(data_dir, file)
    else:
        return None
    finally:
        os.close(file)


def _owner(data_dir: Path, file: int) -> DirectoryOwner:
    text = os.pread(file, 32, 0).decode("ascii", "replace").strip()
    pid = int(text) if text.isdigit() else 0
    try:
        published = json.loads((data_dir / ADDRESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return DirectoryOwner(pid)
    # Left behind by an earlier owner that was killed.
    if not isinstance(published, dict) or published.get("pid") != pid:
        return DirectoryOwner(pid)
    return DirectoryOwner(pid, str(published["address"]), str(published["stream_address"]))
