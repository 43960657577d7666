"""Splits for a source that has none: a function of the text and the weights, disjoint, covering, at the right places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import building
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm.config import SPLITS, CorpusConfig
from lstmlm.corpus import Piece, open_corpus, open_texts, survey
from lstmlm.corpus.reading import into_documents, split_lines
from lstmlm.corpus.splitting import assign_documents, plan_split
from lstmlm.errors import DataError

WEIGHTS = ((90, 5, 5), (90, 10, 0), (1, 1, 1), (8, 1, 1), (50, 49, 1))


def reader(*pieces: Piece) -> Callable[[], Iterator[Piece]]:
    return lambda: iter(pieces)


def single(text: str) -> Callable[[], Iterator[Piece]]:
    """One document, in pieces of three lines."""
    lines = split_lines(text)
    parts = ["".join(lines[first : first + 3]) for first in range(0, len(lines), 3)]
    return reader(*map(Piece, parts), Piece("", ends_document=True))


def parts_of(read: Callable[[], Iterator[Piece]], weights: tuple[int, ...]) -> dict[str, list[Piece]]:
    plan = plan_split(read, weights, "it")
    return {split: list(plan.part(read, split)) for split in SPLITS if plan.has(split)}


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text + piece.separator for piece in pieces)


# --- several documents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("count", [100, 101, 237, 1000])
def test_documents_are_shared_out_in_proportion_and_spread_over_the_source(count: int, weights: tuple[int, ...]) -> None:
    owners = assign_documents(count, weights)
    assert len(owners) == count
    for index, weight in enumerate(weights):
        assert abs(owners.count(index) - count * weight / sum(weights)) <= 1
        for half in (owners[: count // 2], owners[count // 2 :]):
            assert abs(half.count(index) - len(half) * weight / sum(weights)) <= 2


@pytest.mark.parametrize(
    ("count", "weights", "expected"),
    [
        (2, (90, 5, 5), [0, 1]),
        (3, (90, 5, 5), [0, 1, 2]),
        (4, (90, 5, 5), [0, 0, 1, 2]),
        (2, (90, 10, 0), [0, 1]),
        (3, (90, 10, 0), [0, 0, 1]),
    ],
)
def test_very_few_documents_still_give_validation(count: int, weights: tuple[int, ...], expected: list[int]) -> None:
    assert list(assign_documents(count, weights)) == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 400), st.sampled_from(WEIGHTS))
def test_training_and_validation_always_get_a_document(count: int, weights: tuple[int, ...]) -> None:
    owners = assign_documents(count, weights)
    assert {0, 1} <= set(owners)
    assert (2 in owners) == (weights[2] > 0 and count > 2)
    assert owners == assign_documents(count, weights)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.sampled_from(WEIGHTS), st.booleans())
def test_every_document_is_whole_in_exactly_one_split(count: int, weights: tuple[int, ...], in_parts: bool) -> None:
    pieces = []
    for number in range(count):
        pieces += [Piece(f"begin {number}\n")] * in_parts + [Piece(f"end {number}\n", ends_document=True, separator="\n")]
    parts = parts_of(reader(*pieces), weights)
    assert sorted(map(str, pieces)) == sorted(str(piece) for part in parts.values() for piece in part)
    for part in parts.values():
        assert part == [piece for piece in pieces if piece in part]  # in order
        assert part[-1].ends_document


def test_documents_after_blank_lines_are_split_as_documents(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"document {number}\nits second line\n\n\n" for number in range(40)))
    corpus = open_corpus([path], CorpusConfig(documents="blank-line"))
    counts = {split: survey(corpus.pieces(split)) for split in corpus.splits}
    assert {split: count.documents for split, count in counts.items()} == {"train": 36, "valid": 2, "test": 2}
    assert sum(count.bytes for count in counts.values()) == path.stat().st_size


# --- a single document -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS)
def test_one_document_is_cut_at_the_line_ends_nearest_to_the_shares(weights: tuple[int, ...]) -> None:
    text = building.text(400)
    parts = {split: joined(part) for split, part in parts_of(single(text), weights).items()}
    assert "".join(parts.values()) == text
    assert list(parts) == [split for split, weight in zip(SPLITS, weights, strict=True) if weight]
    longest_line = max(map(len, split_lines(text)))
    for (split, part), weight in zip(parts.items(), weights, strict=False):
        assert part.endswith("\n")
        assert abs(len(part) - len(text) * weight / sum(weights)) <= longest_line, split


def test_the_nearest_line_end_may_be_before_or_after() -> None:
    parts = parts_of(single("x\n" * 10), (1, 1, 1))  # the thirds are at 6.7 and 13.3
    assert [len(joined(part)) for part in parts.values()] == [6, 8, 6]


@settings(max_examples=150, deadline=None)
@given(st.text("ab \n\u2028é", min_size=1, max_size=80), st.sampled_from(WEIGHTS))
def test_any_text_is_covered_once_in_order_or_refused(text: str, weights: tuple[int, ...]) -> None:
    if "\n" not in text[:-1]:
        with pytest.raises(DataError, match="single line"):
            parts_of(single(text), weights)
        return
    parts = parts_of(single(text), weights)
    assert "".join(map(joined, parts.values())) == text
    assert {"train", "valid"} <= parts.keys()
    assert all(joined(part) and part[-1].ends_document for part in parts.values())
    assert all(joined(parts[split]).endswith("\n") for split in list(parts)[:-1])
    assert ("test" in parts) <= (weights[2] > 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.lists(st.sampled_from(["a\n", "bb\n"]), min_size=2, max_size=20), st.integers(0, 9))
def test_blank_lines_around_one_document_are_covered_too(before: int, lines: list[str], after: int) -> None:
    text = "\n" * before + "".join(lines) + "\n" * after
    pieces = list(into_documents([text], "blank-line"))
    parts = parts_of(reader(*pieces), (90, 5, 5))
    assert "".join(map(joined, parts.values())) == text
    assert [sum(piece.ends_document for piece in part) for part in parts.values()] == [1] * len(parts)


def test_the_pieces_of_a_text_do_not_change_its_splits() -> None:
    text = building.text(90)
    whole = reader(Piece(text), Piece("", ends_document=True))
    ended = reader(Piece(text, ends_document=True))
    results = [
        {split: joined(part) for split, part in parts_of(read, (90, 5, 5)).items()} for read in (single(text), whole, ended)
    ]
    assert results[0] == results[1] == results[2]


def test_two_lines_are_training_and_validation(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one\ntwo")
    corpus = open_corpus([tmp_path / "text.txt"])
    assert corpus.splits == ("train", "valid")
    assert [piece.text for piece in corpus.pieces("train")] == ["one\n", ""]
    assert [piece.text for piece in corpus.pieces("valid")] == ["two", ""]


def test_reading_a_split_does_not_read_beyond_it(tmp_path: Path) -> None:
    pieces = [Piece("line\n") for _ in range(100)]
    plan = plan_split(reader(*pieces, Piece("", ends_document=True)), (50, 25, 25), "it")
    taken = []

    def watched() -> Iterator[Piece]:
        for piece in pieces:
            taken.append(piece)
            yield piece

    assert joined(list(plan.part(watched, "train"))) == "line\n" * 50
    assert len(taken) <= 51


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="it is empty"):
        plan_split(reader(), (90, 5, 5), "it")


def test_a_text_knows_which_split_and_which_documents_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/train.txt", "data/valid.txt", "data/test.txt", "whole.txt"):
        (tmp_path / name).write_text("the cat\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "the cat"}\n' * 40)
    folder, whole, rows = (str(tmp_path / name) for name in ("data", "whole.txt", "rows.jsonl"))
    rule = CorpusConfig(documents="blank-line")

    def known(*sources: str, split: str | None = None) -> tuple[str | None, str | None]:
        corpus = open_texts(sources, rule, split)
        return corpus.split_of_sources("test"), corpus.document_rule("test")

    assert known(folder) == ("test", "blank-line")
    assert known(folder, split="valid") == ("valid", "blank-line")
    assert known(whole) == (None, "blank-line")
    assert known(folder, whole) == (None, "blank-line")
    assert known(rows) == (None, "row")
    assert known(rows, whole) == (None, None)
    cut = open_corpus([rows], rule)
    assert {(cut.split_of_sources(split), cut.document_rule(split)) for split in cut.splits} == {
        ("train", "row"),
        ("valid", "row"),
        ("test", "row"),
    }
