"""Ids on disk: what was written comes back, and anything half-done or changed does not count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm.corpus import Piece, survey
from lstmlm.corpus.reading import into_documents
from lstmlm.errors import ArtefactError, DataError, LstmlmError, StorageError
from lstmlm.token_store import TokenCounts, build_store, count_tokens, id_type, open_store, read_text
from lstmlm.tokenizer import Tokenizer

PIECES = [Piece(building.text()), Piece("", ends_document=True), Piece("the zebra\n", ends_document=True)]

LARGE = ("x" * 999 + "\n") * 1200
"""More text than is encoded at once."""


def build(path: Path, tokenizer: Tokenizer, pieces: list[Piece] = PIECES) -> None:
    for _ in build_store(path, [pieces], tokenizer):
        pass


def ids_of(tokenizer: Tokenizer, pieces: list[Piece] = PIECES) -> list[int]:
    return [token for part in tokenizer.encode_documents(pieces) for token in part.ids]


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_ids_counts_and_hash_come_back(tmp_path: Path, kind: str) -> None:
    tokenizer = building.tokenizer(kind)
    build(tmp_path / "train", tokenizer)
    store = open_store(tmp_path / "train")
    ids = ids_of(tokenizer)
    assert store.ids.tolist() == ids
    assert store.text == survey(PIECES)
    assert store.tokens == count_tokens(tokenizer, PIECES)
    assert store.tokens.tokens == len(ids)
    assert store.tokens.tokens_eos == ids.count(tokenizer.eos)
    assert store.tokens.tokens_unknown == (0 if tokenizer.unk is None else ids.count(tokenizer.unk))
    assert store.tokens.tokens_unknown == {"word": 1, "char": 1}.get(kind, 0)  # zebra; its z
    assert store.tokenizer_fingerprint == tokenizer.fingerprint


def test_counts_by_hand() -> None:
    tokenizer = building.tokenizer("word", "a a b b\n")
    assert count_tokens(tokenizer, [Piece("a b\n\nx a", ends_document=True)]) == TokenCounts(7, 3, 1)
    assert count_tokens(tokenizer, []) == TokenCounts(0, 0, 0)


@pytest.mark.parametrize(("size", "width"), [(2, 2), (65_535, 2), (65_536, 2), (65_537, 4), (1_000_000, 4)])
def test_the_type_holds_every_id(size: int, width: int) -> None:
    dtype = id_type(size)
    assert dtype.itemsize == width
    assert dtype.byteorder in ("<", "=")
    assert int(np.array([size - 1], dtype=dtype)[0]) == size - 1


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_stores_of_vocabularies_around_two_bytes(tmp_path: Path, size: int) -> None:
    characters = [chr(code) for code in range(0x10000, 0x10000 + size - 2)]
    text = "".join(characters)
    tokenizer = building.tokenizer("char", text)
    assert tokenizer.vocabulary_size == size
    pieces = [Piece(text + "?"), Piece("", ends_document=True)]
    build(tmp_path / "train", tokenizer, pieces)
    store = open_store(tmp_path / "train")
    assert store.ids.dtype == id_type(size)
    assert tokenizer.decode(store.ids.tolist()) == text + "\ufffd"
    assert sorted(store.ids.tolist()) == list(range(size))
    assert tokenizer.unk == size - 1


def test_progress_rises_to_the_whole(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("word")
    pieces = [Piece(LARGE, ends_document=True)] * 3
    steps = list(build_store(tmp_path / "train", [pieces], tokenizer))
    assert [(step.tokens, step.text_bytes) for step in steps] == [(2_400 * n, 1_200_000 * n) for n in (1, 2, 3)]


def failing(error: BaseException) -> Iterator[Piece]:
    yield Piece(LARGE)
    raise error


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("error", [DataError("bad text"), KeyboardInterrupt()])
def test_a_stop_half_way_leaves_no_store(tmp_path: Path, again: bool, error: BaseException) -> None:
    tokenizer = building.tokenizer("word")
    if again:  # with as many tokens as the one that is not finished
        build(tmp_path / "train", tokenizer, [Piece(LARGE)])
    with pytest.raises(type(error)):
        for _ in build_store(tmp_path / "train", [failing(error)], tokenizer):
            pass
    with pytest.raises(ArtefactError):
        open_store(tmp_path / "train")


def test_giving_up_half_way_leaves_no_store(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("word")
    build(tmp_path / "train", tokenizer)
    steps = build_store(tmp_path / "train", [[Piece(LARGE, ends_document=True)] * 3], tokenizer)
    next(steps)
    del steps
    with pytest.raises(ArtefactError):
        open_store(tmp_path / "train")


def test_a_text_without_a_token_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        build(tmp_path / "train", building.tokenizer("word"), [Piece("")])
    with pytest.raises(ArtefactError):
        open_store(tmp_path / "train")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing"):
        build(tmp_path / "missing" / "train", building.tokenizer("word"))


@pytest.mark.parametrize("damage", ["shorter", "longer", "gone", "empty"])
def test_a_file_of_another_size_is_refused(tmp_path: Path, damage: str) -> None:
    build(tmp_path / "train", building.tokenizer("word"))
    binary = tmp_path / "train.bin"
    data = binary.read_bytes()
    binary.unlink()
    if damage != "gone":
        binary.write_bytes({"shorter": data[:-2], "longer": data + b"\0\0", "empty": b""}[damage])
    with pytest.raises(ArtefactError) as caught:
        open_store(tmp_path / "train")
    assert str(binary) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"complete": False},
        {"tokens": {"tokens": 5, "tokens_eos": 1, "tokens_unknown": 0}},
        {"tokens": {"tokens": "many"}},
        {"tokens": None},
        {"text": {"pages": 3}},
        {"dtype": "<u4"},
        {"dtype": "nonsense"},
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    build(tmp_path / "train", building.tokenizer("word"))
    sidecar = tmp_path / "train.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    with pytest.raises(ArtefactError):
        open_store(tmp_path / "train")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_a_description_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    build(tmp_path / "train", building.tokenizer("word"))
    (tmp_path / "train.json").write_bytes(data)
    with pytest.raises(LstmlmError) as caught:
        open_store(tmp_path / "train")
    assert caught.value.exit_code == 4


def test_files_are_kept_apart(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("char")
    texts = ["the cat", "a dog\n", "the mat"]
    for _ in build_store(tmp_path / "train", [[Piece(text, ends_document=True)] for text in texts], tokenizer):
        pass
    store = open_store(tmp_path / "train", verify=True)
    assert [tokenizer.decode(ids.tolist()) for ids in store.files] == texts
    size = tokenizer.vocabulary_size
    assert store.count_symbols(size).tolist() == np.bincount(store.ids, minlength=size).tolist()


def test_an_altered_file_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("char")
    for _ in build_store(tmp_path / "train", [[Piece("the cat", ends_document=True)]], tokenizer):
        pass
    path = tmp_path / "train.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="altered"):
        open_store(tmp_path / "train", verify=True)


LINES = st.lists(st.sampled_from(["a cat", "\n", "\n\n", " ", "the dog\n", "x", "\u00e9\n"]), max_size=12).map("".join)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["word", "char", "byte", "bpe"]), files=st.lists(LINES, min_size=1, max_size=3), data=st.data())
def test_lines_are_those_of_the_tokens_and_add_up_to_the_text(kind: str, files: list[str], data: st.DataObject) -> None:
    parts = []
    for text in files:
        lines, blocks = text.splitlines(keepends=True), []
        while lines:
            size = data.draw(st.integers(1, len(lines)))
            blocks.append("".join(lines[:size]))
            lines = lines[size:]
        parts.append(list(into_documents(blocks, data.draw(st.sampled_from(["file", "blank-line"])))))
    found = read_text(building.tokenizer(kind), parts)
    if not len(found.ids_N):
        return
    assert len(found.line_bytes_L) == len(found.line_words_L) == len(found.line_ends_L)
    assert found.line_bytes_L.sum() == found.counts.bytes
    assert found.line_words_L.sum() == found.counts.words
    for ends in (found.file_ends_F, found.document_ends_D, found.line_ends_L):
        assert ends[-1] == len(found.ids_N)
        assert (np.diff(ends, prepend=0) > 0).all()
    for mode in ("stream", "document", "line"):
        assert np.concatenate(found.segments(mode)).tolist() == found.ids_N.tolist()
