"""Every engine by name. An adapter imports its library when it is made, never at import of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bench.engines import exact, graphs, hnsw, own
from bench.engines.base import Configuration, Engine, NotAvailable, NotInstalled, Searcher

__all__ = [
    "DEFAULT",
    "ENGINES",
    "EXACT",
    "OWN",
    "Configuration",
    "Engine",
    "NotAvailable",
    "NotInstalled",
    "Searcher",
    "make",
]

ENGINES: Mapping[str, Callable[[Configuration], Engine]] = MappingProxyType(
    {**own.ENGINES, **exact.ENGINES, **hnsw.ENGINES, **graphs.ENGINES}
)
OWN = tuple(own.ENGINES)
EXACT = tuple(exact.ENGINES)
DEFAULT = tuple(ENGINES)


def make(name: str, configuration: Configuration) -> Engine:
    """Raises NotInstalled or NotAvailable."""
    return ENGINES[name](configuration)
