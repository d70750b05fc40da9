"""The query path of one process: check, encode, one native call, names."""

from __future__ import annotations

import time
from collections.abc import Sequence

from embedcore import _native
from embedcore.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from embedcore.evaluation.query_log import QueryLog
from embedcore.hashing import item_hash
from embedcore.serving.encoding import QueryEncoder
from embedcore.serving.serving import Serving
from embedcore.serving.shadow import ShadowRunner
from embedcore.store.interface import Store
from embedcore.types import Hit, Provenance, SearchAnswer, SearchRequest, Vector

# A route may change between encoding and searching; then the native call names the vector it lacks.
_MAX_ROUTE_CHANGES = 8
# Without a deadline of its own a search still ends: waiting for a lane must not hold a worker for ever.
_DEFAULT_DEADLINE_S = 30.0
_MAX_K = 10_000


class QueryService:
    """Thread-safe. The native call runs without the GIL and without a lock."""

    def __init__(
        self,
        store: Store,
        serving: Serving,
        encoder: QueryEncoder,
        shadow: ShadowRunner | None,
        query_log: QueryLog | None = None,
    ) -> None:
        self._store = store
        self._serving = serving
        self._encoder = encoder
        self._shadow = shadow
        self._query_log = query_log

    def search(self, request: SearchRequest) -> SearchAnswer:
        started = time.perf_counter()
        slot, k = self._admit(request)
        seconds = _DEFAULT_DEADLINE_S if request.deadline_s is None else request.deadline_s
        deadline = started + seconds
        allowed = self._store.matching(request.namespace, request.filter)
        user_hash = item_hash(request.user_key) if request.user_key else 0
        router = self._serving.router
        vectors: dict[int, Vector] = {}
        waited: set[int] = set()
        needed: Sequence[int] = router.plan(slot, user_hash).generations
        for _ in range(_MAX_ROUTE_CHANGES):
            for generation in needed:
                if generation not in vectors:
                    vectors[generation] = self._encoder.vector_for(request, generation)
            if request.min_sequence:
                self._wait(request, [g for g in needed if g not in waited], deadline)
                waited.update(needed)
            answer = router.search(
                slot,
                vectors,
                k,
                deadline_s=max(1e-9, deadline - time.perf_counter()),
                user_hash=user_hash,
                filter_ids=allowed,
            )
            if answer.missing_generation < 0:
                break
            needed = [answer.missing_generation]
        else:
            raise Unavailable("the route changed faster than the query could be encoded; try again")
        hits, dense = self._hits(answer)
        if self._shadow is not None and answer.weight < 1.0:
            # A blended answer is not the source's: the shadow then asks the source again by itself.
            self._shadow.offer(request, k, answer.generations[0], dense if answer.weight == 0.0 else ())
        self._note(request)
        provenance = self._provenance(answer)
        return SearchAnswer(hits, provenance, (time.perf_counter() - started) * 1e3)

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """Answers in order. The texts are encoded together; the first failure fails the batch."""
        for request in requests:
            self._admit(request)
        by_generation: dict[int, list[SearchRequest]] = {}
        for request in requests:
            for generation in self._serving.routes[request.consumer].generations:
                by_generation.setdefault(generation, []).append(request)
        for generation, group in by_generation.items():
            self._encoder.warm(group, generation)
        return [self.search(request) for request in requests]

    def _admit(self, request: SearchRequest) -> tuple[int, int]:
        serving = self._serving
        consumer = serving.consumers.get(request.consumer)
        if consumer is None:
            known = ", ".join(sorted(serving.consumers)) or "none"
            raise NotFound(f"unknown consumer {request.consumer!r}; known: {known}")
        slot = serving.slots.get(request.consumer)
        if slot is None or not serving.routes:
            if line := serving.recovery.line():
                raise Unavailable(f"recovering ({line}); try again")
            raise Unavailable("no generation serves yet: create one with `embedcore serve --model NAME`")
        k = consumer.k if request.k is None else request.k
        if not 1 <= k <= _MAX_K:
            raise InvalidArgument(f"k must be between 1 and {_MAX_K}, got {k}")
        if request.deadline_s is not None and request.deadline_s <= 0:
            raise DeadlineExceeded("the deadline had passed before the search began")
        self._encoder.check(request)
        return slot, k

    def _note(self, request: SearchRequest) -> None:
        """For the query log of a consumer that opted in: the text, and nothing of who asked."""
        consumer = self._serving.consumers.get(request.consumer)
        plain = request.text and not request.namespace and not request.filter
        if self._query_log is not None and consumer is not None and consumer.query_log and plain:
            self._query_log.offer(request.consumer, request.text or "")

    def _wait(self, request: SearchRequest, generations: list[int], deadline: float) -> None:
        left = deadline - time.perf_counter()
        if not self._serving.lanes.wait(request.min_sequence, generations, max(0.0, left)):
            raise DeadlineExceeded(
                f"generations {generations} had not applied {dict(request.min_sequence)} "
                f"within the deadline; retry, or search without min_sequence"
            )

    def _hits(self, answer: _native.Answer) -> tuple[list[Hit], list[int]]:
        dense = answer.ids.tolist()
        names = self._store.names(dense)
        # Cosine and inner product distances are 1 - similarity; squared L2 is only negated.
        metric = self._serving.generations[answer.generations[-1]].fingerprint.metric
        top = 0.0 if metric == "l2" else 1.0
        # Without a name an item is gone for good: it was deleted while this search was under way.
        found = [
            (item, Hit(name[0], top - distance, name[1]))
            for item, name, distance in zip(dense, names, answer.distances.tolist(), strict=True)
            if name is not None
        ]
        return [hit for _, hit in found], [item for item, _ in found]

    def _provenance(self, answer: _native.Answer) -> Provenance:
        served = [self._serving.generations[g] for g in answer.generations]
        return Provenance(
            generations=answer.generations,
            models=tuple(g.model for g in served),
            fingerprints=tuple(g.fingerprint.digest for g in served),
            weight=answer.weight,
            arm="canary" if answer.arm else "control",
            table_version=answer.table_version,
            shards_asked=answer.shards_asked,
            shards_answered=answer.shards_answered,
            partial=answer.partial,
        )
