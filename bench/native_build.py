"""Builds the programs of bench/native: release, and once more with links that walks read as plain words."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench import machine


class BuildError(Exception):
    """A native program cannot be built; the message says why."""


def build(program: str, plain_links: bool = False) -> Path:
    """Its path, built when that is needed. Raises BuildError."""
    folder = machine.ROOT / "build" / ("plain-links" if plain_links else "release")
    configure = ["cmake", "--preset", "release", "--log-level=WARNING", "-B", str(folder)]
    if plain_links:
        configure.append("-DEMBEDCORE_PLAIN_LINKS=ON")
    for step in (configure, ["cmake", "--build", str(folder), "--target", program, "--", "-j2"]):
        done = subprocess.run(step, cwd=machine.ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(step)}: {(done.stdout + done.stderr).strip()[-500:]}")
    return folder / "bench" / "native" / program
