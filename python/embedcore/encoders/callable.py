"""A Python callable as an encoder: ``function(texts: list[str]) -> array of shape (n, dimension)``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embedcore.encoders.wordpiece import check_texts
from embedcore.errors import DataLoss, EmbedcoreError, InvalidArgument, NotFound, Unavailable
from embedcore.types import Fingerprint, Vectors

EncodeFunction = Callable[[list[str]], Any]


class CallableEncoder:
    """As thread safe as the function: it is called from any number of threads at once.

    The function gets a list of checked texts and returns anything NumPy makes a numeric (n, dimension) array
    of. What it raises comes out as Unavailable, so that a write finds its way into a durable repair entry;
    errors of embedcore pass unchanged.
    """

    def __init__(self, function: EncodeFunction, fingerprint: Fingerprint) -> None:
        if not callable(function):
            raise InvalidArgument(f"an encoder must be callable, got {type(function).__name__}")
        self._function = function
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        check_texts(texts)
        if not texts:
            return np.empty((0, self._fingerprint.dimension), dtype=np.float32)
        model = self._fingerprint.model
        try:
            answer = self._function(list(texts))
        except EmbedcoreError:
            raise
        except Exception as error:  # a client's code may raise anything
            raise Unavailable(
                f"the encoder function of {model!r} raised {type(error).__name__}: {error}"
            ) from error
        try:
            vectors = np.ascontiguousarray(answer, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataLoss(
                f"the encoder function of {model!r} returned no numeric array: {error}; return shape"
                f" ({len(texts)}, {self._fingerprint.dimension})"
            ) from error
        return vectors


def load_target(target: str) -> EncodeFunction:
    """The callable of ``"package.module:function"`` (dots after the colon reach into objects).

    Importing runs the module's code: targets come from the operator's configuration, never from a request.
    Raises InvalidArgument for a malformed target, NotFound when there is nothing callable at it.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise InvalidArgument(f"callable target {target!r} must read 'package.module:function'")
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"callable target {target!r} cannot be loaded: {error}; install or correct it"
        ) from error
    if not callable(found):
        raise NotFound(f"callable target {target!r} is {type(found).__name__}, which cannot be called")
    function: EncodeFunction = found
    return function
