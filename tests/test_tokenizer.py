"""Text <-> ids: what is lossless, what a vocabulary consists of, and that no text can spell a control token."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

import building
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from lstmlm.config import TOKENIZERS as KINDS
from lstmlm.config import TokenizerConfig
from lstmlm.corpus import Piece, open_corpus
from lstmlm.errors import ArtefactError, DataError
from lstmlm.tokenizer import EOS, UNK, Tokenizer

EACH_KIND = pytest.mark.parametrize("kind", KINDS)
HOSTILE = "<eos> <unk> a<eos>b </s> <EOS> <eo s> <script>alert('<eos>')</script> \x1b[31m<unk>\x1b[0m <eos>\n<eos>\x00<unk>"
WIDE = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab <>\n\t é\u2028😀'")), max_size=40)
BUILT = {kind: building.tokenizer(kind) for kind in KINDS}


def documents(text: str) -> list[Piece]:
    return [Piece(text, ends_document=True)]


def ids_of(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[int]:
    return [token for part in tokenizer.encode_documents(pieces) for token in part.ids]


def names(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.describe(token) for token in range(tokenizer.vocabulary_size)]


# --- round trips -----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["byte", "bpe"]), WIDE)
@example("bpe", HOSTILE)
@example("byte", "")
def test_byte_and_bpe_are_lossless_for_any_text(kind: str, text: str) -> None:
    tokenizer = BUILT[kind]
    assert tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert b"".join(map(tokenizer.spelling, tokenizer.encode(text))) == text.encode()


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from(sorted(set(building.text()))), max_size=60))
def test_char_is_lossless_for_known_characters(text: str) -> None:
    assert BUILT["char"].decode(BUILT["char"].encode(text)) == text
    assert len(BUILT["char"].encode(text)) == len(text)


def test_char_says_what_it_does_not_know() -> None:
    tokenizer = BUILT["char"]
    ids = tokenizer.encode("the 😀é cat")
    assert [tokenizer.describe(token) for token in ids] == ["t", "h", "e", " ", UNK, UNK, " ", "c", "a", "t"]
    assert tokenizer.decode(ids) == "the \ufffd\ufffd cat"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["the", "cat", "zebra", "\n", "  ", "\t", "\u2028", "<eos>"]), max_size=20))
def test_word_keeps_words_and_lines(parts: list[str]) -> None:
    tokenizer = BUILT["word"]
    text = " ".join(parts)
    known = {"the", "cat"}
    expected = [" ".join(w if w in known else UNK for w in line.split()) for line in text.split("\n")]
    assert tokenizer.decode(tokenizer.encode(text)) == "\n".join(expected)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_streamed_pieces_join_to_the_whole_for_any_ids(kind: str, data: st.DataObject) -> None:
    tokenizer = BUILT[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1), max_size=30))
    decoder = tokenizer.decoder()
    pieces = [decoder.push(token) for token in ids]
    last = decoder.finish()
    assert "".join(pieces) + last == tokenizer.decode(ids)
    if kind in ("byte", "bpe"):
        assert tokenizer.decode(ids) == b"".join(map(tokenizer.spelling, ids)).decode(errors="replace")
    else:
        assert last == ""


def test_a_character_is_streamed_when_it_is_whole() -> None:
    tokenizer = BUILT["byte"]
    decoder = tokenizer.decoder()
    assert [decoder.push(token) for token in tokenizer.encode("é😀")] == ["", "é", "", "", "", "😀"]
    assert decoder.push(codecs.BOM_UTF8[0]) == ""
    assert decoder.finish() == "\ufffd"


def test_words_are_streamed_with_the_space_before_them() -> None:
    tokenizer = BUILT["word"]
    decoder = tokenizer.decoder()
    assert [decoder.push(token) for token in tokenizer.encode("the cat\nsat qqq")] == ["the", " cat", "\n", "sat", " <unk>"]


# --- control tokens --------------------------------------------------------------------------------------------------


@EACH_KIND
@pytest.mark.parametrize("lowercase", [False, True])
def test_no_text_can_spell_a_control_token(kind: str, lowercase: bool) -> None:
    tokenizer = building.tokenizer(kind, HOSTILE * 50 + building.text(), lowercase=lowercase)
    for text in (HOSTILE, *HOSTILE.split(), EOS, UNK, f" {EOS}", f"{EOS} ", EOS.upper(), f"s {UNK} {EOS} t"):
        ids = tokenizer.encode(text)
        assert ids.count(tokenizer.eos) == (text.count("\n") if kind == "word" else 0), text
        if kind == "char":
            assert tokenizer.unk not in ids
    assert tokenizer.spelling(tokenizer.eos) == (b"\n" if kind == "word" else b"")


def test_a_word_model_reads_a_literal_eos_as_unknown() -> None:
    tokenizer = building.tokenizer("word", f"{EOS} the cat\n" * 9)
    unk, the, cat = (tokenizer.encode(word)[0] for word in (UNK, "the", "cat"))
    assert unk == tokenizer.unk
    assert tokenizer.encode(f"the {EOS} cat\t{EOS}\n{EOS}") == [the, unk, cat, unk, tokenizer.eos, unk]
    assert tokenizer.encode(f"{EOS}the") == [unk]
    assert names(tokenizer).count(EOS) == 1


@EACH_KIND
def test_tokens_are_described_for_eyes(kind: str) -> None:
    tokenizer = BUILT[kind]
    assert tokenizer.describe(tokenizer.eos) == EOS
    assert len(set(names(tokenizer))) == tokenizer.vocabulary_size


@EACH_KIND
def test_a_string_that_is_no_text_is_refused(kind: str) -> None:
    with pytest.raises(DataError, match=r"not UTF-8.*U\+DCFF, at 4"):
        BUILT[kind].encode("the \udcff")


# --- vocabularies ----------------------------------------------------------------------------------------------------


def test_words_by_falling_frequency_then_code_point() -> None:
    text = "b b b a a c c é é Z Z once\n" + "b\n"
    tokenizer = building.tokenizer("word", text)
    # b 4; Z, a, c, é and the line ends 2 each, `<eos>` by its code points before them; once is unknown
    assert names(tokenizer) == ["b", EOS, "Z", "a", "c", "é", UNK]


def test_characters_by_falling_frequency_then_code_point() -> None:
    tokenizer = building.tokenizer("char", "bbb aa cc\n")
    assert names(tokenizer) == ["b", " ", "a", "c", "\n", EOS, UNK]


@settings(max_examples=30, deadline=None)
@given(WIDE.filter(bool))
def test_char_has_a_symbol_for_each_code_point_and_two_more(text: str) -> None:
    assert building.tokenizer("char", text).vocabulary_size == len(set(text)) + 2


@pytest.mark.parametrize(
    ("text", "min_count", "expected"),
    [
        ("a a b\n", None, {"a"}),
        (f"a a b {UNK}\n", None, {"a", "b"}),
        ("a a b\n", 1, {"a", "b"}),
        (f"a a b b b {UNK}\n", 3, {"b"}),
    ],
)
def test_the_least_count_of_a_word(text: str, min_count: int | None, expected: set[str]) -> None:
    tokenizer = building.tokenizer("word", text, min_count=min_count)
    assert set(names(tokenizer)) == expected | {EOS, UNK}


@pytest.mark.parametrize("kind", ["word", "char"])
@pytest.mark.parametrize("size", [3, 5, 10])
def test_a_limited_vocabulary_keeps_the_most_frequent(kind: str, size: int) -> None:
    limited = building.tokenizer(kind, vocabulary_size=size)
    assert limited.vocabulary_size == size
    ranked = [name for name in names(BUILT[kind]) if name not in (EOS, UNK)]
    assert [name for name in names(limited) if name not in (EOS, UNK)] == ranked[: size - 2]


def test_a_byte_vocabulary_is_always_the_same() -> None:
    tokenizer = BUILT["byte"]
    assert tokenizer.vocabulary_size == 257
    assert [tokenizer.spelling(token) for token in range(256)] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.eos == 256
    assert tokenizer.fingerprint == building.tokenizer("byte", "other").fingerprint


@pytest.mark.parametrize("size", [258, 280, 300])
def test_bpe_has_the_size_asked_for_with_eos_in_it(size: int) -> None:
    tokenizer = building.tokenizer("bpe", building.text() * 3, vocabulary_size=size)
    assert tokenizer.vocabulary_size == size
    assert tokenizer.eos == size - 1
    assert tokenizer.unk is None
    assert [tokenizer.spelling(token) for token in range(256)] == [bytes([byte]) for byte in range(256)]


def test_bpe_stops_where_there_is_nothing_left_to_join() -> None:
    assert building.tokenizer("bpe", "ab", vocabulary_size=5000).vocabulary_size == 258


def test_no_bpe_token_crosses_white_space_and_line_ends_stand_alone() -> None:
    spaced = "  a  \n\n\n b\t\tc \u2028\u2028 \x85\x85 . . , , \r\r' ' it's  1 1\n\n" * 50
    tokenizer = building.tokenizer("bpe", building.text() + spaced, vocabulary_size=400)
    for token in range(256, tokenizer.vocabulary_size):
        spelled = tokenizer.spelling(token).decode(errors="surrogateescape")
        assert "\n" not in spelled
        inner = spelled.removeprefix(" ") if spelled.strip() else spelled[1:-1]
        assert not any(map(str.isspace, inner)), spelled
    newline = tokenizer.encode("\n")
    assert tokenizer.encode("a\n\n b\n").count(newline[0]) == 3


@settings(max_examples=100, deadline=None)
@given(WIDE, st.sampled_from([" ", "\n", "\t", "\u2028", "\u3000"]), WIDE)
def test_bpe_may_be_cut_before_any_white_space(left: str, space: str, right: str) -> None:
    """What completion relies on: the ids before a white space do not depend on what follows."""
    tokenizer = BUILT["bpe"]
    assert tokenizer.encode(left + space + right) == tokenizer.encode(left) + tokenizer.encode(space + right)


@EACH_KIND
def test_training_twice_gives_the_same_file_and_pieces_do_not_matter(kind: str) -> None:
    lines = building.text().splitlines(keepends=True)
    config = BUILT[kind].config
    again = Tokenizer.train(config, [*map(Piece, lines), Piece("", ends_document=True)])
    assert again.to_json() == BUILT[kind].to_json()
    assert again.fingerprint == BUILT[kind].fingerprint


@pytest.mark.parametrize("kind", ["word", "char"])
def test_a_text_of_nothing_makes_no_vocabulary(kind: str) -> None:
    with pytest.raises(DataError, match="empty"):
        Tokenizer.train(TokenizerConfig(kind=kind), documents(""))


# --- tokenizer.json --------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(KINDS), WIDE)
@example("word", HOSTILE)
@example("char", HOSTILE)
@example("bpe", HOSTILE)
def test_the_file_loads_in_the_library_and_gives_the_ids(
    tmp_path_factory: pytest.TempPathFactory, kind: str, text: str
) -> None:
    tokenizer = BUILT[kind]
    path = tmp_path_factory.mktemp("json") / "tokenizer.json"
    path.write_bytes(tokenizer.to_json())
    backend = Backend.from_file(str(path))
    if kind == "word":  # line by line, and <eos> for each line end
        expected: list[int] = []
        for number, line in enumerate(text.split("\n")):
            expected += [tokenizer.eos] * (number > 0) + backend.encode(line, add_special_tokens=False).ids
        assert tokenizer.encode(text) == expected
    else:
        assert tokenizer.encode(text) == backend.encode(text, add_special_tokens=False).ids


@EACH_KIND
def test_loading_back(kind: str) -> None:
    tokenizer = BUILT[kind]
    loaded = Tokenizer.load(tokenizer.to_json(), tokenizer.config)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(HOSTILE) == tokenizer.encode(HOSTILE)
    assert (loaded.eos, loaded.unk, loaded.vocabulary_size) == (tokenizer.eos, tokenizer.unk, tokenizer.vocabulary_size)


@EACH_KIND
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"model": 1}', b"[" * 5000])
def test_what_is_no_tokenizer_is_refused(kind: str, data: bytes) -> None:
    with pytest.raises(ArtefactError, match=r"tokenizer\.json"):
        Tokenizer.load(data, TokenizerConfig(kind=kind))


# --- normalization ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({"lowercase": True}, "The CAT", "the cat"),
        ({"normalization": "nfc"}, "e\u0301\ufb01", "\u00e9\ufb01"),
        ({"normalization": "nfkc"}, "e\u0301\ufb01", "\u00e9fi"),
        ({"normalization": "nfkc", "lowercase": True}, "\uff34he", "the"),
    ],
)
def test_normalization_is_recorded_and_not_called_lossless(
    kind: str, config: dict[str, str | bool], text: str, expected: str
) -> None:
    tokenizer = building.tokenizer(kind, building.text() + text + "\u00e9fi\ufb01", **config)
    assert not tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalize(text) == expected
    loaded = Tokenizer.load(tokenizer.to_json(), tokenizer.config)
    assert loaded.encode(text) == tokenizer.encode(expected)
    assert not loaded.lossless


# --- documents -------------------------------------------------------------------------------------------------------


def spelled(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text` in which `|` stands for `<eos>`."""
    parts = text.split("|")
    ids = tokenizer.encode(parts[0])
    for part in parts[1:]:
        ids += [tokenizer.eos, *tokenizer.encode(part)]
    return ids


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize(
    ("text", "expected"), [("the cat", "the cat|"), ("the cat\n", "the cat\n|"), ("a\n\nb", "a\n\nb|"), ("\n", "\n|")]
)
def test_a_document_is_its_text_and_one_eos(kind: str, text: str, expected: str) -> None:
    assert ids_of(BUILT[kind], documents(text)) == spelled(BUILT[kind], expected)
    assert ids_of(BUILT[kind], [Piece(text), Piece("", ends_document=True, separator="\n")]) == spelled(
        BUILT[kind], expected
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("the cat", "the cat|"), ("the cat\n", "the cat|"), ("the\n\ncat", "the||cat|"), ("\n", "|"), ("the \n a\n", "the|a|")],
)
def test_in_a_word_model_every_line_is_closed_by_one_eos(text: str, expected: str) -> None:
    assert ids_of(BUILT["word"], documents(text)) == spelled(BUILT["word"], expected)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(
        st.tuples(st.lists(st.sampled_from(["the\n", "cat sat\n", "\n"]), max_size=4), st.sampled_from(["", "the", "a"])),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
def test_ends_do_not_depend_on_how_a_text_is_cut_into_pieces(
    kind: str, texts: list[tuple[list[str], str]], data: st.DataObject
) -> None:
    tokenizer = BUILT[kind]
    lines_of = [[*lines, last] if last or not lines else lines for lines, last in texts]
    pieces: list[Piece] = []
    expected: list[int] = []
    line_ends: list[int] = []
    document_ends: list[int] = []
    for lines in lines_of:
        cuts = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
        held = ""
        for number, (line, cut) in enumerate(zip(lines, cuts, strict=True)):
            held += line
            if cut:
                pieces.append(Piece(held))
                held = ""
            expected += tokenizer.encode(line)
            last = number == len(lines) - 1
            if last and not (kind == "word" and (line.endswith("\n") or not line)):
                expected.append(tokenizer.eos)
            if line.endswith("\n") or (last and (line or kind != "word")):
                line_ends.append(len(expected))
        pieces.append(Piece(held, ends_document=True, separator="\n"))
        document_ends.append(len(expected))
    parts = list(tokenizer.encode_documents(pieces))
    assert [token for part in parts for token in part.ids] == expected
    starts = [sum(len(part.ids) for part in parts[:number]) for number in range(len(parts))]
    assert [start + end for start, part in zip(starts, parts, strict=True) for end in part.document_ends] == document_ends
    found = [start + end for start, part in zip(starts, parts, strict=True) for end in part.line_ends]
    assert found == line_ends


def test_the_same_ends_over_batches_of_a_megabyte() -> None:
    lines = "the cat sat on the mat .\n" * 300
    whole = [Piece(lines * 200, ends_document=True)]
    many = [*[Piece(lines)] * 200, Piece("", ends_document=True)]
    for kind in ("word", "bpe"):
        encoded = [list(BUILT[kind].encode_documents(pieces)) for pieces in (whole, many)]
        counts = [(sum(len(part.ids) for part in e), sum(len(part.line_ends) for part in e)) for e in encoded]
        assert counts[0] == counts[1]
        assert counts[0][1] == 60_000


def test_the_vocabulary_comes_from_the_training_split_only(tmp_path: Path) -> None:
    for split, text in (("train", building.text()), ("valid", "zebra zebra zebra\n"), ("test", "quokka quokka\n")):
        (tmp_path / f"{split}.txt").write_text(text)
    corpus = open_corpus([tmp_path])
    for kind in KINDS:
        config = BUILT[kind].config
        assert Tokenizer.train(config, corpus.pieces("train")).fingerprint == BUILT[kind].fingerprint
