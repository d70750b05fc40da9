"""The vector of a query in the space of a generation: given by the caller, or encoded from its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from embedcore.errors import InvalidArgument
from embedcore.serving.serving import Serving
from embedcore.types import Fingerprint, SearchRequest, Vector, Vectors

MAX_TEXT_BYTES = 1 << 20


class Encoders(Protocol):
    """The part of the encoder registry that queries need."""

    def encode_queries(self, model: str, texts: Sequence[str]) -> Vectors: ...


def check_vector(vector: Vector, fingerprint: Fingerprint, whose: str) -> Vector:
    """float32 (dim,), finite and not zero under cosine, or InvalidArgument."""
    row = np.ascontiguousarray(vector, dtype=np.float32)
    if row.shape != (fingerprint.dimension,):
        raise InvalidArgument(
            f"{whose}: expected a vector of shape ({fingerprint.dimension},) for {fingerprint.model}, "
            f"got {row.shape}"
        )
    if not np.isfinite(row).all():
        raise InvalidArgument(f"{whose}: the vector holds NaN or infinity; send finite values")
    if fingerprint.metric == "cosine" and not row.any():
        raise InvalidArgument(f"{whose}: a zero vector has no direction under the cosine metric")
    return row


class QueryEncoder:
    """Thread-safe. Texts are encoded through the registry, whose cache makes repeats cheap."""

    def __init__(self, serving: Serving, encoders: Encoders) -> None:
        self._serving = serving
        self._encoders = encoders

    def check(self, request: SearchRequest) -> None:
        """Refuses a query before any work: empty or oversized text, vectors of spaces not served here."""
        if request.text is None and not request.vectors:
            raise InvalidArgument("a search needs text, or a vector with its fingerprint")
        if request.text is not None:
            if not request.text.strip() and not request.vectors:
                raise InvalidArgument("the query text is empty; send text, or a vector with its fingerprint")
            size = len(request.text.encode("utf-8", "surrogatepass"))
            if size > MAX_TEXT_BYTES:
                raise InvalidArgument(f"the query text has {size} bytes; the limit is {MAX_TEXT_BYTES}")
        if request.vectors:
            self._check_vectors(request.vectors)

    def _check_vectors(self, vectors: Mapping[str, Vector]) -> None:
        known = {g.fingerprint.digest: g.fingerprint for g in self._serving.generations.values() if g.live}
        for digest, vector in vectors.items():
            fingerprint = known.get(digest)
            if fingerprint is None:
                raise InvalidArgument(
                    f"fingerprint {digest!r} is not one of the live generations': "
                    + ", ".join(f"{f.digest} ({f.model})" for f in known.values())
                )
            check_vector(vector, fingerprint, "query")

    def vector_for(self, request: SearchRequest, generation: int) -> Vector:
        """float32 (dim,) in the generation's space. Pre-condition: the request was checked."""
        served = self._serving.generations[generation]
        given = request.vectors.get(served.fingerprint.digest)
        if given is not None:
            return np.ascontiguousarray(given, dtype=np.float32)
        if request.text is None:
            raise InvalidArgument(
                f"consumer {request.consumer!r} is routed to generation {generation} ({served.model}): "
                f"send its vector too, with fingerprint {served.fingerprint.digest}, or send text"
            )
        vector: Vector = self._encoders.encode_queries(served.model, [request.text])[0]
        return vector

    def warm(self, requests: Sequence[SearchRequest], generation: int) -> None:
        """Encodes the texts of a batch in one go; the cache then holds them."""
        served = self._serving.generations[generation]
        texts = [
            r.text for r in requests if r.text is not None and served.fingerprint.digest not in r.vectors
        ]
        if texts:
            self._encoders.encode_queries(served.model, texts)
