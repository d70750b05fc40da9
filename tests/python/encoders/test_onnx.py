"""ONNX encoders: batching, pooling and normalisation against plain loops; the real models where installed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcore.encoders import OnnxEncoder
from embedcore.encoders.artifacts import ArtifactFile, read_verified
from embedcore.encoders.models import MINILM_L3, MINILM_L6
from embedcore.encoders.onnx import MAX_BATCH, normalised, plan_batches, pool_tokens
from embedcore.errors import DataLoss, InvalidArgument

REFERENCE = Path(__file__).parent / "data" / "minilm-l6-wordnet.npz"


@given(st.lists(st.integers(2, 300), max_size=200), st.integers(1, 600))
def test_batches_are_a_permutation_sorted_and_bounded(lengths: list[int], tokens: int) -> None:
    batches = plan_batches(lengths, tokens)
    rows = [int(row) for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert 1 <= len(batch) <= MAX_BATCH
        assert len(batch) == 1 or len(batch) * longest <= tokens


def test_batches_are_filled_before_the_next_begins() -> None:
    assert [len(batch) for batch in plan_batches([10] * 100, 400)] == [40, 40, 20]
    assert [len(batch) for batch in plan_batches([2] * 100, 10_000)] == [64, 36]


def test_mean_pooling_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    output = rng.normal(size=(5, 7, 4)).astype(np.float32)
    lengths = [7, 1, 3, 5, 2]
    mask = np.array([[1] * n + [0] * (7 - n) for n in lengths], dtype=np.int64)
    expected = [output[row, :n].astype(np.float64).mean(axis=0) for row, n in enumerate(lengths)]
    pooled = pool_tokens(output, mask, "mean")
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    assert pooled.dtype == np.float32
    assert pooled.flags.c_contiguous
    np.testing.assert_array_equal(pool_tokens(output, mask, "cls"), output[:, 0])
    np.testing.assert_array_equal(pool_tokens(output[:, 0], mask, "none"), output[:, 0])


def test_normalisation_makes_unit_rows_and_leaves_a_zero_row_alone() -> None:
    rows = np.array([[3, 4], [0, 0], [1e-10, 0]], dtype=np.float32)
    np.testing.assert_allclose(normalised(rows), [[0.6, 0.8], [0, 0], [1, 0]], atol=1e-6)


TEXTS = [
    "a",
    "",
    "dog, domestic dog: a member of the genus Canis that has been domesticated by man",
    "the quick brown fox jumps over the lazy dog " * 30,
    "Größe, 日本語, emoji 🙂 and\ttabs",
    "financial institution",
    "bank of a river",
    "[SEP] written out",
    "x" * 300,
    "one two three four five six seven eight nine ten",
]


@pytest.mark.models
@pytest.mark.parametrize("name", ["minilm_l3", "minilm_l6"])
class TestBothModels:
    @pytest.fixture
    def encoder(self, name: str, request: pytest.FixtureRequest) -> OnnxEncoder:
        found = request.getfixturevalue(name)
        assert isinstance(found, OnnxEncoder)
        return found

    def test_a_vector_does_not_depend_on_its_batch(self, encoder: OnnxEncoder) -> None:
        alone = np.vstack([encoder.encode([text]) for text in TEXTS])
        together = encoder.encode(TEXTS)
        np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)
        order = np.random.default_rng(2).permutation(len(TEXTS))
        shuffled = encoder.encode([TEXTS[row] for row in order])
        np.testing.assert_allclose(shuffled, alone[order], rtol=0, atol=2e-6)
        assert together.shape == (len(TEXTS), encoder.fingerprint.dimension)
        assert together.dtype == np.float32
        assert together.flags.c_contiguous
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)

    def test_padding_does_not_leak_into_a_vector(self, encoder: OnnxEncoder) -> None:
        # One batch whatever the lengths, so that the short text is padded by more than 100 tokens.
        padded = OnnxEncoder(encoder.manifest, batch_tokens=1 << 20).encode([TEXTS[5], TEXTS[3]])
        np.testing.assert_allclose(padded, encoder.encode([TEXTS[5], TEXTS[3]]), rtol=0, atol=2e-6)

    def test_threads_change_nothing(self, encoder: OnnxEncoder) -> None:
        threaded = OnnxEncoder(encoder.manifest, threads=2, batch_tokens=32)
        np.testing.assert_allclose(threaded.encode(TEXTS), encoder.encode(TEXTS), rtol=0, atol=2e-6)

    def test_concurrent_calls_agree_with_serial_ones(self, encoder: OnnxEncoder) -> None:
        serial = encoder.encode(TEXTS[4:])
        results: list[np.ndarray | None] = [None] * 4

        def work(slot: int) -> None:
            results[slot] = encoder.encode(TEXTS[4:])

        threads = [threading.Thread(target=work, args=(slot,)) for slot in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            assert result is not None
            np.testing.assert_allclose(result, serial, rtol=0, atol=2e-6)

    def test_tokens_past_the_limit_are_cut(self, encoder: OnnxEncoder) -> None:
        limit = encoder.manifest.max_seq_length - 2  # [CLS] and [SEP]
        exact, longer = "dog " * limit, "dog " * limit + "cat"
        assert np.array_equal(encoder.encode([exact]), encoder.encode([longer]))
        shorter = encoder.encode(["dog " * (limit - 1) + "cat"])
        assert not np.array_equal(encoder.encode([exact]), shorter)

    def test_nothing_in_gives_nothing_out(self, encoder: OnnxEncoder) -> None:
        assert encoder.encode([]).shape == (0, encoder.fingerprint.dimension)

    def test_one_bad_text_refuses_the_batch(self, encoder: OnnxEncoder) -> None:
        with pytest.raises(InvalidArgument, match="text 1"):
            encoder.encode(["fine", "x" * 10_000_000])


@pytest.mark.models
@pytest.mark.usefixtures("minilm_l6")
def test_int8_vectors_lie_at_the_fp32_references() -> None:
    # The references were made with 64 tokens, which the longest text exceeds.
    encoder = OnnxEncoder(MINILM_L6.model_copy(update={"max_seq_length": 64}))
    with np.load(REFERENCE) as reference:
        texts = [str(text) for text in reference["texts"]]
        expected = reference["vectors"].astype(np.float32)
    cosines = (encoder.encode(texts) * expected).sum(axis=1)
    assert len(texts) == 50
    assert cosines.min() >= 0.99, texts[int(cosines.argmin())]
    assert cosines.mean() >= 0.999


@pytest.mark.models
def test_l3_agrees_with_the_pooling_inside_its_graph(minilm_l3: OnnxEncoder) -> None:
    import onnxruntime

    from embedcore.encoders.wordpiece import WordPiece

    session = onnxruntime.InferenceSession(
        read_verified(MINILM_L3.weights), providers=["CPUExecutionProvider"]
    )
    tokens = WordPiece(read_verified(MINILM_L3.vocabulary), MINILM_L3.tokenizer, 128).token_ids(TEXTS)
    for text, ids in zip(TEXTS, tokens, strict=True):
        inputs = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        (pooled,) = session.run(["461"], inputs)
        expected = pooled[0] / np.linalg.norm(pooled[0])
        np.testing.assert_allclose(minilm_l3.encode([text])[0], expected, atol=2e-6)


@pytest.mark.models
def test_meaning_is_near_meaning(minilm_l3: OnnxEncoder, minilm_l6: OnnxEncoder) -> None:
    for encoder in (minilm_l3, minilm_l6):
        money, river, lender = encoder.encode(["financial institution", "river bank", "a company that lends"])
        assert money @ lender > money @ river


@pytest.mark.models
class TestLoading:
    @pytest.fixture(autouse=True)
    def _models(self, minilm_l3: OnnxEncoder) -> None:
        """Skips where the packages are missing."""

    def test_damaged_weights_are_refused(self, tmp_path: Path) -> None:
        damaged = bytearray(read_verified(MINILM_L6.weights))
        damaged[len(damaged) // 2] ^= 1
        (tmp_path / "model.onnx").write_bytes(damaged)
        weights = ArtifactFile(
            source="path", location=str(tmp_path / "model.onnx"), sha256=MINILM_L6.weights.sha256
        )
        with pytest.raises(DataLoss, match="expected 8199be6f") as caught:
            OnnxEncoder(MINILM_L6.model_copy(update={"weights": weights}))
        assert caught.value.details["expected"] == MINILM_L6.weights.sha256

    def test_what_is_no_graph_is_refused_in_one_line(self) -> None:
        with pytest.raises(DataLoss, match="cannot read the graph") as caught:
            OnnxEncoder(MINILM_L3.model_copy(update={"weights": MINILM_L3.vocabulary}))
        assert "\n" not in caught.value.message

    def test_a_manifest_of_another_graph_is_refused(self) -> None:
        with pytest.raises(DataLoss, match="correct the manifest"):
            OnnxEncoder(MINILM_L3.model_copy(update={"output": "last_hidden_state"}))
        with pytest.raises(DataLoss, match="correct the manifest"):
            OnnxEncoder(MINILM_L3.model_copy(update={"inputs": MINILM_L6.inputs}))

    def test_an_output_of_another_shape_is_refused(self) -> None:
        wrong = OnnxEncoder(MINILM_L3.model_copy(update={"dimension": 512}))
        with pytest.raises(DataLoss, match=r"shape \(1, 3, 384\).*\(1, 3, 512\)"):
            wrong.encode(["hello"])

    def test_threads_below_one_are_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="threads"):
            OnnxEncoder(MINILM_L3, threads=0)
