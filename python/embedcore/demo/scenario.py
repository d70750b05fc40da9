"""What a demo is played with: two models, a workload, faulty models, the plan and the options."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from embedcore.demo.workload import Workload, wordnet_workload
from embedcore.encoders import NEW, OLD, TRUNCATED, UNNORMALISED, EncoderRegistry, builtin_models
from embedcore.migration_types import Plan
from embedcore.types import ModelSpec

# Share of the encoder's rate alone that is left for the backfill beside traffic and evaluations.
_UNDER_LOAD = 0.6
_MEASURED_TEXTS = 192
_CHUNK = 64
# Seconds of the machine between two evaluations of a consumer, at the fastest.
_EVALUATION_GAP_S = 4.0


@dataclass(frozen=True, slots=True)
class Faulty:
    """A target that has to be stopped by a gate. ``must``: whether letting it through is a failure; a model
    that is merely different may turn out to lose nowhere, which is then said."""

    spec: ModelSpec
    fault: str
    must: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """``workload(now)``: what is served, with ages counted from the platform's now."""

    old: ModelSpec
    new: ModelSpec
    faulty: Sequence[Faulty]
    workload: Callable[[float], Workload]


def demo_plan() -> Plan:
    """The default plan, carried out by itself. The shadow takes 5% of the queries in place of 1%: a hundred
    a second make too few of them in a week of minutes."""
    return Plan(auto_cutover=True, simulated_engagement=True, shadow_share=0.05)


def at_scale(plan: Plan, time_scale: float) -> Plan:
    """The plan with its periodic evaluations at least four seconds of the machine apart. Every 15 minutes of
    a week that passes in minutes would be several a second: the machine would do nothing else."""
    every = max(plan.evaluate_every_seconds, _EVALUATION_GAP_S * time_scale)
    return plan.model_copy(update={"evaluate_every_seconds": every})


@dataclass(frozen=True)
class DemoOptions:
    """``time_scale`` None: see :mod:`embedcore.demo.pace`. Rates: per second of the machine.

    ``last_day``: a migration that has not ended by then (days of the platform since its first dual write)
    never will. At a fixed time scale that has to be late enough for a machine that is busy.

    ``fresh``: share of the live queries in a spelling of their own, which no cache holds. It changes the
    letters' case, so it is for models that do not see it.
    """

    items: int = 10_000
    seed: int = 0
    queries: int = 4_000
    rate: float = 50.0
    write_rate: float = 4.0
    fresh: float = 0.3
    time_scale: float | None = None
    report: Path = Path("demo-report.html")
    last_day: float = 9.5
    keep: Path | None = None
    kill: bool = False
    refusals: bool = True
    before_seconds: float = 8.0  # of traffic before the migration and after its end
    plan: Plan = field(default_factory=demo_plan)


def wordnet_scenario(options: DemoOptions) -> Scenario:
    """MiniLM-L3 to MiniLM-L6 over WordNet, and two pushes of L6 that went wrong."""
    models = builtin_models()
    return Scenario(
        old=models[OLD],
        new=models[NEW],
        faulty=(
            Faulty(
                models[UNNORMALISED], "its vectors are not normalised, though its fingerprint says so", True
            ),
            Faulty(models[TRUNCATED], "it reads 4 tokens of every text (max_seq_length 4)", False),
        ),
        workload=lambda now: wordnet_workload(options.items, options.queries, options.seed, now),
    )


def encode_rate(spec: ModelSpec, texts: Sequence[str]) -> float:
    """Texts per second of a model on one thread of this machine, from a short measurement."""
    encoders = EncoderRegistry(cache_bytes=0)
    encoders.register(spec)
    some = list(islice(cycle(texts), _MEASURED_TEXTS))
    encoders.encode_bulk(spec.name, some[:_CHUNK])  # loads the model
    began = time.perf_counter()
    for start in range(0, len(some), _CHUNK):
        encoders.encode_bulk(spec.name, some[start : start + _CHUNK])
    return len(some) / max(1e-9, time.perf_counter() - began)


def backfill_seconds(items: int, rate: float) -> float:
    """Seconds of the machine for a backfill beside the traffic, at ``rate`` texts per second alone."""
    return items / (rate * _UNDER_LOAD)
