"""A demo of a minute's work in seconds: toy models of one vocabulary, all four default consumers."""

from __future__ import annotations

from embedcore.demo.scenario import Faulty, Scenario
from embedcore.demo.workload import Workload
from embedcore.types import DEFAULT_CONSUMERS, Fingerprint, ModelSpec
from support.toys import toy_function, toy_golden, toy_items

before = toy_function("demo-before", 96, 0.2)
after = toy_function("demo-after", 128, 0.05)
noisy = toy_function("demo-noisy", 128, 6.0)
lengthened = toy_function("demo-lengthened", 128, 0.05, norm=3.0)


def spec(name: str, dimension: int) -> ModelSpec:
    """Found again by the server's process, which imports this module."""
    return ModelSpec(
        name=name,
        backend="callable",
        fingerprint=Fingerprint(model=name, revision="1", dimension=dimension, tokenizer_hash="words"),
        options={"target": f"demo.toy_scenario:{name}"},
    )


def scenario(items: int, queries: int, late: int = 40) -> Scenario:
    def workload(now: float) -> Workload:
        made = toy_items(items + late, created_at=now)
        served = made[:items]
        return Workload(
            items=served,
            held_back=made[items:],
            golden={
                consumer.name: toy_golden(served, consumer.name, queries, seed)
                for seed, consumer in enumerate(DEFAULT_CONSUMERS)
            },
            told=f"{items} toy texts <of eight words>",
        )

    return Scenario(
        old=spec("before", 96),
        new=spec("after", 128),
        faulty=(
            Faulty(spec("lengthened", 128), "three times too long", True),
            Faulty(spec("noisy", 128), "mostly noise", True),
        ),
        workload=workload,
    )
