"""Text -> token ids of BERT's WordPiece, checked and truncated: what goes into a text model's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedcore.encoders.artifacts import INSTALL_HINT, TokenizerConfig
from embedcore.errors import DataLoss, InvalidArgument, Unavailable

if TYPE_CHECKING:
    from tokenizers import BertWordPieceTokenizer

MAX_TEXT_BYTES = 1_000_000  # UTF-8
# The tokenizer's single-text call holds the GIL (0.5 s for 1 MB of words), its batch call does not but costs
# a hand-over to other threads: short texts take the first, longer ones the second.
_HELD_CHARS = 2_048


def check_texts(texts: Sequence[str]) -> None:
    """InvalidArgument, naming the position, for what is no text of at most MAX_TEXT_BYTES in UTF-8."""
    if isinstance(texts, str | bytes):
        raise InvalidArgument(
            f"texts must be a list of str, got one {type(texts).__name__}; wrap it in a list"
        )
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidArgument(f"text {row} is {type(text).__name__}, not str; decode or convert it first")
        try:
            size = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            raise InvalidArgument(
                f"text {row} holds a lone surrogate, which is no Unicode text; decode it with"
                " errors='replace'"
            ) from None
        if size > MAX_TEXT_BYTES:
            raise InvalidArgument(
                f"text {row} has {size} bytes, at most {MAX_TEXT_BYTES} are accepted; shorten or split it",
                {"row": row, "bytes": size, "limit": MAX_TEXT_BYTES},
            )


class WordPiece:
    """The tokenizer of a manifest. Safe to call from any number of threads: nothing changes after the
    constructor.

    Special tokens written out in a text ("[SEP]") are read as such, as in the models' reference
    implementation.
    """

    def __init__(self, vocabulary: bytes, config: TokenizerConfig, max_seq_length: int) -> None:
        self._tokenizer = _build(vocabulary, config)
        self._tokenizer.enable_truncation(max_length=max_seq_length)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with [CLS] and [SEP], at most max_seq_length of them; what is longer loses its end."""
        check_texts(texts)
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> list[int]:
        if len(text) <= _HELD_CHARS:
            return list(self._tokenizer.encode(text).ids)
        return list(self._tokenizer.encode_batch([text])[0].ids)


def _build(vocabulary: bytes, config: TokenizerConfig) -> BertWordPieceTokenizer:
    try:
        from tokenizers import BertWordPieceTokenizer
    except ImportError:
        raise Unavailable(f"the package 'tokenizers' is not installed; run: {INSTALL_HINT}") from None
    # Not splitlines(): pieces may be characters that Python takes for line ends.
    pieces = vocabulary.decode().removesuffix("\n").split("\n")
    ids = {piece.removesuffix("\r"): row for row, piece in enumerate(pieces)}
    missing = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - ids.keys()
    if missing or len(ids) != len(pieces):
        raise DataLoss(
            f"vocabulary of {len(pieces)} lines lacks {sorted(missing)} or repeats a piece; restore the file"
        )
    return BertWordPieceTokenizer(
        vocab=ids,
        clean_text=config.clean_text,
        handle_chinese_chars=config.handle_chinese_chars,
        strip_accents=config.strip_accents,
        lowercase=config.lowercase,
        wordpieces_prefix=config.wordpieces_prefix,
    )
