"""``embedcore serve``: one process owns a data directory and answers over gRPC until it is told to stop."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcore.background import favour_short_work
from embedcore.cli.context import Session, command
from embedcore.cli.models import builtin
from embedcore.cli.parse import size
from embedcore.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from embedcore.platform import Platform

_DRAIN_SECONDS = 10.0
_POLL_SECONDS = 0.1
_POLLS_PER_NOTE = 20


def register(app: typer.Typer) -> None:
    command(app, "serve", reaches=("data", "token_file"))(serve)


def serve(
    session: Session,
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT of unary calls; port 0: any free one.")
    ] = "127.0.0.1:7600",
    stream_listen: Annotated[
        str | None, typer.Option("--stream-listen", help="HOST:PORT of streams.  [default: the next port]")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Of the first generation, where there is none yet.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Create the data directory marked as simulated.")
    ] = False,
    time_scale: Annotated[
        float,
        typer.Option("--time-scale", min=0, help="Seconds per second; needs a simulated data directory."),
    ] = 1.0,
    shards: Annotated[
        int | None,
        typer.Option("--shards", min=1, help="A power of two, fixed when the directory is created."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="PEM certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM private key.")] = None,
    snapshot_interval: Annotated[
        float,
        typer.Option(
            "--snapshot-interval",
            min=0,
            help="Seconds between two snapshots of an index; 0: only at the end.",
        ),
    ] = 900.0,
    snapshots_kept: Annotated[
        int, typer.Option("--snapshots-kept", min=1, help="Of each index; older ones are removed.")
    ] = 2,
    durability: Annotated[
        str,
        typer.Option("--durability", help="When a write is acknowledged: fsync, or os (docs/durability.md)."),
    ] = "fsync",
    reserve_disk: Annotated[
        str, typer.Option("--reserve-disk", help="Writes are refused before less than this is free.")
    ] = "256MiB",
    reserve_memory: Annotated[str, typer.Option("--reserve-memory", help="The same for memory.")] = "256MiB",
    callable_targets: Annotated[
        bool, typer.Option("--callable-targets", help="Clients may register Python functions as models.")
    ] = False,
) -> None:
    """Serve a data directory until SIGTERM or Ctrl-C, then drain, save snapshots and end with 0."""
    from embedcore.platform import Platform
    from embedcore.server import Server, ServerConfig
    from embedcore.server.config import resolve
    from embedcore.serving.snapshots import SnapshotSettings
    from embedcore.store.dialect import DURABILITIES
    from embedcore.store.reserve import ReserveSettings

    if time_scale <= 0:
        raise InvalidArgument(f"--time-scale must be above 0, got {time_scale:g}")
    if shards is not None and shards & (shards - 1):
        raise InvalidArgument(f"--shards must be a power of two, got {shards}")
    if time_scale != 1 and not simulated and not session.data_dir.exists():
        raise FailedPrecondition(
            f"time scale {time_scale:g} needs a simulated data directory; {session.data_dir} does not"
            " exist: create it with --simulated"
        )
    if durability not in DURABILITIES:
        raise InvalidArgument(f"--durability must be one of {', '.join(DURABILITIES)}, got {durability!r}")
    reserve = ReserveSettings(
        disk=size(reserve_disk, "--reserve-disk"), memory=size(reserve_memory, "--reserve-memory")
    )
    config = ServerConfig(
        listen=listen,
        stream_listen=stream_listen or "",
        tls_certificate=tls_cert or "",
        tls_key=tls_key or "",
        token_file=session.token_file or "",
        callable_targets=callable_targets,
    )
    snapshots = SnapshotSettings(interval_s=snapshot_interval, kept=snapshots_kept)
    favour_short_work()
    resolve(config)  # what is wrong with it is said before a directory is created
    spec = None if model is None else builtin(model)
    # Signals are caught before anything is opened, so that a start can be interrupted cleanly too.
    with _stop_signals() as stop:
        platform = Platform.open(
            session.data_dir,
            simulated=True if simulated else None,
            time_scale=time_scale,
            shards=shards,
            snapshots=snapshots,
            wait=False,
            durability=durability,
            reserve=reserve,
        )
        if not isinstance(platform, Platform):
            platform.close()
            raise FailedPrecondition(
                f"data directory {session.data_dir} is already served by another process; stop it first"
            )
        with platform:
            if spec is not None and not platform.generations():
                platform.register_model(spec)
                platform.create_generation(spec.name)
            server = Server(platform, config, recovering=platform.serving.recovery.line)
            server.start()
            platform.publish_address(server.address, server.stream_address)
            try:
                _recover(session, platform, stop)
                if not stop.is_set():
                    _announce(session, platform, server.address, server.stream_address)
                stop.wait()
            except BaseException:
                server.stop(0.0)
                raise
            session.out.note("draining: no new calls; those in flight may finish")
            server.stop(_DRAIN_SECONDS)


def _recover(session: Session, platform: Platform, stop: threading.Event) -> None:
    """Waits; says how far it is every other second. What made it fail is raised."""
    for polls in itertools.count(1):
        if platform.wait_recovered(_POLL_SECONDS) or stop.is_set():
            return
        if polls % _POLLS_PER_NOTE == 0:
            session.out.note(f"recovering: {platform.serving.recovery.line()}")


def _announce(session: Session, platform: Platform, address: str, stream_address: str) -> None:
    generations = [g for g in platform.generations() if g.generation.live]
    status = platform.status()
    ready = {
        "address": address,
        "stream_address": stream_address,
        "data": str(session.data_dir),
        "generations": {g.generation.number: g.generation.model for g in generations},
        "items": status.live_items,
        "simulated": status.simulated,
        "time_scale": status.time_scale,
    }
    if session.out.as_json:
        session.out.document(ready, lines=True)
        return
    built = ", ".join(f"generation {g.generation.number} {g.generation.model}" for g in generations)
    scale = f", time x {status.time_scale:g} (simulated)" if status.simulated else ""
    line = (
        f"ready on {address} (streams {stream_address}), data {session.data_dir}, {status.live_items} items,"
        f" {built or 'no generation yet: restart with --model NAME'}{scale}"
    )
    print(line, flush=True)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Set by SIGTERM or SIGINT; a second signal kills at once, as the default handlers do."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: object) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
