"""embedcore: an embeddings platform for the day the embedding model changes.

The public names below are imported when first used, so that ``import embedcore`` and the command line
start fast, and a tool that only needs the documents of :mod:`embedcore.types` never loads the native core.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from embedcore.errors import CorruptSnapshotError, EmbedcoreError, WouldBlock

if TYPE_CHECKING:
    from embedcore.client import AsyncClient, Client
    from embedcore.dual_write import ScoreCalibration, blend
    from embedcore.dual_writer import DualWriter
    from embedcore.exact import build_info, exact_search
    from embedcore.index import IdSet, Index, SearchResult
    from embedcore.platform import Platform

try:
    __version__ = version("embedcore")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0.0.0"

_HOMES = {
    "IdSet": "embedcore.index",
    "Index": "embedcore.index",
    "SearchResult": "embedcore.index",
    "build_info": "embedcore.exact",
    "exact_search": "embedcore.exact",
    "DualWriter": "embedcore.dual_writer",
    "ScoreCalibration": "embedcore.dual_write",
    "blend": "embedcore.dual_write",
    "Platform": "embedcore.platform",
    "Client": "embedcore.client",
    "AsyncClient": "embedcore.client",
}

__all__ = [
    "AsyncClient",
    "Client",
    "CorruptSnapshotError",
    "DualWriter",
    "EmbedcoreError",
    "IdSet",
    "Index",
    "Platform",
    "ScoreCalibration",
    "SearchResult",
    "WouldBlock",
    "__version__",
    "blend",
    "build_info",
    "exact_search",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'embedcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
