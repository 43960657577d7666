"""Ids of word and char models fall by frequency, `<eos>` and `<unk>` in their places, however lines and documents end."""

from __future__ import annotations

from collections import Counter

import pytest

from lstmlm.config import TokenizerConfig
from lstmlm.corpus import Piece
from lstmlm.tokenizer import Tokenizer

DOCUMENTS = {
    "no line end": [Piece("x y", ends_document=True), Piece("x z", ends_document=True)] * 9,
    "line ends": [Piece("x y\nx z\n", ends_document=True)] * 9,
    "end apart": [Piece("x y\n"), Piece("x z"), Piece("", ends_document=True)] * 9,
    "blank lines": [Piece("\n\nx\n", ends_document=True)] * 9,
}


@pytest.mark.parametrize("kind", ["word", "char"])
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
def test_ids_fall_by_how_often_they_are_trained_on(kind: str, documents: list[Piece]) -> None:
    tokenizer = Tokenizer.train(TokenizerConfig(kind=kind, min_count=1), documents)
    counts = Counter(token for encoded in tokenizer.encode_documents(documents) for token in encoded.ids)
    frequencies = [counts[token] for token in range(tokenizer.vocabulary_size)]
    assert frequencies == sorted(frequencies, reverse=True)
    names = [(-counts[token], tokenizer.describe(token)) for token in range(tokenizer.vocabulary_size)]
    assert names == sorted(names)
