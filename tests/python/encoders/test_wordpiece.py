"""What a text model accepts as text, and where it cuts."""

from __future__ import annotations

import pytest

from embedcore.encoders.artifacts import TokenizerConfig, read_verified
from embedcore.encoders.models import VOCABULARY
from embedcore.encoders.wordpiece import MAX_TEXT_BYTES, WordPiece, check_texts
from embedcore.errors import DataLoss, InvalidArgument

VOCABULARY_BYTES = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nworld\n##s\n!\n"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one string", "list of str"),
        ([b"bytes"], "text 0 is bytes"),
        (["a", None], "text 1 is NoneType"),
        (["a", 3.5], "text 1 is float"),
        (["a", "b\ud800"], "text 1 holds a lone surrogate"),
        (["a" * (MAX_TEXT_BYTES + 1)], "1000001 bytes.*1000000"),
        (["é" * (MAX_TEXT_BYTES // 2 + 1)], "1000002 bytes"),
    ],
    ids=["str", "bytes", "none", "float", "surrogate", "ascii", "utf8"],
)
def test_bad_texts_are_refused_by_position(texts: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_texts(texts)  # type: ignore[arg-type]


def test_the_limit_itself_is_accepted() -> None:
    check_texts(["a" * MAX_TEXT_BYTES, "", "日本語", " \n"])


class TestTokenizer:
    @pytest.fixture(autouse=True)
    def _need_tokenizers(self) -> None:
        pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'embedcore[demo]'")

    def test_ids_follow_the_vocabulary(self) -> None:
        pieces = WordPiece(VOCABULARY_BYTES, TokenizerConfig(), 16)
        assert pieces.token_ids(["Hello worlds!", "", "xyz"]) == [[2, 4, 5, 6, 7, 3], [2, 3], [2, 1, 3]]

    def test_case_counts_when_the_configuration_says_so(self) -> None:
        pieces = WordPiece(VOCABULARY_BYTES, TokenizerConfig(lowercase=False), 16)
        assert pieces.token_ids(["Hello", "hello"]) == [[2, 1, 3], [2, 4, 3]]

    def test_a_long_text_loses_its_end_and_keeps_the_last_mark(self) -> None:
        pieces = WordPiece(VOCABULARY_BYTES, TokenizerConfig(), 5)
        assert pieces.token_ids(["hello world hello world"]) == [[2, 4, 5, 4, 3]]

    def test_both_calls_of_the_tokenizer_agree(self) -> None:
        # One word more takes the text over the limit for the call that holds the GIL.
        pieces = WordPiece(VOCABULARY_BYTES, TokenizerConfig(), 8)
        short, long = "hello world " * 170, "hello world " * 171
        assert len(short) <= 2_048 < len(long)
        assert pieces.token_ids([short]) == pieces.token_ids([long]) == [[2, 4, 5, 4, 5, 4, 5, 3]]

    def test_a_vocabulary_without_its_marks_is_refused(self) -> None:
        with pytest.raises(DataLoss, match=r"\[UNK\]"):
            WordPiece(VOCABULARY_BYTES.replace(b"[UNK]", b"unk"), TokenizerConfig(), 16)
        with pytest.raises(DataLoss, match="repeats"):
            WordPiece(VOCABULARY_BYTES + b"hello\n", TokenizerConfig(), 16)

    def test_the_carried_vocabulary_gives_the_published_ids(self) -> None:
        pieces = WordPiece(read_verified(VOCABULARY), TokenizerConfig(), 256)
        # bert-base-uncased, as printed in the documentation of its reference implementation.
        assert pieces.token_ids(["Hello, my dog is cute"]) == [
            [101, 7592, 1010, 2026, 3899, 2003, 10140, 102]
        ]
        assert pieces.token_ids(["Héllo"]) == pieces.token_ids(["hello"])
