"""Fixtures of the index tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .small import filled
from .vectors import text


@pytest.fixture(scope="session")
def text_vectors() -> NDArray[np.float32]:
    """(4000, 384): see :func:`vectors.text`."""
    return text()


@pytest.fixture(scope="module", params=[("float32", "int8"), ("int8", "none")], ids="-".join)
def index(request: pytest.FixtureRequest) -> embedcore.Index:
    """A small one, with and without codes, which a test leaves as it was."""
    return filled(*request.param)
