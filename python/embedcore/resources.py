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

    def __init__(self, data_dir: Path | None = None, group: Path = Path("/sys/fs/cgroup")) -> None:
        """``group``: of control groups v2."""
        self._data_dir = data_dir or Path()
        self._group = group

    def free_memory(self) -> int:
        free = self._available()
        limit, used = self._number("memory.max"), self._number("memory.current")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used + self._file_pages()))
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

    def _number(self, name: str) -> int | None:
        try:
            return int((self._group / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no control groups v2, or "max"
            return None

    def _file_pages(self) -> int:
        """The group is charged for pages of files as well: whoever writes much fills its limit with them, and
        the kernel takes them back when it needs them. MemAvailable counts them as available, too."""
        try:
            lines = (self._group / "memory.stat").read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        pairs = (line.split() for line in lines)
        return sum(int(pair[1]) for pair in pairs if pair[0] in ("active_file", "inactive_file"))


def size_text(count: float) -> str:
    """Bytes as people read them: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
