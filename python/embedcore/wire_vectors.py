"""Conversions of vectors and of their fingerprints to the messages of embedcore.v1 and back.

Vectors travel as little-endian bytes with a dtype, or as packed floats. What is not finite, has no whole
number of values, or names no vector space is InvalidArgument. All functions are pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore.errors import InvalidArgument
from embedcore.types import Fingerprint, Vector
from embedcore.v1 import common_pb2

FLOAT32 = common_pb2.DTYPE_FLOAT32
FLOAT16 = common_pb2.DTYPE_FLOAT16

_NUMPY: dict[int, np.dtype[Any]] = {
    common_pb2.DTYPE_UNSPECIFIED: np.dtype("<f4"),
    FLOAT32: np.dtype("<f4"),
    FLOAT16: np.dtype("<f2"),
}


def _refuse_non_finite(vector: NDArray[Any], fingerprint: str) -> None:
    finite = np.isfinite(vector)
    if np.count_nonzero(finite) != len(finite):  # faster than all() at these sizes
        place = int(np.flatnonzero(~finite)[0])
        raise InvalidArgument(
            f"the vector of {fingerprint} holds {vector[place]} at position {place}: send finite values"
        )


def vector_to_message(
    fingerprint: str, vector: ArrayLike, dtype: common_pb2.DType.ValueType = FLOAT32
) -> common_pb2.Vector:
    """``vector``: (dimension,) of any real dtype; sent as little-endian bytes of ``dtype``."""
    with np.errstate(over="ignore"):
        values = np.asarray(vector).astype(_NUMPY[dtype], copy=False)
    if values.ndim != 1 or not len(values):
        raise InvalidArgument(f"a vector has shape (dimension,), got {values.shape}")
    _refuse_non_finite(values.astype(np.float32, copy=False), fingerprint)
    return common_pb2.Vector(fingerprint=fingerprint, dtype=dtype, data=values.tobytes())


def vector_from_message(message: common_pb2.Vector) -> tuple[str, Vector]:
    """(fingerprint digest, float32 (dimension,)). The array may be a read-only view of the message."""
    fingerprint = message.fingerprint
    if not fingerprint:
        raise InvalidArgument(
            "a vector carries no fingerprint: name its vector space (ec1-..., as ListModels gives it)"
        )
    data = message.data
    vector: Vector
    if data:
        if message.values:
            raise InvalidArgument(f"the vector of {fingerprint} has data and values: send one of them")
        dtype = _NUMPY.get(message.dtype)
        if dtype is None:
            raise InvalidArgument(f"dtype {message.dtype} is not known here: send float32 or float16")
        if len(data) % dtype.itemsize:
            raise InvalidArgument(
                f"the vector of {fingerprint} has {len(data)} bytes, no multiple of {dtype.itemsize} "
                f"({dtype.name}): send dimension x {dtype.itemsize} bytes"
            )
        vector = np.frombuffer(data, dtype)
        if vector.dtype != np.float32:
            vector = vector.astype(np.float32)
    else:
        vector = np.array(message.values, dtype=np.float32)
        if not len(vector):
            raise InvalidArgument(f"the vector of {fingerprint} is empty: send data or values")
    _refuse_non_finite(vector, fingerprint)
    return fingerprint, vector


def vectors_from_messages(messages: Any) -> dict[str, Vector]:
    """Repeated Vector -> vectors by fingerprint digest; a fingerprint may come once."""
    vectors = dict(map(vector_from_message, messages))
    if len(vectors) != len(messages):
        raise InvalidArgument("two vectors carry the same fingerprint: send one for each vector space")
    return vectors


def fingerprint_to_message(fingerprint: Fingerprint) -> common_pb2.FingerprintInfo:
    return common_pb2.FingerprintInfo(digest=fingerprint.digest, **fingerprint.model_dump())


def fingerprint_from_message(message: common_pb2.FingerprintInfo) -> Fingerprint:
    fields = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    digest = fields.pop("digest")
    fingerprint = Fingerprint.model_validate(fields)
    if digest and digest != fingerprint.digest:
        raise InvalidArgument(
            f"fingerprint {digest} does not match its fields, which give {fingerprint.digest}"
        )
    return fingerprint
