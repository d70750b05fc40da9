"""The models of a platform by name: loaded on first use, checked, cached, released.

Queries and bulk work (ingest, backfill) have caches of their own, so that a backfill of millions of texts
does not evict the queries' vectors. Each looks into the other before it encodes. Bulk work gives way to
queries (see :mod:`embedcore.encoders.yielding`); queries wait for nobody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from embedcore.encoders.artifacts import ArtifactManifest
from embedcore.encoders.cache import CachedEncoder, CacheStats, VectorCache
from embedcore.encoders.callable import CallableEncoder, load_target
from embedcore.encoders.checks import CheckedEncoder
from embedcore.encoders.external import ExternalEncoder
from embedcore.encoders.interface import Encoder
from embedcore.encoders.onnx import OnnxEncoder
from embedcore.encoders.yielding import CountedEncoder, QueryGate, YieldingEncoder
from embedcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from embedcore.types import Fingerprint, ModelSpec, Vectors

DEFAULT_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Loaded:
    queries: Encoder
    bulk: Encoder


class EncoderRegistry:
    """Thread safe. Loads happen one at a time (each may hold its weights twice for a moment); encoders that
    are loaded are never waited for.

    ``cache_bytes``: budget of the query cache over all models; ``bulk_cache_bytes``: of the bulk cache,
    default the same again; ``threads``: batches of one call that ONNX models run at once.
    """

    def __init__(
        self,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        bulk_cache_bytes: int | None = None,
        threads: int = 1,
    ) -> None:
        self._query_cache = VectorCache(cache_bytes)
        self._bulk_cache = VectorCache(cache_bytes if bulk_cache_bytes is None else bulk_cache_bytes)
        self._gate = QueryGate(os.cpu_count() or 1)
        self._threads = threads
        self._state = threading.Lock()  # guards the three maps
        self._loading = threading.Lock()  # held for the length of a load
        self._specs: dict[str, ModelSpec] = {}
        self._given: dict[str, Encoder] = {}
        self._loaded: dict[str, _Loaded] = {}

    def register(self, spec: ModelSpec, encoder: Encoder | None = None) -> ModelSpec:
        """Adds a model; loads nothing. Again with an equal specification does nothing, or hands in the
        encoder that a process of its own has to bring after a restart.

        Raises AlreadyExists (the name has another specification), InvalidArgument (options or fingerprint
        do not fit); nothing is changed then.
        """
        _check_spec(spec)
        if encoder is not None and encoder.fingerprint != spec.fingerprint:
            raise InvalidArgument(
                f"model {spec.name!r}: the encoder makes {encoder.fingerprint.digest}, the specification says"
                f" {spec.fingerprint.digest}; register the encoder's own fingerprint",
                {"encoder": encoder.fingerprint.model_dump(), "spec": spec.fingerprint.model_dump()},
            )
        with self._state:
            known = self._specs.get(spec.name)
            if known is not None and known != spec:
                raise AlreadyExists(
                    f"model {spec.name!r} is registered with another specification"
                    f" ({known.fingerprint.digest}); a changed model needs a name of its own"
                )
            self._specs[spec.name] = spec
            if encoder is not None:
                self._given[spec.name] = encoder
                self._loaded.pop(spec.name, None)
        return spec

    def models(self) -> list[ModelSpec]:
        """All registered specifications, by name."""
        with self._state:
            return [self._specs[name] for name in sorted(self._specs)]

    def spec(self, model: str) -> ModelSpec:
        """NotFound names the models there are."""
        with self._state:
            return self._spec(model)

    def fingerprint(self, model: str) -> Fingerprint:
        """Without loading the model."""
        return self.spec(model).fingerprint

    def get(self, model: str) -> Encoder:
        """The model's encoder for queries: checked and cached.

        Raises NotFound (no such model), Unavailable (its package is not installed), DataLoss (its files are
        damaged), FailedPrecondition (its function has to be registered in this process). A failed load
        leaves nothing behind and may be tried again.
        """
        return self._get(model).queries

    def get_bulk(self, model: str) -> Encoder:
        """As :meth:`get`, with the cache of bulk work."""
        return self._get(model).bulk

    def encode_queries(self, model: str, texts: Sequence[str]) -> Vectors:
        """float32 (n, dimension); what :meth:`get` and the encoder raise."""
        return self._get(model).queries.encode(texts)

    def encode_bulk(self, model: str, texts: Sequence[str]) -> Vectors:
        """As :meth:`encode_queries` and with the same checks, leaving the query cache alone."""
        return self._get(model).bulk.encode(texts)

    def release(self, model: str) -> bool:
        """Drops the loaded encoder and its cached vectors; the model stays registered and loads again when
        asked for. Calls that run finish. Whether there was anything to drop."""
        with self._state:
            spec = self._spec(model)
            loaded = self._loaded.pop(model, None)
        digest = spec.fingerprint.digest
        dropped = self._query_cache.purge(digest) + self._bulk_cache.purge(digest)
        return loaded is not None or dropped > 0

    def loaded(self) -> list[str]:
        """Names of the models that hold memory now."""
        with self._state:
            return sorted(self._loaded)

    def cache_stats(self) -> dict[str, CacheStats]:
        """``queries`` and ``bulk``."""
        return {"queries": self._query_cache.stats(), "bulk": self._bulk_cache.stats()}

    def _spec(self, model: str) -> ModelSpec:
        spec = self._specs.get(model)
        if spec is None:
            known = ", ".join(sorted(self._specs)) or "none"
            raise NotFound(f"no model {model!r}; registered are: {known}", {"model": model})
        return spec

    def _find(self, model: str) -> tuple[ModelSpec, Encoder | None, _Loaded | None]:
        with self._state:
            return self._spec(model), self._given.get(model), self._loaded.get(model)

    def _get(self, model: str) -> _Loaded:
        _, _, loaded = self._find(model)
        if loaded is not None:
            return loaded
        with self._loading:
            spec, given, loaded = self._find(model)  # another thread may have loaded it meanwhile
            if loaded is not None:
                return loaded
            encoder = given if given is not None else load_encoder(spec, self._threads)
            checked = CheckedEncoder(encoder)
            loaded = _Loaded(
                CachedEncoder(CountedEncoder(checked, self._gate), self._query_cache, self._bulk_cache),
                CachedEncoder(YieldingEncoder(checked, self._gate), self._bulk_cache, self._query_cache),
            )
            with self._state:
                self._loaded[model] = loaded
            return loaded


def load_encoder(spec: ModelSpec, threads: int = 1) -> Encoder:
    """The bare encoder of a specification, neither checked nor cached; raises as EncoderRegistry.get."""
    _check_spec(spec)
    if spec.backend == "external":
        return ExternalEncoder(spec.fingerprint)
    if spec.backend == "onnx":
        return OnnxEncoder(_manifest(spec), threads)
    target = spec.options.get("target")
    if target is None:
        raise FailedPrecondition(
            f"model {spec.name!r} is a function of the process that registered it; register it here too, or"
            " give its specification a target 'package.module:function'"
        )
    try:
        return CallableEncoder(load_target(target), spec.fingerprint)
    except NotFound as error:
        raise Unavailable(error.message) from error


def _check_spec(spec: ModelSpec) -> None:
    """InvalidArgument when options or fingerprint do not fit the backend."""
    allowed = {"onnx": {"manifest"}, "callable": {"target"}, "external": set[str]()}[spec.backend]
    unknown = sorted(set(spec.options) - allowed)
    if unknown:
        raise InvalidArgument(
            f"model {spec.name!r}: backend {spec.backend} has no options {unknown}; it has {sorted(allowed)}"
        )
    if spec.backend == "callable" and not isinstance(spec.options.get("target", ""), str):
        raise InvalidArgument(f"model {spec.name!r}: target must be text, 'package.module:function'")
    if spec.backend == "onnx":
        derived = _manifest(spec).fingerprint()
        if derived != spec.fingerprint:
            raise InvalidArgument(
                f"model {spec.name!r}: its manifest makes {derived.digest}, its fingerprint says"
                f" {spec.fingerprint.digest}; use the manifest's fingerprint",
                {"manifest": derived.model_dump(), "spec": spec.fingerprint.model_dump()},
            )


def _manifest(spec: ModelSpec) -> ArtifactManifest:
    try:
        return ArtifactManifest.model_validate(spec.options.get("manifest"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise InvalidArgument(
            f"model {spec.name!r}: option 'manifest' is no artifact manifest: {where}: {first['msg']}"
        ) from None
