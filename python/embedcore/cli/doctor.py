"""``embedcore doctor``: what is installed, what is damaged, what cannot be reached, and what to do."""

from __future__ import annotations

import platform as machine
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import typer

from embedcore.cli.context import Session, command
from embedcore.errors import EmbedcoreError, Unavailable

_REQUIRED = ("numpy", "scipy", "pydantic", "sqlalchemy", "grpcio", "protobuf", "typer", "rich")
_OPTIONAL = {
    "onnxruntime": "embedcore[onnx]",
    "tokenizers": "embedcore[onnx]",
    "pyarrow": "embedcore[parquet]",
    "matplotlib": "embedcore[demo]",
}
_LOW_DISK_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``warning`` limits what can be done, ``failed`` has to be mended."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    command(app, "doctor")(doctor)


def doctor(session: Session) -> None:
    """Check the installation, the models, the data directory and the server; exit code 1 on a failure."""
    checks: list[Check] = []
    for probe in (_python, _native, _packages, _models):
        checks += _guarded(probe)
    checks += _guarded(lambda: _directory(session))
    checks += _guarded(lambda: _reachable(session))
    rows = [(check.state, check.name, check.found, check.advice) for check in checks]
    session.out.table(("", "check", "found", "what to do"), rows, data=checks)
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(1)


def _guarded(probe: Callable[[], Iterator[Check]]) -> list[Check]:
    """A probe that breaks is a finding too; it does not stop the others."""
    found: list[Check] = []
    try:
        found.extend(probe())
    except Exception as error:  # whatever is broken here is what the doctor was called for
        name = getattr(probe, "__name__", "check").strip("_<>")
        found.append(Check(name, "failed", f"{type(error).__name__}: {error}", "run with --debug, report it"))
    return found


def _python() -> Iterator[Check]:
    ok = sys.version_info >= (3, 11)
    found = f"{machine.python_version()} on {machine.system()} {machine.machine()}"
    yield Check("python", "ok" if ok else "failed", found, "" if ok else "use Python 3.11 or newer")


def _native() -> Iterator[Check]:
    try:
        import embedcore

        info = embedcore.build_info()
    except ImportError as error:
        yield Check("native module", "failed", str(error), "pip install . (needs a C++20 compiler)")
        return
    shown = {k: " ".join(v) if isinstance(v, (list, tuple)) else v for k, v in info.items()}
    text = ", ".join(f"{key} {value}" for key, value in shown.items())
    yield Check("native module", "ok", text)


def _packages() -> Iterator[Check]:
    found, missing = [], []
    for name in _REQUIRED:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Check("packages", "ok", ", ".join(found))
    if missing:
        yield Check("packages", "failed", f"missing: {', '.join(missing)}", "pip install embedcore")
    for name, extra in _OPTIONAL.items():
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "warning", "not installed", f"pip install '{extra}' if you need it")


def _models() -> Iterator[Check]:
    from embedcore.encoders import ArtifactManifest, builtin_models
    from embedcore.encoders.artifacts import read_verified

    for name, spec in builtin_models().items():
        manifest = ArtifactManifest.model_validate(spec.options["manifest"])
        try:
            for file in (manifest.weights, manifest.vocabulary):
                read_verified(file)
        except Unavailable as error:
            yield Check(f"model {name}", "warning", "not installed", error.message)
        except EmbedcoreError as error:
            yield Check(f"model {name}", "failed", error.message, "reinstall its package")
        else:
            yield Check(f"model {name}", "ok", f"checksums match, {spec.fingerprint.digest}")


def _directory(session: Session) -> Iterator[Check]:
    from embedcore.store.ownership import read_owner

    directory = session.data_dir
    if not directory.exists():
        advice = "none is needed with --server; `embedcore serve --model NAME` creates it"
        yield Check("data directory", "warning", f"{directory} does not exist", advice)
        return
    free = shutil.disk_usage(directory).free
    low = free < _LOW_DISK_BYTES
    yield Check(
        "disk",
        "warning" if low else "ok",
        f"{free / (1 << 30):.1f} GiB free",
        "a migration doubles storage: make room" if low else "",
    )
    owner = read_owner(directory)
    if owner is None:
        yield Check("data directory", "ok", f"{directory}, owned by nobody")
    elif owner.address:
        yield Check("data directory", "ok", f"{directory}, served by process {owner.pid} on {owner.address}")
    else:
        advice = "wait until it has started, or end it"
        yield Check("data directory", "warning", f"{directory}, held by process {owner.pid}", advice)


def _reachable(session: Session) -> Iterator[Check]:
    from embedcore.store.ownership import read_owner

    owner = read_owner(session.data_dir)
    if not session.server and (owner is None or not owner.address):
        yield Check("server", "warning", "none is running here", "start one with `embedcore serve`")
        return
    try:
        with session.platform() as platform:
            status = platform.status()
    except EmbedcoreError as error:
        yield Check("server", "failed", error.message, "check the address, the token and the certificates")
        return
    scale = f", simulated time x {status.time_scale:g}" if status.simulated else ""
    found = f"version {status.version}, {status.live_items} items, {status.repair_queue} repairs{scale}"
    advice = "" if status.ready else "no generation yet: restart it with --model NAME"
    yield Check("server", "ok" if status.ready else "warning", found, advice)
