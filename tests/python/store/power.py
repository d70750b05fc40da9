"""What a loss of power leaves of a database: a recorder under SQLite, and images of the disk made of it.

A recording VFS lies over SQLite's own (registered through ctypes, as the process's default) and notes every
write, truncation, deletion and sync in order. From that record :func:`image` builds what a disk may hold when
the power fails at a given moment: of every file what its last sync covered, and of what was written later any
part, in any order, whole, torn at a sector or garbled. A name that was deleted is back unless its folder was
synced since.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Wrote:
    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Deleted:
    path: str


@dataclass(frozen=True, slots=True)
class Synced:
    path: str


@dataclass(frozen=True, slots=True)
class FolderSynced:
    """Noted by the test, since it is not SQLite that does it."""

    path: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the test did between two events, e.g. an acknowledgement."""

    what: Any


Event = Wrote | Truncated | Deleted | Synced | FolderSynced | Mark


class NoRecorder(Exception):
    """SQLite's functions cannot be reached from here."""


_XOPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_XDELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_XWRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_XTRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_XSYNC = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):
    """sqlite3_vfs, version 3; what is not replaced is copied as it is."""

    _fields_ = [
        ("version", c_int),
        ("file_bytes", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _XOPEN),
        ("delete", _XDELETE),
        ("others", c_void_p * 14),
    ]


class _Methods(Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", _XWRITE),
        ("truncate", _XTRUNCATE),
        ("sync", _XSYNC),
        ("others", c_void_p * 13),
    ]


class Recorder:
    """The events so far. For one recording at a time in a process."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._library = ctypes.CDLL(_sqlite3.__file__)
        try:
            self._library.sqlite3_vfs_find.restype = POINTER(_Vfs)
            self._under = self._library.sqlite3_vfs_find(None)
        except AttributeError as error:
            raise NoRecorder("this Python hides the functions of its SQLite") from error
        self._paths: dict[int, str] = {}  # address of an open file -> its path
        self._methods: dict[int, _Methods] = {}  # address of the methods below -> those that record
        self._vfs = _Vfs.from_buffer_copy(self._under.contents)
        self._vfs.name = b"recorder"
        # Callbacks live as long as connections may call them: as this object.
        self._vfs.open = _XOPEN(self._open)
        self._vfs.delete = _XDELETE(self._delete)

    def mark(self, what: Any) -> None:
        self.events.append(Mark(what))

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Databases that are opened in this block are recorded until they are closed."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        try:
            yield self
        finally:
            self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))
            self._library.sqlite3_vfs_register(self._under, 1)

    def _open(self, _: int, name: int | None, file: int, flags: int, out: Any) -> int:
        under = self._under.contents
        code = int(under.open(ctypes.addressof(under), name, file, flags, out))
        at = c_void_p.from_address(file)
        if code or name is None or at.value is None:  # a failure, or a temporary file
            return code
        path = ctypes.cast(name, c_char_p).value
        assert path is not None
        self._paths[file] = path.decode()
        at.value = ctypes.addressof(self._recording_methods(at.value))
        return code

    def _recording_methods(self, below: int) -> _Methods:
        known = self._methods.get(below)
        if known is not None:
            return known
        under = _Methods.from_address(below)
        made = _Methods.from_buffer_copy(under)

        def write(file: int, data: int, size: int, offset: int) -> int:
            self.events.append(Wrote(self._paths[file], offset, ctypes.string_at(data, size)))
            return int(under.write(file, data, size, offset))

        def truncate(file: int, size: int) -> int:
            self.events.append(Truncated(self._paths[file], size))
            return int(under.truncate(file, size))

        def sync(file: int, flags: int) -> int:
            code = int(under.sync(file, flags))
            self.events.append(Synced(self._paths[file]))
            return code

        made.write, made.truncate, made.sync = _XWRITE(write), _XTRUNCATE(truncate), _XSYNC(sync)
        return self._methods.setdefault(below, made)

    def _delete(self, _: int, name: bytes, sync_folder: int) -> int:
        self.events.append(Deleted(name.decode()))
        under = self._under.contents
        return int(under.delete(ctypes.addressof(under), name, sync_folder))


def image(events: list[Event], upto: int, folder: Path, rng: random.Random) -> None:
    """Writes into ``folder`` what may be left of the files when the power fails after ``upto`` events."""
    past = events[:upto]
    synced: dict[str, int] = {}  # file, or folder of names -> its last sync
    for place, event in enumerate(past):
        if isinstance(event, Synced | FolderSynced):
            synced[event.path] = place
    files: dict[str, bytearray] = {}
    for place, event in enumerate(past):
        if isinstance(event, Synced | FolderSynced | Mark):
            continue
        what = str(Path(event.path).parent) if isinstance(event, Deleted) else event.path
        if place < synced.get(what, -1) or rng.random() < 0.5:
            _apply(files, event)
        elif isinstance(event, Wrote) and rng.random() < 0.5:
            _apply(files, _torn(event, rng))
    for path, data in files.items():
        (folder / Path(path).name).write_bytes(data)


def _apply(files: dict[str, bytearray], event: Event) -> None:
    if isinstance(event, Deleted):
        files.pop(event.path, None)
    elif isinstance(event, Truncated):
        if event.path in files:
            del files[event.path][event.size :]
    elif isinstance(event, Wrote):
        data = files.setdefault(event.path, bytearray())
        if len(data) < event.offset:
            data.extend(bytes(event.offset - len(data)))
        data[event.offset : event.offset + len(event.data)] = event.data


def _torn(event: Wrote, rng: random.Random) -> Wrote:
    """Its first sectors only, or with a sector of noise."""
    sectors = max(1, len(event.data) // SECTOR)
    at = rng.randrange(sectors) * SECTOR
    if rng.random() < 0.5:
        return Wrote(event.path, event.offset, event.data[:at])
    noise = rng.randbytes(min(SECTOR, len(event.data) - at))
    return Wrote(event.path, event.offset, event.data[:at] + noise + event.data[at + len(noise) :])
