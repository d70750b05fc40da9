"""Text -> vectors of a fingerprinted space: artifacts, backends, checks, cache, registry.

Importing this package loads no runtime and no model.
"""

from embedcore.encoders.artifacts import ArtifactFile, ArtifactManifest, TokenizerConfig
from embedcore.encoders.cache import CachedEncoder, CacheStats, VectorCache
from embedcore.encoders.callable import CallableEncoder
from embedcore.encoders.checks import CheckedEncoder, check_vectors, problem_of
from embedcore.encoders.external import ExternalEncoder
from embedcore.encoders.interface import Encoder
from embedcore.encoders.models import NEW, OLD, TRUNCATED, UNNORMALISED, builtin_models, onnx_spec
from embedcore.encoders.onnx import OnnxEncoder
from embedcore.encoders.registry import EncoderRegistry, load_encoder

__all__ = [
    "NEW",
    "OLD",
    "TRUNCATED",
    "UNNORMALISED",
    "ArtifactFile",
    "ArtifactManifest",
    "CacheStats",
    "CachedEncoder",
    "CallableEncoder",
    "CheckedEncoder",
    "Encoder",
    "EncoderRegistry",
    "ExternalEncoder",
    "OnnxEncoder",
    "TokenizerConfig",
    "VectorCache",
    "builtin_models",
    "check_vectors",
    "load_encoder",
    "onnx_spec",
    "problem_of",
]
