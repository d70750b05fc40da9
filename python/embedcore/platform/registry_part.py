"""The registries: consumers, models, generations."""

from __future__ import annotations

from embedcore.api import GenerationStatus
from embedcore.encoders.interface import Encoder
from embedcore.errors import FailedPrecondition, NotFound
from embedcore.platform.core import PlatformCore
from embedcore.types import Consumer, Generation, ModelSpec


class RegistryPart(PlatformCore):
    """See :class:`embedcore.api.PlatformApi`."""

    def consumers(self) -> list[Consumer]:
        return self.store.consumers()

    def set_consumer(self, consumer: Consumer) -> Consumer:
        self.store.put_consumer(consumer)
        self.serving.refresh_routes()
        self.desk.query_log.flush()  # a consumer that opts out is forgotten at once
        return consumer

    def models(self) -> list[ModelSpec]:
        return self.store.models()

    def register_model(self, spec: ModelSpec, encoder: Encoder | None = None) -> ModelSpec:
        """Registers a model; ``encoder`` gives the implementation of a ``callable`` one in this process."""
        known = {m.name: m for m in self.store.models()}.get(spec.name)
        if known is not None and known != spec:
            raise FailedPrecondition(
                f"model {spec.name!r} is registered with fingerprint {known.fingerprint.digest}: a changed "
                f"model needs a new name"
            )
        self.encoders.register(spec, encoder)
        self.store.put_model(spec)
        return spec

    def generations(self) -> list[GenerationStatus]:
        return [
            GenerationStatus(
                generation=g,
                items=self.serving.index_size(g.number),
                applied=self.serving.lanes_at(g.number),
            )
            for g in self.store.generations()
        ]

    def create_generation(self, model: str) -> Generation:
        with self._creating:
            if self.store.generations():
                raise FailedPrecondition(
                    "a generation exists: a further one comes from `embedcore migrate start`"
                )
            if model not in {m.name for m in self.store.models()}:
                raise NotFound(
                    f"model {model!r} is not registered: register it with `embedcore models register`"
                )
            generation = self.store.create_generation(model, "serving", self.clock.now())
        self.serving.attach_generation(generation)
        self.serving.refresh_routes()
        return generation
