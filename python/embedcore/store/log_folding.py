"""The write-ahead log is folded into the file by a thread of its own, while writers go on.

Guarantees: nothing of when a commit is durable changes, since folding only moves what the log holds. The log
does not grow: the thread begins before the size at which a writer would do it in its own way (the bound that
holds when the disk does not keep up), and writers wait for the last of a fold alone: the pages that
came while the rest was moved, after which the log begins anew.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from embedcore.errors import EmbedcoreError

# Of this many pages in the log a fold begins: 28 MiB, of the 32 at which a writer does it.
FOLD_PAGES: Final = 3584
# Folds beside the writers before the one that they wait for: each leaves what came meanwhile.
_PASSES: Final = 3

# The file format of a write-ahead log (sqlite.org/fileformat2.html, section 4): a header with the page size
# at 8 and two salts at 16, then frames of a header and a page, with the salts at 8. A frame of the log's
# present round has its salts; those of earlier rounds lie behind it.
_HEADER: Final = 32
_FRAME_HEADER: Final = 24

_logger = logging.getLogger(__name__)


class LogFolding:
    """Of one database, from its first long log to :meth:`close`. :meth:`look` is for one thread at a time."""

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        finish: Callable[[], tuple[int, int]],
    ) -> None:
        """``connect``: a connection to fold with; ``finish``: folds while all writers wait. A fold returns
        the pages in the log and how many of them are in the file."""
        self._path = path.with_name(path.name + "-wal")
        self._connect = connect
        self._finish = finish
        self._file = -1
        self._next = (b"", 0)  # of the round with these salts: no fold below so many pages
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """After a commit: wakes the thread when the log is long. Two microseconds."""
        if self._ended.is_set() or self._wanted.is_set() or not self._long():
            return
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-folding", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the fold in progress; those who still look see nothing."""
        self._ended.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """After :meth:`stop`, and when nobody looks any more."""
        if self._file >= 0:
            os.close(self._file)

    def _long(self) -> bool:
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            header = os.pread(self._file, _HEADER, 0)
            page, salts = int.from_bytes(header[8:12], "big"), header[16:24]
            pages = self._next[1] if self._next[0] == salts else FOLD_PAGES
            frame = os.pread(self._file, _FRAME_HEADER, _HEADER + (pages - 1) * (_FRAME_HEADER + page))
        except OSError:
            return False  # the writer folds it then
        return len(header) == _HEADER and frame[8:16] == salts

    def _run(self) -> None:
        with closing(self._connect()) as connection:
            while not self._ended.is_set():  # asked after the event is cleared, which stop() may have set
                self._wanted.wait()
                if self._ended.is_set():
                    return
                try:
                    self._fold(connection)
                except (sqlite3.Error, EmbedcoreError) as error:
                    # A full or failing disk: nothing is lost, and the writers hear of it by themselves.
                    _logger.warning("%s: the log could not be folded into the file: %s", self._path, error)
                self._wanted.clear()

    def _fold(self, connection: sqlite3.Connection) -> None:
        salts = os.pread(self._file, 8, 16)
        before = -1
        for _ in range(_PASSES):
            logged, folded = fold(connection)
            if self._ended.is_set():
                return
            if folded in (logged, before):
                break
            before = folded
        logged, _ = self._finish()
        # The log goes on where it is when a reader needs what is in it, a backup for one: not again at once.
        self._next = (salts, logged + FOLD_PAGES)


def fold(connection: sqlite3.Connection) -> tuple[int, int]:
    """Moves what no reader holds back from the log into the file; waits for nobody. Pages in the log, and how
    many of them are in the file."""
    _, logged, folded = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(logged), int(folded)
