"""The traffic process: queries of every consumer, new items, updates and deletes, over gRPC.

Runs as ``python -m embedcore.demo.traffic DIRECTORY --address HOST:PORT ...`` until its standard input is
closed. Nothing is retried here but writes, which are sent again until they are acknowledged; what gRPC
retries by itself within a query's deadline is part of that query's latency.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from embedcore.client import AsyncClient, Client
from embedcore.demo import workload as workloads
from embedcore.demo.oracle import OracleLog
from embedcore.demo.workload import Workload
from embedcore.errors import EmbedcoreError, NotFound
from embedcore.evaluation.golden import GoldenQuery
from embedcore.types import Item, SearchAnswer

QUERIES_FILE: Final = "queries.jsonl"
ORACLE_FILE: Final = "oracle-traffic.jsonl"
QUERY_DEADLINE_S: Final = 10.0
USERS: Final = 5_000
_POLL_S: Final = 0.5
_RETRY_S: Final = 0.2
# Before a migration exists, and after the last.
NO_MIGRATION: Final = "before"


class Phase:
    """The phase of the latest migration, polled twice a second. Read by all threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.now = NO_MIGRATION

    def poll(self, stop: threading.Event) -> None:
        while not stop.wait(_POLL_S):
            try:
                self.now = self._client.migration().migration.phase.value
            except NotFound:
                self.now = NO_MIGRATION
            except EmbedcoreError:
                continue  # the server is down: the phase it had is what is known


class Queries:
    """Sends golden queries at a rate over all consumers, and writes a line for each. An open loop: a query
    is sent when it is due, whether or not those before it have been answered."""

    def __init__(
        self,
        workload: Workload,
        phase: Phase,
        deleted: Callable[[str], bool],
        k: Mapping[str, int],
        *,
        rate: float,
        fresh: float,
        seed: int,
        out: IO[str],
    ) -> None:
        self._golden = [(name, golden.queries) for name, golden in sorted(workload.golden.items())]
        self._k = k
        self._phase = phase
        self._deleted = deleted
        self._gap = 1.0 / rate
        self._fresh = fresh
        self._random = np.random.default_rng([seed, 2])
        self._out = out

    async def run(self, client: AsyncClient, stop: threading.Event) -> None:
        """Returns when it was told to stop and every query in flight has ended."""
        loop = asyncio.get_running_loop()
        flying: set[asyncio.Task[None]] = set()
        due = loop.time()
        while not stop.is_set():
            due += float(self._random.exponential(self._gap))
            await asyncio.sleep(max(0.0, due - loop.time()))
            consumer, queries = self._golden[int(self._random.integers(len(self._golden)))]
            query = queries[int(self._random.integers(len(queries)))]
            user = f"user-{int(self._random.integers(USERS))}"
            text = self._respelled(query.text) if self._random.random() < self._fresh else query.text
            task = loop.create_task(self._send(client, consumer, query, text, user, due))
            flying.add(task)
            task.add_done_callback(flying.discard)
        await asyncio.gather(*flying)

    def _respelled(self, text: str) -> str:
        """Random capitals: to a model that lowers them the same text, to a cache a new one."""
        capital = self._random.random(len(text)) < 0.5
        return "".join(c.upper() if up else c for c, up in zip(text.lower(), capital, strict=False))

    async def _send(
        self,
        client: AsyncClient,
        consumer: str,
        query: GoldenQuery,
        text: str,
        user: str,
        due: float,
    ) -> None:
        k = self._k[consumer]
        clock = asyncio.get_running_loop().time
        record: dict[str, Any] = {"at": time.time(), "consumer": consumer, "phase": self._phase.now}
        started = clock()
        try:
            answer = await client.search(
                consumer,
                text,
                k=k + len(query.exclude),
                user_key=user,
                timeout=QUERY_DEADLINE_S,
            )
        except EmbedcoreError as error:
            record["failed"] = f"{error.code}: {error.message}"
        except Exception as error:  # an answer that cannot be read is a failed query, never a lost record
            record["failed"] = f"{type(error).__name__}: {error}"
        else:
            record |= self._judge(answer, query, k)
        record |= {"ms": round((clock() - started) * 1e3, 3), "late_ms": round((started - due) * 1e3, 3)}
        self._out.write(json.dumps(record) + "\n")

    def _judge(self, answer: SearchAnswer, query: GoldenQuery, k: int) -> dict[str, Any]:
        """What a consumer counts as a failure, and recall against the labels that are still there."""
        made = answer.provenance
        record: dict[str, Any] = {
            "weight": made.weight,
            "arm": made.arm,
            "server_ms": round(answer.took_ms, 3),
        }
        if made.partial:
            record["failed"] = "partial answer"
        elif not answer.hits:
            record["failed"] = "empty answer"
        relevant = {i for i, grade in query.relevant.items() if grade > 0 and not self._deleted(i)}
        found = [hit.id for hit in answer.hits if hit.id not in query.exclude][:k]
        record["num"] = len(relevant.intersection(found))
        record["den"] = min(k, len(relevant))
        return record


class Writes:
    """New items, updates and deletes, one at a time, each repeated until it is acknowledged."""

    def __init__(self, client: Client, workload: Workload, log: OracleLog, *, rate: float, seed: int) -> None:
        self._client = client
        self._log = log
        self._gap = 1.0 / rate
        self._random = np.random.default_rng([seed, 3])
        self._new = list(workload.held_back)
        self._live = [item.id for item in workload.items]
        self._items = {item.id: item for item in workload.items}
        self._gone: set[str] = set()
        self._revision = 0

    def deleted(self, item_id: str) -> bool:
        """Whether the item was deleted here. Read by other threads; a set lookup is atomic."""
        return item_id in self._gone

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(float(self._random.exponential(self._gap))):
            draw = self._random.random()
            if draw < 0.5 and self._new:
                self._upsert(self._new.pop(), stop)
            elif draw < 0.85 or len(self._live) < 10:
                self._update(stop)
            else:
                self._delete(stop)

    def _update(self, stop: threading.Event) -> None:
        item_id = self._live[int(self._random.integers(len(self._live)))]
        self._revision += 1
        # A change that keeps the meaning, so that the labels stay true.
        item = self._items[item_id]
        content = f"{(item.content or '').split(' (revision', 1)[0]} (revision {self._revision})"
        self._upsert(replace(item, content=content, created_at=None), stop)

    def _upsert(self, item: Item, stop: threading.Event) -> None:
        content = item.content or ""
        receipt = _until_acknowledged(lambda: self._client.upsert([item]), stop)
        if receipt is None:
            self._log.in_doubt(item.id, content)
            return
        self._log.upserted(item.id, receipt.versions[0], content)
        if item.id not in self._items:
            self._live.append(item.id)
        self._items[item.id] = item

    def _delete(self, stop: threading.Event) -> None:
        position = int(self._random.integers(len(self._live)))
        self._live[position], self._live[-1] = self._live[-1], self._live[position]
        item_id = self._live.pop()
        self._gone.add(item_id)
        receipt = _until_acknowledged(lambda: self._client.delete([item_id]), stop)
        if receipt is None:
            self._log.in_doubt(item_id, None)
        else:
            self._log.deleted(item_id, receipt.versions[0])


def _until_acknowledged(write: Callable[[], Any], stop: threading.Event) -> Any:
    """The receipt; None when the process was told to stop while no acknowledgement came. Each repetition
    writes the same state, so one that had happened unseen does no harm."""
    while True:
        try:
            return write()
        except EmbedcoreError as error:
            print(f"write not acknowledged, sent again: {error.message}", file=sys.stderr)
        if stop.wait(_RETRY_S):
            return None


async def _query(options: argparse.Namespace, queries: Queries, stop: threading.Event) -> None:
    async with AsyncClient(
        options.address, stream_address=options.stream_address, wait_for_ready=True
    ) as client:
        await client.wait_until_ready(30)
        print("ready", flush=True)
        await queries.run(client, stop)


def run(options: argparse.Namespace, stop: threading.Event) -> None:
    """Sends traffic until ``stop`` is set."""
    workload = workloads.load(options.directory)
    with (
        Client(
            options.address,
            stream_address=options.stream_address,
            wait_for_ready=True,
            timeout=QUERY_DEADLINE_S,
        ) as client,
        OracleLog(options.directory / ORACLE_FILE) as log,
        (options.directory / QUERIES_FILE).open("w", encoding="utf-8") as out,
    ):
        phase = Phase(client)
        writes = Writes(client, workload, log, rate=options.write_rate, seed=options.seed)
        k = {consumer.name: consumer.k for consumer in client.consumers()}
        queries = Queries(
            workload,
            phase,
            writes.deleted,
            k,
            rate=options.rate,
            fresh=options.fresh,
            seed=options.seed,
            out=out,
        )
        threads = [
            threading.Thread(target=phase.poll, args=(stop,), name="phase"),
            threading.Thread(target=writes.run, args=(stop,), name="write"),
        ]
        for thread in threads:
            thread.start()
        try:
            asyncio.run(_query(options, queries, stop))
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="holds the workload, receives the records")
    parser.add_argument("--address", required=True)
    parser.add_argument("--stream-address", required=True)
    parser.add_argument("--rate", type=float, default=50.0, help="queries per second")
    parser.add_argument("--write-rate", type=float, default=4.0, help="writes per second")
    parser.add_argument("--fresh", type=float, default=0.0, help="share spelled as no cache knows it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stop = threading.Event()

    def watch_input() -> None:
        # Closed by the demo, or by the kernel when the demo has died.
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch_input, daemon=True).start()
    run(options, stop)


if __name__ == "__main__":
    main()
