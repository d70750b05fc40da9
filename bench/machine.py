"""What a number depends on: processor, memory, versions, commit, command."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Flags that decide which kernels an engine can use.
_FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx512_vpopcntdq", "amx_int8",
    "asimd", "asimddp", "sve", "sve2",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """The machine and the checkout, as plain values for JSON."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "flags": _flags(),
        "memory_gib": _memory_gib(),
        "huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": list(os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "embedcore": _embedcore(),
        "commit": _commit(),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def line(machine: dict[str, Any]) -> str:
    """One line for people."""
    memory = f"{machine['memory_gib']:.0f} GiB" if machine["memory_gib"] else "memory unknown"
    best = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "asimd", "sve") if flag in machine["flags"]]
    return (
        f"{machine['cpu']}, {machine['cores_usable']} cores, {' '.join(best)}, {memory}; "
        f"Python {machine['python']}; commit {machine['commit'] or 'unknown'}; {machine['date']}"
    )


def _embedcore() -> dict[str, Any]:
    try:
        import embedcore

        return {key: value for key, value in embedcore.build_info().items() if _plain(value)}
    except ImportError:
        return {}


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list | tuple)


def _commit() -> str | None:
    """Short commit of the checkout, with "+changes" where tracked files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _flags() -> list[str]:
    named = (_field("/proc/cpuinfo", "flags") or _field("/proc/cpuinfo", "Features") or "").split()
    return [flag for flag in _FLAGS if flag in named]


def _memory_gib() -> float | None:
    total = _field("/proc/meminfo", "MemTotal")
    return int(total.split()[0]) / 2**20 if total else None


def _field(path: str, name: str) -> str | None:
    for text in (_read(path) or "").splitlines():
        key, _, value = text.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
