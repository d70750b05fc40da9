"""Two commits, each built into a virtual environment of its own under build/bench/commits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bench.machine import ROOT

FOLDER = ROOT / "build" / "bench" / "commits"
_KEPT = 12  # characters of a commit's name


class CheckoutError(Exception):
    """A commit that is not there, or does not build; the message holds the end of the output."""


@dataclass(frozen=True)
class Checkout:
    name: str
    commit: str
    python: Path


def prepare(name: str, folder: Path = FOLDER) -> Checkout:
    """The commit that ``name`` (a branch, tag, or abbreviation) means now; built once and kept.

    Dependencies are those of the environment that runs this, so that both sides have the same ones; embedcore
    itself comes from the commit. Raises CheckoutError.
    """
    commit = _run(["git", "rev-parse", "--verify", f"{name}^{{commit}}"]).strip()[:_KEPT]
    home = folder / commit
    python = home / "venv" / "bin" / "python"
    if not (home / "built").exists():
        shutil.rmtree(home, ignore_errors=True)
        (home / "source").mkdir(parents=True)
        archive = home / "source.tar"
        _run(["git", "archive", "--output", str(archive), commit])
        _run(["tar", "-xf", str(archive), "-C", str(home / "source")])
        archive.unlink()
        _run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")])
        _share_packages(home)
        _run(
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
             "--no-build-isolation", "--ignore-installed", str(home / "source")]
        )  # fmt: skip
        shutil.rmtree(home / "source")
        (home / "built").touch()
    where = _run([str(python), "-c", "import embedcore; print(embedcore.__file__)"]).strip()
    if not Path(where).is_relative_to(home):
        raise CheckoutError(f"{commit} would be measured through {where}; remove {home} and try again")
    return Checkout(name, commit, python)


def _share_packages(home: Path) -> None:
    """A path entry: hooks of editable installs in it are not run, and what is installed here comes first."""
    site = next((home / "venv" / "lib").glob("python*")) / "site-packages"
    paths = dict.fromkeys([sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]])
    (site / "shared.pth").write_text("\n".join(paths) + "\n")


def _run(command: list[str]) -> str:
    # The build finds cmake and ninja beside the interpreter that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CheckoutError(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n{tail}")
    return done.stdout
