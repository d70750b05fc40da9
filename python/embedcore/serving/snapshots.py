"""Snapshots of indexes on disk: what makes a restart take seconds where a rebuild takes minutes.

One file per save, ``snapshots/g<generation>-s<shard>/<watermark>.ecx`` in the data directory. A snapshot is
a cache: whatever is wrong with it, the store can rebuild the index.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedcore.errors import CorruptSnapshotError, FailedPrecondition, InvalidArgument
from embedcore.index import Index
from embedcore.serving.lane import Lane

SUFFIX: Final = ".ecx"
# What damage was found in is set aside under this name, and never loaded again.
DAMAGED: Final = ".damaged"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """When snapshots are taken and how they are used."""

    interval_s: float = 900.0  # of the machine, between two of a lane that has moved; 0: only at the end
    kept: int = 2  # per generation and shard
    at_close: bool = True
    mmap: bool = True  # map at the start and verify in the background; else read and verify first

    def __post_init__(self) -> None:
        if self.kept < 1:
            raise InvalidArgument(f"snapshots kept must be at least 1, got {self.kept}")
        if not self.interval_s >= 0:
            raise InvalidArgument(
                f"the interval of snapshots must be 0 or more seconds, got {self.interval_s}"
            )


class SnapshotDirectory:
    """The snapshots of one data directory. Thread-safe."""

    def __init__(self, data_dir: Path | str, settings: SnapshotSettings | None = None) -> None:
        self.root = Path(data_dir) / "snapshots"
        self.settings = settings or SnapshotSettings()
        self._lock = threading.Lock()
        # Files that this process has written, or read or verified whole.
        self._known_good: set[Path] = set()
        self._mapped: dict[tuple[int, int], tuple[Index, Path]] = {}

    def save(self, lane: Lane, fingerprint: str) -> Path:
        """Saves the lane's index with the digest of its vector space, and keeps the last files.

        Searches and the lane go on: the file holds all writes up to the watermark that it is named by, and
        some after it, which a replay applies again with the same result. A file that is known to be good and
        has this watermark already is left as it is. CorruptSnapshotError for a mapped index with damage.
        """
        folder = self.folder(lane.generation, lane.shard)
        index = lane.index
        assert isinstance(index, Index)
        self._settle(lane.generation, lane.shard, index)
        with self._lock:
            # Before the file: what the lane applies meanwhile may be in it, what it had applied is.
            watermark = lane.applied
            path = folder / f"{watermark}{SUFFIX}"
            if path not in self._known_good or not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                index.save(path, fingerprint=fingerprint, watermark=watermark)
                self._known_good.add(path)
            self._prune(folder, watermark)
        return path

    def load_newest(
        self, generation: int, shard: int, fingerprint: str, head: int | None = None, pruned: int = 0
    ) -> tuple[Index, int] | None:
        """The newest whole snapshot and its watermark, or None: rebuild then.

        Damaged files are skipped with a warning; so are those beyond ``head``, the shard's last sequence
        number, which belong to a store that was replaced by an older one, and those before ``pruned``, whose
        replay the log has no entries for any more. FailedPrecondition when a file is of another vector space:
        the data directory was mixed up. A mapped index is verified when ``Index.wait_verified`` returns.
        """
        for watermark, path in reversed(self.files(generation, shard)):
            if head is not None and watermark > head:
                _logger.warning("snapshot %s is ahead of the store (at %d): skipped", path, head)
                continue
            if watermark < pruned:
                _logger.warning("snapshot %s is older than the log (from %d on): skipped", path, pruned)
                continue
            try:
                index = Index.load(path, mmap=self.settings.mmap)
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
                if index.verified:
                    self._known_good.add(path)
                else:
                    self._mapped[generation, shard] = (index, path)
            return index, watermark
        return None

    def set_aside(self, generation: int, shard: int, index: Index) -> Path | None:
        """Takes the file that the index was mapped from out of use, for damage; returns its new name, or None
        where the index was not mapped, or its file is gone."""
        with self._lock:
            mapped, path = self._mapped.pop((generation, shard), (None, None))
            if mapped is not index or path is None or not path.exists():
                return None
            aside = path.with_name(path.name + DAMAGED)
            path.rename(aside)
            self._known_good.discard(path)
            return aside

    def oldest(self, generation: int, shard: int, pruned: int) -> int | None:
        """The watermark of the oldest snapshot that can be replayed from a log pruned up to ``pruned``: the
        log after it is still needed."""
        with self._lock:
            files = self.files(generation, shard)
        return next((watermark for watermark, _ in files if watermark >= pruned), None)

    def newest(self, generation: int, shard: int) -> tuple[int, Path] | None:
        """The newest snapshot's watermark and file; it may be pruned at any time by a newer one."""
        with self._lock:
            files = self.files(generation, shard)
        return files[-1] if files else None

    def drop(self, generation: int) -> None:
        """Removes all snapshots of a generation."""
        with self._lock:
            for folder in self.root.glob(f"g{generation}-s*"):
                shutil.rmtree(folder, ignore_errors=True)

    def drop_shard(self, generation: int, shard: int) -> None:
        """Removes all snapshots of one index."""
        with self._lock:
            shutil.rmtree(self.folder(generation, shard), ignore_errors=True)

    def tidy(self, live: Collection[int]) -> None:
        """Removes what saves that were killed have left, and what is of no live generation. For the start,
        while nobody saves."""
        for left in self.root.glob(f"*/*{SUFFIX}.tmp-*"):
            left.unlink(missing_ok=True)
        for folder in self.root.glob("g*-s*"):
            number = folder.name[1:].partition("-")[0]
            if number.isdecimal() and int(number) not in live:
                shutil.rmtree(folder, ignore_errors=True)

    def folder(self, generation: int, shard: int) -> Path:
        return self.root / f"g{generation}-s{shard}"

    def files(self, generation: int, shard: int) -> list[tuple[int, Path]]:
        """(watermark, path), ascending; other files are not ours."""
        return _files(self.folder(generation, shard))

    def _settle(self, generation: int, shard: int, index: Index) -> None:
        """Waits until a mapped index is verified; its file is known to be good then."""
        index.wait_verified()
        with self._lock:
            mapped, path = self._mapped.get((generation, shard), (None, None))
            if mapped is index and path is not None:
                self._known_good.add(path)
                del self._mapped[generation, shard]

    def _prune(self, folder: Path, saved: int) -> None:
        files = _files(folder)
        # A lane only moves on: what is ahead of it is left from a store that was replaced.
        older = [path for watermark, path in files if watermark <= saved]
        ahead = [path for watermark, path in files if watermark > saved]
        for path in [*older[: -self.settings.kept], *ahead, *folder.glob(f"*{DAMAGED}")]:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> list[tuple[int, Path]]:
    found = [(path.stem, path) for path in folder.glob(f"*{SUFFIX}")]
    return sorted((int(stem), path) for stem, path in found if stem.isdecimal())
