"""Look-ups by spelling against brute force; where a text is cut; where words end."""

from __future__ import annotations

import building
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lstmlm.spelling import Spelling, is_word, word_end

KINDS = ("word", "char", "byte", "bpe")
TOKENIZERS = {kind: building.tokenizer(kind, building.text() + "naïve “é” 😀 \u2028 x\n" * 3) for kind in KINDS}
SPELLINGS = {kind: Spelling(tokenizer) for kind, tokenizer in TOKENIZERS.items()}
TEXTS = st.text(st.sampled_from("the cat's-é. 😀“\n\t\u2028"), max_size=14)


def spellings(kind: str) -> dict[int, bytes]:
    tokenizer = TOKENIZERS[kind]
    return {token: tokenizer.spelling(token) for token in range(tokenizer.vocabulary_size) if token != tokenizer.eos}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.one_of(TEXTS.map(str.encode), st.binary(max_size=3)))
@example("byte", b"")
@example("byte", b"\xff")
@example("bpe", b" the")
def test_look_ups_find_what_brute_force_finds(kind: str, text: bytes) -> None:
    found, spelled = SPELLINGS[kind], spellings(kind)
    extending, within = found.tokens_S[found.extending(text)].tolist(), found.tokens_S[found.within(text)].tolist()
    assert sorted(extending) == sorted(t for t, s in spelled.items() if s and s.startswith(text))
    assert sorted(within) == sorted(t for t, s in spelled.items() if s and s != text and text.startswith(s))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), TEXTS)
@example("bpe", " ")
@example("bpe", "the  ")
def test_a_cut_keeps_the_text_and_its_ids(kind: str, text: str) -> None:
    cut = SPELLINGS[kind].cut(text)
    tokenizer = TOKENIZERS[kind]
    assert cut.context + cut.pending.decode() == text
    assert text.endswith(cut.typed)
    assert not any(map(str.isspace, cut.typed))
    before = text.removesuffix(cut.typed)
    assert not before or before[-1].isspace()
    assert cut.typed.endswith(cut.word)
    assert tokenizer.encode(cut.context) + tokenizer.encode(cut.pending.decode()) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("kind", "text", "context", "pending"),
    [
        ("bpe", "the ca", "the", b" ca"),
        ("bpe", "the ", "the", b" "),
        ("bpe", "the", "", b"the"),
        ("bpe", "the\nca", "the\n", b"ca"),
        ("bpe", "the\t", "the\t", b""),
        ("bpe", "", "", b""),
        ("char", "the ca", "the ca", b""),
        ("byte", "the ", "the ", b""),
        ("word", "the ca", "the ", b"ca"),
        ("word", "the\u2028ca", "the\u2028", b"ca"),
    ],
)
def test_where_a_text_is_cut(kind: str, text: str, context: str, pending: bytes) -> None:
    cut = SPELLINGS[kind].cut(text)
    assert (cut.context, cut.pending) == (context, pending)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("say “the", "the"),
        ('"th', "th"),
        ("well-kn", "well-kn"),
        ("don'", "don'"),
        ("'tis", "tis"),
        ("end,", ""),
        ("a,b", "b"),
        ("3.1", "3.1"),
        ("(é", "é"),
        ("the ", ""),
    ],
)
def test_the_part_of_what_was_typed_that_is_a_word(text: str, word: str) -> None:
    assert SPELLINGS["bpe"].cut(text).word == word
    assert SPELLINGS["char"].cut(text).word == word


def test_what_was_typed_is_normalized_as_the_vocabulary_is() -> None:
    spelling = Spelling(building.tokenizer("bpe", lowercase=True))
    assert spelling.cut("The CA").pending == b" ca"
    assert spelling.cut("The CA").typed == "CA"


@pytest.mark.parametrize(
    ("text", "start", "word"),
    [
        ("the", 0, "the"),
        ("the cat", 0, "the"),
        ("don't!", 0, "don't"),
        ("well-known,", 0, "well-known"),
        ("well--known", 0, "well"),
        ("the-", 0, "the-"),
        ("the. ", 0, "the"),
        ("3.14%", 0, "3.14"),
        ("the”", 0, "the"),
        ("e\u0301t", 0, "e\u0301t"),
        ("caf\ufffd", 0, "caf\ufffd"),
        ("ca\ufffdf", 0, "ca"),
        ("a,b", 2, "a,b"),
        ("", 0, ""),
    ],
)
def test_where_a_word_ends(text: str, start: int, word: str) -> None:
    assert text[: word_end(text, start)] == word


@pytest.mark.parametrize("word", ["the", "é", "3", "don't", "u.s", "مرحبا", "日本"])
def test_words_may_be_offered(word: str) -> None:
    assert is_word(word)


@pytest.mark.parametrize("word", ["", ".", "--", "'", "…", "😀", "caf\ufffd", " "])
def test_what_is_no_word_is_not_offered(word: str) -> None:
    assert not is_word(word)
