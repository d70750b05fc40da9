"""The acts of the demo that go through the client: ingest, baseline, canary, a revert, the refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedcore.cli.output import one_line
from embedcore.client import Client
from embedcore.demo.oracle import OracleLog
from embedcore.demo.population import (
    Served,
    canary_users,
    click_probabilities,
    control_users,
    draw,
    draw_agreement,
)
from embedcore.demo.scenario import Faulty
from embedcore.demo.workload import Workload
from embedcore.errors import FailedPrecondition, GateNotMet
from embedcore.evaluation.golden import GoldenQuery
from embedcore.types import Consumer, Item, SearchRequest, SequenceToken

WHO = "demo"
_BATCH = 128
_STREAMS = 2
_SEARCHES = 50
_DEADLINE_S = 60.0
_KEYS_TRIED = 2_000
# Distinct queries that the simulated users of a consumer draw from.
_POPULATION = 2_000
_REPORTS = 5

Progress = Callable[[int], None]


def ingest(client: Client, items: Sequence[Item], log: OracleLog, progress: Progress) -> float:
    """Writes the items over two streams (an encoder call runs on one core); returns items per second. Each
    acknowledgement goes to the log. When this returns, a search finds them all."""
    began = time.monotonic()
    lock = threading.Lock()
    done = 0
    tokens: list[SequenceToken] = []

    def stream(part: Sequence[Item]) -> None:
        nonlocal done
        batches = [part[start : start + _BATCH] for start in range(0, len(part), _BATCH)]
        for batch, receipt in zip(batches, client.ingest(batches), strict=True):
            for item, version in zip(batch, receipt.versions, strict=True):
                log.upserted(item.id, version, item.content or "")
            with lock:
                done += len(batch)
                tokens.append(receipt.token)
                progress(done)

    with ThreadPoolExecutor(_STREAMS) as pool:
        list(pool.map(stream, [items[number::_STREAMS] for number in range(_STREAMS)]))
    newest = {shard: max(t.get(shard, 0) for t in tokens) for token in tokens for shard in token}
    consumer = client.consumers()[0]
    client.search(consumer.name, items[-1].content, min_sequence=newest, timeout=_DEADLINE_S)
    return len(items) / (time.monotonic() - began)


def baseline(client: Client, workload: Workload) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Imports the golden sets and evaluates the source. Where the model in service misses a consumer's
    target (ads' 0.90 always; others on a large corpus), what it measures becomes the target: the demo
    replaces a model, it does not hold one to promises that nobody kept.

    Returns the evaluations and the targets that were changed.
    """
    for golden in workload.golden.values():
        client.import_golden_set(golden)
    with ThreadPoolExecutor(_STREAMS) as pool:
        evaluations = dict(zip(workload.golden, pool.map(client.evaluate, workload.golden), strict=True))
    changed = {}
    for consumer in client.consumers():
        found = evaluations.get(consumer.name)
        if found is None or found["metric"] is None or found["metric"] >= consumer.quality_target:
            continue
        measured = float(np.floor(found["metric"] * 100) / 100)
        client.set_consumer(consumer.model_copy(update={"quality_target": measured}))
        changed[consumer.name] = measured
    return evaluations, changed


def warm(client: Client, model: str, workload: Workload, progress: Progress) -> None:
    """Encodes the golden queries with the target ahead of time: a job for the days before the migration,
    whose simulated week is too short for it. The server keeps the vectors."""
    texts = [query.text for golden in workload.golden.values() for query in golden.queries]
    parts = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    with ThreadPoolExecutor(_STREAMS) as pool:
        for done, _ in enumerate(pool.map(lambda part: client.embed(model, part), parts), start=1):
            progress(min(len(texts), done * _BATCH))


def served(client: Client, consumer: Consumer, queries: Sequence[GoldenQuery], user_key: str) -> Served:
    """Asks every query once as one user; what the consumer's own list would show: excluded ids removed.

    FailedPrecondition when the answers were not all of one arm.
    """

    def ask(start: int) -> list[tuple[str, list[str]]]:
        part = queries[start : start + _SEARCHES]
        requests = [
            SearchRequest(
                consumer=consumer.name,
                text=query.text,
                k=consumer.k + len(query.exclude),
                user_key=user_key,
                deadline_s=_DEADLINE_S,
            )
            for query in part
        ]
        return [
            (
                answer.provenance.arm,
                [hit.id for hit in answer.hits if hit.id not in query.exclude][: consumer.k],
            )
            for query, answer in zip(part, client.search_batch(requests), strict=True)
        ]

    with ThreadPoolExecutor(_STREAMS) as pool:
        found = [one for part in pool.map(ask, range(0, len(queries), _SEARCHES)) for one in part]
    arms = {arm for arm, _ in found}
    if len(arms) != 1:
        raise FailedPrecondition(f"{consumer.name}: answers came from the arms {sorted(arms)}, expected one")
    return Served(arms.pop(), [ids for _, ids in found])


def canary_key(client: Client, consumer: Consumer, query: GoldenQuery, seed: int) -> str:
    """The key of a user whom the server answers from the canary."""
    for number in range(_KEYS_TRIED):
        key = f"population-{seed}-{number}"
        answer = client.search(consumer.name, query.text, user_key=key, timeout=_DEADLINE_S)
        if answer.provenance.arm == "canary":
            return key
    raise FailedPrecondition(f"{consumer.name}: none of {_KEYS_TRIED} user keys is in the canary")


@dataclass
class Canary:
    """The simulated users of one demo. ``control``: answers of the source alone, asked for before blending:
    during it, everybody who is not in the canary is served a blend of both models. ``touched`` names the
    items that live writes have changed since: queries for those are left out of both arms."""

    client: Client
    workload: Workload
    consumers: Mapping[str, Consumer]
    share: float
    seed: int
    touched: Callable[[], set[str]]
    control: dict[str, Served] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)  # consumer -> reports acknowledged

    def queries(self, name: str) -> Sequence[GoldenQuery]:
        """The query population of a consumer: the same for both arms."""
        golden = self.workload.golden[name].queries
        rng = np.random.default_rng([self.seed, 5, sorted(self.workload.golden).index(name)])
        return [golden[int(row)] for row in rng.permutation(len(golden))[:_POPULATION]]

    def ask_control(self, progress: Progress) -> None:
        for done, name in enumerate(self.workload.golden, start=1):
            self.control[name] = served(self.client, self.consumers[name], self.queries(name), "")
            progress(done)

    def report(self, name: str) -> None:
        """Asks as a canary user, draws both arms' users, and reports their totals in a few batches."""
        consumer, queries = self.consumers[name], self.queries(name)
        key = canary_key(self.client, consumer, queries[0], self.seed)
        canary = served(self.client, consumer, queries, key)
        touched = self.touched()
        kept = [n for n, query in enumerate(queries) if touched.isdisjoint(query.relevant)]
        labels = [queries[n].relevant for n in kept]
        arms = {
            arm: [one.answers[n] for n in kept]
            for arm, one in (("control", self.control[name]), ("canary", canary))
        }
        users = canary_users(consumer)
        rng = np.random.default_rng([self.seed, 4, sorted(self.consumers).index(name)])
        batches = [
            report
            for _ in range(_REPORTS)
            for report in self._batch(consumer, labels, arms, users // _REPORTS, rng)
        ]
        # Tried again after an interruption, this goes on where it was: totals are added up over there.
        for number, (arm, totals) in enumerate(batches):
            if number == self.sent.get(name, 0):
                self.client.report_engagement(name, arm, totals, simulated=True)
                self.sent[name] = number + 1
        self.told[name] = {
            "queries": len(kept),
            "canary_users": users,
            "verdict": self.client.compare_engagement(name),
        }

    def _batch(
        self,
        consumer: Consumer,
        labels: Sequence[Mapping[str, float]],
        arms: Mapping[str, Sequence[Sequence[str]]],
        users: int,
        rng: np.random.Generator,
    ) -> Iterator[tuple[str, dict[str, float]]]:
        if consumer.engagement == "agreement":
            yield "canary", draw_agreement(arms["control"], arms["canary"], users, rng)
            return
        counts = {"control": control_users(users, self.share), "canary": users}
        for arm, answers in arms.items():
            yield arm, draw(click_probabilities(answers, labels, consumer.k), counts[arm], rng)


def revert_and_back(client: Client, consumer: str, query: GoldenQuery, weight: float) -> dict[str, float]:
    """Puts one consumer back on the source, and again forward. Milliseconds from the call until an answer
    came from the source alone, and of the call itself."""
    began = time.monotonic()
    client.revert_consumer("", consumer, who=WHO, why="how fast is a revert?")
    called = time.monotonic()
    while client.search(consumer, query.text, timeout=_DEADLINE_S).provenance.weight > 0:
        if time.monotonic() - began > _DEADLINE_S:
            raise FailedPrecondition(f"{consumer} is still blended a minute after its revert")
    ended = time.monotonic()
    client.set_weight("", consumer, weight, who=WHO, why="put back after the revert")
    return {"call_ms": (called - began) * 1e3, "effective_ms": (ended - began) * 1e3}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What happened to a faulty model. ``gates``: the evidence of the refusal."""

    model: str
    fault: str
    must: bool
    refused: bool
    message: str
    gates: tuple[dict[str, Any], ...]
    seconds: float

    @property
    def losing(self) -> list[str]:
        """Summaries of the gates that were not met."""
        return [one_line(str(gate.get("summary", ""))) for gate in self.gates if not gate.get("passed")]

    @property
    def told(self) -> str:
        """One line."""
        if not self.refused:
            return f"{self.model} ({self.fault}): NOT refused: {self.message}"
        names = [str(gate.get("gate", "")) for gate in self.gates if not gate.get("passed")]
        return f"{self.model} ({self.fault}): refused by {', '.join(names)}"


def try_faulty(client: Client, faulty: Faulty) -> Refusal:
    """Starts a migration to a faulty model. One that no gate stops is aborted again, and told as such."""
    client.register_model(faulty.spec)
    began = time.monotonic()
    refused, message, gates = True, "", ()
    try:
        status = client.start_migration(faulty.spec.name, who=WHO, why=f"a faulty push: {faulty.fault}")
    except GateNotMet as error:
        message = error.message
        gates = tuple(error.details.get("evidence", ()))
    else:
        refused, message = False, "the pre-flight let it pass: no consumer loses on the sample"
        client.abort_migration(status.migration.id, who=WHO, why="only tried")
    seconds = time.monotonic() - began
    return Refusal(faulty.spec.name, faulty.fault, faulty.must, refused, message, gates, seconds)
