"""Snapshots of indexes on disk: what makes a restart take seconds where a rebuild takes minutes.

One file per save, ``snapshots/g<generation>-s<shard>/<watermark>.ecx`` in the data directory. A snapshot is
a cache: whatever is wrong with it, the store can rebuild the index.
"""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from typing import Final

from embedcore.errors import CorruptSnapshotError, FailedPrecondition
from embedcore.index import Index
from embedcore.serving.lane import Lane

SUFFIX: Final = ".ecx"
KEPT: Final = 2

_logger = logging.getLogger(__name__)


class SnapshotDirectory:
    """The snapshots of one data directory. Thread-safe."""

    def __init__(self, data_dir: Path | str) -> None:
        self.root = Path(data_dir) / "snapshots"
        self._lock = threading.Lock()
        # Files that this process has written or read whole.
        self._known_good: set[Path] = set()

    def save(self, lane: Lane, fingerprint: str) -> Path:
        """Saves the lane's index with the digest of its vector space, and keeps the last two files.

        The lane stands still meanwhile, searches go on, and writes wait in the log. A file that is known
        to be good and has this watermark already is left as it is.
        """
        folder = self._folder(lane.generation, lane.shard)
        with self._lock, lane.paused() as watermark:
            path = folder / f"{watermark}{SUFFIX}"
            if path not in self._known_good or not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                index = lane.index
                assert isinstance(index, Index)
                index.save(path, fingerprint=fingerprint, watermark=watermark)
                self._known_good.add(path)
            self._prune(folder, watermark)
        return path

    def load_newest(
        self, generation: int, shard: int, fingerprint: str, head: int | None = None
    ) -> tuple[Index, int] | None:
        """The newest whole snapshot and its watermark, or None: rebuild then.

        Damaged files are skipped with a warning; so are those beyond ``head``, the shard's last sequence
        number, which belong to a store that was replaced by an older one. FailedPrecondition when a file
        is of another vector space: the data directory was mixed up.
        """
        for watermark, path in reversed(self._files(self._folder(generation, shard))):
            if head is not None and watermark > head:
                _logger.warning("snapshot %s is ahead of the store (at %d): skipped", path, head)
                continue
            try:
                index = Index.load(path)
            # Damaged, unreadable, or written by a newer embedcore.
            except (CorruptSnapshotError, OSError, FailedPrecondition) as error:
                _logger.warning("snapshot %s cannot be used (%s): skipped", path, error)
                continue
            if index.fingerprint != fingerprint:
                raise FailedPrecondition(
                    f"snapshot {path} has fingerprint {index.fingerprint or 'none'}, generation {generation}"
                    f" has {fingerprint}: remove {path.parent}, the index is then rebuilt from the store"
                )
            if index.watermark != watermark:
                _logger.warning("snapshot %s is of watermark %d: skipped", path, index.watermark)
                continue
            with self._lock:
                self._known_good.add(path)
            return index, watermark
        return None

    def oldest(self, generation: int, shard: int, pruned: int) -> int | None:
        """The watermark of the oldest snapshot that can be replayed from a log pruned up to ``pruned``: the
        log after it is still needed."""
        with self._lock:
            files = self._files(self._folder(generation, shard))
        return next((watermark for watermark, _ in files if watermark >= pruned), None)

    def newest(self, generation: int, shard: int) -> tuple[int, Path] | None:
        """The newest snapshot's watermark and file; it may be pruned at any time by a newer one."""
        with self._lock:
            files = self._files(self._folder(generation, shard))
        return files[-1] if files else None

    def drop(self, generation: int) -> None:
        """Removes all snapshots of a generation."""
        with self._lock:
            for folder in self.root.glob(f"g{generation}-s*"):
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, generation: int, shard: int) -> Path:
        return self.root / f"g{generation}-s{shard}"

    @staticmethod
    def _files(folder: Path) -> list[tuple[int, Path]]:
        """(watermark, path), ascending; other files are not ours."""
        found = [(path.stem, path) for path in folder.glob(f"*{SUFFIX}")]
        return sorted((int(stem), path) for stem, path in found if stem.isdecimal())

    def _prune(self, folder: Path, saved: int) -> None:
        files = self._files(folder)
        # A lane only moves on: what is ahead of it is left from a store that was replaced.
        older = [path for watermark, path in files if watermark <= saved]
        ahead = [path for watermark, path in files if watermark > saved]
        for path in [*older[:-KEPT], *ahead]:
            path.unlink(missing_ok=True)
