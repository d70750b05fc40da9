"""The demo from its first item to its report: real processes on loopback, one act after the other."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embedcore.cli.output import plain
from embedcore.client import Client
from embedcore.demo import workload as workloads
from embedcore.demo.acts import WHO, Canary, Refusal, baseline, ingest, try_faulty, warm
from embedcore.demo.follow import Acts, Watch, follow
from embedcore.demo.narrator import Narrator
from embedcore.demo.oracle import OracleLog, Verdict, compare, read_expected, touched
from embedcore.demo.outcome import Outcome
from embedcore.demo.pace import FASTEST, Pace
from embedcore.demo.processes import ServerProcess, TrafficProcess, child_environment
from embedcore.demo.report import write_report
from embedcore.demo.scenario import (
    DemoOptions,
    Scenario,
    at_scale,
    backfill_seconds,
    encode_rate,
    wordnet_scenario,
)
from embedcore.demo.summary import read_queries
from embedcore.demo.traffic import ORACLE_FILE, QUERIES_FILE
from embedcore.demo.workload import Workload
from embedcore.errors import EmbedcoreError, FailedPrecondition

__all__ = ["DemoOptions", "Outcome", "run_demo"]

_INGEST_FILE = "oracle-ingest.jsonl"
_SETTLE_S = 60.0


def run_demo(options: DemoOptions, *, scenario: Scenario | None = None, quiet: bool = False) -> Outcome:
    """Plays the demo and writes its report. The outcome says whether everything that must hold held; an
    act that could not be played raises its error, and the directory is then kept for a look."""
    narrator = Narrator(quiet=quiet)
    directory = _directory(options.keep)
    try:
        with _terminable():
            outcome = _play(options, scenario or wordnet_scenario(options), directory, narrator)
    except BaseException:
        narrator.step(f"stopped early; data and logs are in {directory}")
        raise
    outcome.report = write_report(outcome, options.report)
    if options.keep is None and outcome.passed:
        shutil.rmtree(directory)
    else:
        narrator.step(f"data, logs and records are in {directory}")
    if not quiet:
        outcome.show()
    return outcome


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that its server and its traffic end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="embedcore-demo-"))
    if keep.exists() and any(keep.iterdir()):
        raise FailedPrecondition(f"--keep {keep}: the directory is not empty; name a new one")
    keep.mkdir(parents=True, exist_ok=True)
    return keep


def _play(options: DemoOptions, scenario: Scenario, directory: Path, narrator: Narrator) -> Outcome:
    began = time.monotonic()
    workload = scenario.workload(time.time())
    workloads.save(workload, directory)
    narrator.step(
        f"{workload.told}: {len(workload.items)} items to ingest, {len(workload.held_back)} to arrive live"
    )
    rate = encode_rate(scenario.new, [item.content or "" for item in workload.items[:500]])
    narrator.step(f"{scenario.new.name} encodes {rate:.0f} items/s on one thread")
    outcome = Outcome(
        options=options,
        told=workload.told,
        items=len(workload.items),
        source=scenario.old.name,
        target=scenario.new.name,
    )
    environment = child_environment()
    with ExitStack() as stack:
        server = ServerProcess(directory / "data", directory / "server.log", environment=environment)
        stack.callback(server.stop)
        server.start()
        client = stack.enter_context(
            Client(server.address, stream_address=server.stream_address, wait_for_ready=True, timeout=60.0)
        )
        canary = _prepare(client, scenario, workload, directory, narrator, outcome, options)
        traffic = TrafficProcess(
            directory,
            server,
            rate=options.rate,
            write_rate=options.write_rate,
            fresh=options.fresh,
            seed=options.seed,
            environment=environment,
        )
        stack.callback(traffic.stop)
        narrator.step(
            f"traffic of four consumers at {options.rate:g} queries/s, {options.write_rate:g} writes/s"
        )
        time.sleep(options.before_seconds)
        acts = Acts(client, server, canary, workload, options.kill, narrator.step)
        pace = Pace(client, server, options.time_scale, backfill_seconds(len(workload.items), rate))
        _migrate(client, scenario, acts, pace, traffic, directory, narrator, outcome, options)
        time.sleep(options.before_seconds)
        if traffic.stop() != 0:
            raise FailedPrecondition("the traffic process failed; see traffic.log")
        outcome.records = read_queries(directory / QUERIES_FILE, server.outages)
        outcome.outages = list(server.outages)
        outcome.after = {name: client.evaluate(name) for name in workload.golden}
        outcome.verdict = _judge(client, directory, outcome.status.migration.target, narrator)
        if options.refusals:
            outcome.refusals = [
                _refuse(client, scenario, position, narrator) for position in range(len(scenario.faulty))
            ]
        outcome.exit_code = server.stop()
    outcome.seconds = time.monotonic() - began
    return outcome


def _prepare(
    client: Client,
    scenario: Scenario,
    workload: Workload,
    directory: Path,
    narrator: Narrator,
    outcome: Outcome,
    options: DemoOptions,
) -> Canary:
    """The platform as it was before the day the model changes."""
    client.register_model(scenario.old)
    client.register_model(scenario.new)
    client.create_generation(scenario.old.name)
    with (
        OracleLog(directory / _INGEST_FILE) as log,
        narrator.progress(f"ingesting with {scenario.old.name}", len(workload.items)) as progress,
    ):
        speed = ingest(client, workload.items, log, progress)
    narrator.step(f"{len(workload.items)} items ingested under {scenario.old.name}, {speed:.0f} items/s")
    outcome.before, outcome.targets = baseline(client, workload)
    told = ", ".join(f"{name} {found['metric']:.3f}" for name, found in outcome.before.items())
    narrator.step(f"golden sets imported; on {scenario.old.name}: {told}")
    for name, target in outcome.targets.items():
        narrator.step(f"{name}: quality target set to the measured {target:.2f}, below the registry's")
    consumers = {consumer.name: consumer for consumer in client.consumers()}
    canary = Canary(
        client,
        workload,
        consumers,
        options.plan.canary_share,
        options.seed,
        lambda: touched(directory / ORACLE_FILE),
    )
    with narrator.progress("asking the golden queries", len(workload.golden)) as progress:
        canary.ask_control(progress)
    total = sum(len(golden.queries) for golden in workload.golden.values())
    with narrator.progress(f"encoding the golden queries with {scenario.new.name}", total) as progress:
        warm(client, scenario.new.name, workload, progress)
    narrator.step(f"{total} golden queries encoded by {scenario.new.name} ahead of the migration")
    return canary


def _migrate(
    client: Client,
    scenario: Scenario,
    acts: Acts,
    pace: Pace,
    traffic: TrafficProcess,
    directory: Path,
    narrator: Narrator,
    outcome: Outcome,
    options: DemoOptions,
) -> None:
    plan = at_scale(options.plan, options.time_scale or FASTEST)
    narrator.step(f"migrate start {scenario.new.name}: pre-flight")
    began = time.time()
    status = client.start_migration(
        scenario.new.name, plan, who=WHO, why="the day the embedding model changes"
    )
    narrator.step(f"pre-flight passed in {time.time() - began:.0f} s; {status.migration.id} writes to both")
    outcome.preflight_seconds = time.time() - began
    watch = Watch(client)
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="watch")
    thread.start()
    try:
        with narrator.migration() as show:
            follow(watch, acts, pace, traffic, show, options.last_day)
    except FailedPrecondition:
        _keep_events(client, directory)
        raise
    finally:
        stop.set()
        outcome.samples, outcome.scales = list(watch.samples), pace.scales
    thread.join()
    assert watch.status is not None
    outcome.status = watch.status
    outcome.events = client.migration_events(watch.status.migration.id)
    outcome.revert, outcome.canary = acts.revert, acts.canary.told
    outcome.errors = acts.errors
    narrator.step(f"the migration ended: {watch.status.migration.phase.value}")


def _keep_events(client: Client, directory: Path) -> None:
    """The record of a migration that did not end, for a look."""
    with contextlib.suppress(EmbedcoreError, OSError):
        events = json.dumps(plain(client.migration_events()), indent=1)
        (directory / "events.json").write_text(events, encoding="utf-8")


def _judge(client: Client, directory: Path, generation: int, narrator: Narrator) -> Verdict:
    """Every acknowledged write against the database, once the repair queue is empty."""
    deadline = time.monotonic() + _SETTLE_S
    while client.status().repair_queue and time.monotonic() < deadline:
        time.sleep(0.2)
    expected, acknowledged = read_expected([directory / _INGEST_FILE, directory / ORACLE_FILE])
    verdict = compare(expected, acknowledged, client.get_item, generation)
    narrator.step(
        f"oracle: {verdict.acknowledged} acknowledged writes, {verdict.items} items compared,"
        f" {len(verdict.losses)} lost"
    )
    return verdict


def _refuse(client: Client, scenario: Scenario, position: int, narrator: Narrator) -> Refusal:
    faulty = scenario.faulty[position]
    narrator.step(f"migrate start {faulty.spec.name}: {faulty.fault}")
    try:
        refusal = try_faulty(client, faulty)
    except EmbedcoreError as error:
        # Stopped, though by something else than a gate: shown as what it is.
        return Refusal(faulty.spec.name, faulty.fault, faulty.must, False, error.message, (), 0.0)
    narrator.step(refusal.told)
    for line in refusal.losing:
        narrator.step(f"  {line}")
    return refusal
