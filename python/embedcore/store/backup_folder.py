"""Where a backup lies: a directory, or whatever fsspec reaches by URL."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from embedcore.errors import DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from embedcore.store.files import sync_directory, sync_file

_BLOCK: Final = 4 << 20

Progress = Callable[[str, int, int], None]


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a backup, by its name within it."""

    name: str
    bytes: int
    sha256: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def file_entry(name: str, path: Path) -> FileEntry:
    """Reads the file once."""
    with path.open("rb") as source:
        return copy(name, source, None)


def copy(
    name: str, source: Reader, target: Writer | None, report: Callable[[int], None] | None = None
) -> FileEntry:
    """Copies to the end, and says what it read. ``target`` None: only reads."""
    digest = hashlib.sha256()
    size = 0
    while block := source.read(_BLOCK):
        digest.update(block)
        size += len(block)
        if target is not None:
            target.write(block)
        if report is not None:
            report(size)
    return FileEntry(name, size, digest.hexdigest())


class BackupFolder:
    """For one thread. What lies in a local directory is synced, names included."""

    def __init__(self, url: str) -> None:
        """InvalidArgument when nothing can be reached by such a URL."""
        import fsspec

        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise InvalidArgument(f"{url}: {error}: install what it names, or use a directory") from error
        except (ValueError, OSError) as error:
            raise InvalidArgument(f"{url} is no directory and no URL that fsspec knows: {error}") from error
        self._written: list[str] = []
        local = isinstance(self._fs, fsspec.implementations.local.LocalFileSystem)
        self.local: Path | None = Path(self._root) if local else None

    @classmethod
    def create(cls, url: str) -> BackupFolder:
        """For a new backup. FailedPrecondition when something lies there already."""
        folder = cls(url)
        found = folder._names()
        if found:
            raise FailedPrecondition(
                f"{url} is not empty ({', '.join(sorted(found)[:3])}): a backup goes to a new directory"
            )
        with folder.translated():
            folder._fs.makedirs(folder._root, exist_ok=True)
        return folder

    def put(self, name: str, path: Path, report: Progress) -> FileEntry:
        """Copies a file in. DataLoss when what arrived has another size."""
        total = path.stat().st_size
        with path.open("rb") as source, self.translated():
            target = self._target(name)
            with self._fs.open(target, "wb") as sink:
                entry = copy(name, source, sink, lambda done: report(f"copying {name}", done, total))
            if self._fs.size(target) != entry.bytes:
                raise DataLoss(f"{self.url}: {name} arrived incomplete: try again, or elsewhere")
            if self.local is not None:
                sync_file(Path(target))
        return entry

    def reserve(self, name: str) -> Path:
        """The path of a file that the caller writes itself; in a local directory only."""
        with self.translated():
            return Path(self._target(name))

    def finish(self, name: str, data: bytes) -> None:
        """The last file, there whole or not at all; everything before it is durable."""
        with self.translated():
            if self.local is None:
                with self._fs.open(self._target(name), "wb") as sink:
                    sink.write(data)
                return
            self._sync_folders()
            temporary = self.local / f".{name}.tmp"
            temporary.write_bytes(data)
            sync_file(temporary)
            os.replace(temporary, self._target(name))
            sync_directory(self.local)
            sync_directory(self.local.parent)

    def discard(self) -> None:
        """Removes what was written, as far as that can be done; the last file first."""
        for target in reversed(self._written):
            with suppress(OSError):
                self._fs.rm(target)
        if self.local is not None:
            inside = {folder for target in self._written for folder in Path(target).parents}
            for folder in sorted(inside, reverse=True):  # the innermost first
                if folder.is_relative_to(self.local):
                    with suppress(OSError):  # not empty: something that is not ours
                        folder.rmdir()

    def read(self, name: str) -> bytes | None:
        """A small file whole; None when it is not there."""
        with self.translated():
            try:
                data: bytes = self._fs.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
            return data

    def fetch(self, name: str, target: Path, report: Callable[[int], None]) -> FileEntry:
        """Copies a file out, durably; DataLoss when it is not there."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.translated():
            try:
                source = self._fs.open(f"{self._root}/{name}", "rb")
            except FileNotFoundError as error:
                raise DataLoss(f"{self.url}: {name} is missing: the backup is not whole") from error
            with source, target.open("wb") as sink:
                entry = copy(name, source, sink, report)
        sync_file(target)
        return entry

    def translated(self) -> _Translated:
        return _Translated(self.url)

    def _names(self) -> list[str]:
        with self.translated():
            try:
                # Elsewhere than here an empty folder is nothing.
                found = (
                    self._fs.find(self._root) if self.local is None else self._fs.ls(self._root, detail=False)
                )
                return [str(name).rsplit("/", 1)[-1] for name in found]
            except FileNotFoundError:
                return []
            except NotADirectoryError as error:
                raise FailedPrecondition(f"{self.url} is a file: a backup goes to a directory") from error

    def _target(self, name: str) -> str:
        target = f"{self._root}/{name}"
        self._written.append(target)
        self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        return target

    def _sync_folders(self) -> None:
        for folder in {Path(target).parent for target in self._written}:
            while self.local is not None and folder.is_relative_to(self.local):
                sync_directory(folder)
                folder = folder.parent


class _Translated:
    """Errors of a file system as errors of embedcore."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            what = error.strerror or str(error)
            raise Unavailable(
                f"{self._url} cannot be used ({what}): check that it can be reached, written, and has room"
            ) from error
