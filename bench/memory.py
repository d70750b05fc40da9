"""Resident memory of this process, as the kernel counts it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def settle() -> int:
    """Resident bytes after garbage is collected and the allocator has given free pages back."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def touch(array: NDArray[np.float32]) -> None:
    """Brings a mapped array into residence, so that reading it later is not counted as an index growing."""
    flat = array.reshape(-1)
    step = mmap.PAGESIZE // flat.itemsize
    float(flat[::step].sum())
