"""Text models as ONNX graphs on the CPU: tokens -> graph -> pooling -> normalisation.

Reproducibility. One session runs one thread per call (intra-op 1), so a vector never depends on how work
was divided, and a query is never queued behind the threads of a bulk call. What a batch does to a vector was
measured on 256 WordNet texts: for both built-in models a text encoded alone, in batches of 2 to 256, in
any order and beside a text of 256 tokens gives the same bits. For all-MiniLM-L6-v2 int8 that holds because
only its weights are int8 (they are cast to float32 when the session starts); a graph that quantises its
*activations* per batch would not keep it and has to be run with ``batch_tokens=1``, one text at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcore.encoders.artifacts import INSTALL_HINT, ArtifactManifest, read_verified
from embedcore.encoders.wordpiece import WordPiece
from embedcore.errors import DataLoss, InvalidArgument, Unavailable
from embedcore.types import Fingerprint, Vectors

# Padded tokens of one session call. Measured on one core in texts a second, L3 / L6: 128: 690 / 315,
# 256: 720 / 320, 512: 830 / 355, 1024: 825 / 335 (past it the activations leave the cache).
BATCH_TOKENS = 512
MAX_BATCH = 64


class _Session(Protocol):
    def run(self, output_names: Sequence[str], inputs: dict[str, NDArray[np.int64]]) -> list[Any]: ...


class OnnxEncoder:
    """An :class:`embedcore.encoders.interface.Encoder` over a verified artifact.

    ``threads``: how many batches of one ``encode`` call run at once; 1 runs them on the caller's thread.
    Concurrent ``encode`` calls never wait for each other, whatever ``threads`` is.

    Loading raises Unavailable (a package is not installed) and DataLoss (a checksum does not match, or the
    graph is not what the manifest says).
    """

    def __init__(
        self, manifest: ArtifactManifest, threads: int = 1, *, batch_tokens: int = BATCH_TOKENS
    ) -> None:
        if threads < 1 or batch_tokens < 1:
            raise InvalidArgument(
                f"threads and batch_tokens must be at least 1, got {threads}, {batch_tokens}"
            )
        self._manifest = manifest
        self._fingerprint = manifest.fingerprint()
        self._threads = threads
        self._batch_tokens = batch_tokens
        self._tokenizer = WordPiece(
            read_verified(manifest.vocabulary), manifest.tokenizer, manifest.max_seq_length
        )
        self._session = _open_session(manifest)

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @property
    def manifest(self) -> ArtifactManifest:
        return self._manifest

    def encode(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenizer.token_ids(texts)
        vectors = np.empty((len(tokens), self._manifest.dimension), dtype=np.float32)
        batches = plan_batches([len(ids) for ids in tokens], self._batch_tokens)

        def run(batch: NDArray[np.int64]) -> None:
            vectors[batch] = self._encode_batch([tokens[row] for row in batch])

        if self._threads == 1 or len(batches) == 1:
            for batch in batches:
                run(batch)
        elif batches:
            with ThreadPoolExecutor(min(self._threads, len(batches)), "embedcore-encode") as pool:
                # The dearest first, so that no thread ends with a long one alone.
                for done in [pool.submit(run, batch) for batch in reversed(batches)]:
                    done.result()
        return vectors

    def _encode_batch(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, of_text in enumerate(tokens):
            ids[row, : len(of_text)] = of_text
            mask[row, : len(of_text)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (output,) = self._session.run(
            [self._manifest.output], {name: inputs[name] for name in self._manifest.inputs}
        )
        expected = (
            *(ids.shape if self._manifest.output_rank == 3 else ids.shape[:1]),
            self._manifest.dimension,
        )
        if output.shape != expected:
            raise DataLoss(
                f"{self._manifest.name}: output {self._manifest.output!r} has shape {output.shape}, the"
                f" manifest says {expected}; correct the manifest"
            )
        vectors = pool_tokens(output, mask, self._manifest.pooling)
        return normalised(vectors) if self._manifest.normalise else vectors


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Rows grouped by length, shortest first: each group padded to its longest has at most ``batch_tokens``
    tokens (a longer text stands alone) and MAX_BATCH rows. Together they are a permutation of all rows."""
    batches: list[NDArray[np.int64]] = []
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        # Closed before ``end`` when the next row, which is the longest so far, no longer fits.
        full = end == len(order) or end - start == MAX_BATCH
        if full or (end - start + 1) * lengths[order[end]] > batch_tokens:
            batches.append(order[start:end])
            start = end
    return batches


def pool_tokens(output: NDArray[Any], mask: NDArray[np.int64], pooling: str) -> Vectors:
    """(n, tokens, d) -> (n, d) float32: the mean over the mask's tokens, or the first token ([CLS]).
    Rank 2 is passed through."""
    if pooling == "none":
        return np.ascontiguousarray(output, dtype=np.float32)
    if pooling == "cls":
        return np.ascontiguousarray(output[:, 0], dtype=np.float32)
    weights = mask.astype(np.float32)
    summed = np.matmul(weights[:, None, :], output.astype(np.float32, copy=False))[:, 0]
    return np.ascontiguousarray(summed / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def normalised(vectors: Vectors) -> Vectors:
    """Rows divided by their L2 norm; a zero row stays zero, for the norm check to refuse."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def _open_session(manifest: ArtifactManifest) -> _Session:
    weights = read_verified(manifest.weights)
    try:
        import onnxruntime
    except ImportError:
        raise Unavailable(f"the package 'onnxruntime' is not installed; run: {INSTALL_HINT}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no other base
        raise DataLoss(f"{manifest.name}: ONNX Runtime cannot read the graph: {_one_line(error)}") from error
    inputs = {node.name for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if inputs != set(manifest.inputs) or manifest.output not in outputs:
        raise DataLoss(
            f"{manifest.name}: the graph takes {sorted(inputs)} and gives {sorted(outputs)}, the manifest"
            f" says {sorted(manifest.inputs)} and {manifest.output!r}; correct the manifest"
        )
    opened: _Session = session
    return opened


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
