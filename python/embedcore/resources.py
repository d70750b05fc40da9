"""What is free of memory and disk on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class ResourceProbe(Protocol):
    """OSError from either method: it cannot be told."""

    def free_memory(self) -> int:
        """Bytes that can be allocated without swapping."""

    def free_disk(self) -> int:
        """Bytes free where the data directory lies."""


class SystemProbe:
    """This machine: /proc/meminfo and the control group's limit where there are such, else sysconf."""

    def __init__(self, data_dir: Path | None = None) -> None:
        self._data_dir = data_dir or Path()

    def free_memory(self) -> int:
        free = self._available()
        limit, used = self._group("memory.max"), self._group("memory.current")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
        return free

    def free_disk(self) -> int:
        found = os.statvfs(self._data_dir)
        return found.f_bavail * found.f_frsize

    @staticmethod
    def _available() -> int:
        try:
            with open("/proc/meminfo", encoding="ascii") as lines:
                for line in lines:
                    if line.startswith("MemAvailable:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @staticmethod
    def _group(name: str) -> int | None:
        try:
            return int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no control groups v2, or "max"
            return None


def size_text(count: float) -> str:
    """Bytes as people read them: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
