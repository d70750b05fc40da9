"""The vectors of the carried WordNet corpus, computed once where the packages of embedcore[demo] are."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MODEL = "minilm-l6"
_QUERIES = 5_000
_AT_ONCE = 2_000


def wordnet_vectors(folder: Path, base_name: str, query_name: str) -> Path:
    """``folder`` with both files in it, float16: every synset's text, and queries of two kinds that people
    type: single lemmas and first halves of definitions. Minutes to tens of minutes on the first call."""
    if (folder / base_name).exists() and (folder / query_name).exists():
        return folder
    from embedcore.datasets import wordnet
    from embedcore.encoders import builtin_models, load_encoder
    from embedcore.errors import Unavailable

    try:
        encoder = load_encoder(builtin_models()[_MODEL])
    except Unavailable as error:
        raise ImportError(str(error)) from error
    corpus = wordnet.load()
    sets = wordnet.golden_sets(corpus, queries=_QUERIES // 2)
    queries = [query.text for name in ("search", "ads") for query in sets[name].queries]
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in ((query_name, queries), (base_name, [entry.text for entry in corpus])):
        vectors = np.empty((len(texts), encoder.fingerprint.dimension), dtype=np.float16)
        for start in range(0, len(texts), _AT_ONCE):
            part: Sequence[str] = texts[start : start + _AT_ONCE]
            vectors[start : start + len(part)] = encoder.encode(part)
            print(f"\rencoded {start + len(part)} of {len(texts)} texts", end="", file=sys.stderr)
        print(file=sys.stderr)
        temporary = folder / f".{name}.{os.getpid()}"
        with open(temporary, "wb") as file:
            np.save(file, vectors)
        os.replace(temporary, folder / name)
    return folder


def query_vectors(folder: Path, models: Sequence[str], texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """Per model the vectors (n, dim) of the texts, computed once and kept in ``folder``. ImportError when a
    model's package is missing."""
    from embedcore.encoders import builtin_models, load_encoder
    from embedcore.errors import Unavailable

    folder.mkdir(parents=True, exist_ok=True)
    named = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    found = []
    for model in models:
        path = folder / f"{model}-queries-{named}.npy"
        if not path.exists():
            try:
                encoder = load_encoder(builtin_models()[model])
            except Unavailable as error:
                raise ImportError(str(error)) from error
            parts = [encoder.encode(texts[at : at + _AT_ONCE]) for at in range(0, len(texts), _AT_ONCE)]
            temporary = folder / f".{path.name}.{os.getpid()}"
            with open(temporary, "wb") as file:
                np.save(file, np.concatenate(parts))
            os.replace(temporary, path)
        found.append(np.load(path))
    return found
