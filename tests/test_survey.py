"""Counts, hashes, and how much of a held-out text stands in the training text."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lstmlm.config import CorpusConfig
from lstmlm.corpus import Overlap, Piece, Survey, TextCounts, measure_overlaps, open_texts, survey

TEXTS = st.text(st.sampled_from("ab \t\n\u2028é😀\0"), max_size=60)
LINES = [f"{name} sat down on the {thing}\n" for name in ("Ann", "Bob", "Cat", "Dan") for thing in ("mat", "rug")]


def document(text: str) -> list[Piece]:
    return [Piece(text, ends_document=True)]


def overlap(held_out: list[Piece], training: list[Piece]) -> Overlap:
    """Of one held-out text; the empty one beside it must not disturb."""
    return measure_overlaps({"empty": [], "text": held_out}, training)["text"]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(["file", "blank-line"]))
@example("a", "file")
@example("\n\n", "blank-line")
@example("\n\n ", "blank-line")
def test_counts_are_those_of_the_file(tmp_path_factory: pytest.TempPathFactory, text: str, rule: str) -> None:
    text = "x" + text  # a source of white space only is an error
    path = tmp_path_factory.mktemp("counts") / "text.txt"
    path.write_bytes(text.encode())
    counts = survey(open_texts([path], CorpusConfig(documents=rule), None).pieces("test"))
    assert counts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert counts.bytes == path.stat().st_size
    assert counts.chars == len(text)
    assert counts.words == len(text.split())
    assert counts.lines == len(text.removesuffix("\n").split("\n"))
    expected = 1 if rule == "file" else len([block for block in re.split(r"\n(?:[^\S\n]*\n)+", text) if block.strip()])
    assert counts.documents == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("a b"), max_size=6).map(lambda line: line + "\n"), max_size=12), st.integers(1, 4))
def test_the_pieces_of_a_text_do_not_change_its_counts(lines: list[str], size: int) -> None:
    pieces = [Piece("".join(lines[first : first + size])) for first in range(0, len(lines), size)]
    assert survey([*pieces, Piece("", ends_document=True)]) == survey(document("".join(lines)))


def test_an_empty_text_counts_as_nothing() -> None:
    assert survey([]) == TextCounts(sha256=hashlib.sha256(b"").hexdigest())


def test_a_survey_passes_every_piece_on_and_pools_texts() -> None:
    pieces = [Piece("one two\n"), Piece("three", ends_document=True, separator="\n")]
    watcher = Survey()
    assert list(watcher.watch(pieces)) == pieces
    assert list(watcher.watch(pieces)) == pieces
    assert watcher.counts.sha256 == hashlib.sha256(b"one two\nthree\n" * 2).hexdigest()
    assert (watcher.counts.words, watcher.counts.lines, watcher.counts.documents) == (6, 4, 2)


def test_what_a_person_should_know_is_noted() -> None:
    counts = survey(document("a \ufffd b <eos>\n<eos> c"))
    assert (counts.replaced, counts.literal_eos) == (1, 2)
    assert [len(counts.notes(kind)) for kind in ("word", "bpe")] == [2, 1]
    assert survey(document("clean")).notes("word") == []


# --- overlap ---------------------------------------------------------------------------------------------------------


def test_identical_and_foreign_texts() -> None:
    text = "".join(LINES)
    same = overlap(document(text), document(text))
    assert (same.lines, same.ngrams) == (1.0, 1.0)
    other = overlap(document(text), document("nothing of it is said in here, not at all\n" * 9))
    assert (other.lines, other.ngrams) == (0.0, 0.0)


def test_lines_are_counted_exactly_and_as_often_as_they_occur() -> None:
    held_out = [LINES[0], LINES[0], LINES[1], LINES[2], "too short\n"]
    found = overlap(document("".join(held_out)), document(LINES[0] + "too short\n" + LINES[3]))
    assert found.lines == 2 / 4


def test_a_line_that_differs_a_little_does_not_count() -> None:
    for other in (LINES[0].upper(), " " + LINES[0], LINES[0].replace("sat", "set")):
        assert overlap(document(LINES[0]), document(other)).lines == 0.0


def test_sequences_of_thirteen_words_are_found_across_line_ends() -> None:
    words = [f"w{number}" for number in range(20)]  # 8 sequences of 13
    training = "\n".join(words[:15])  # 3 of them
    found = overlap(document(" ".join(words)), document("before " + training + " after"))
    assert found.ngrams == 3 / 8
    assert overlap(document(" ".join(words)), document(" ".join(words[:12]))).ngrams == 0.0


def test_the_order_of_words_matters() -> None:
    words = [f"w{number}" for number in range(13)]
    assert overlap(document(" ".join(words)), document(" ".join(words[::-1]))).ngrams == 0.0


@pytest.mark.parametrize("text", ["", "a b c\n", "\n\n"])
def test_texts_too_short_to_overlap(text: str) -> None:
    found = overlap(document(text), document(text))
    assert (found.lines, found.ngrams) == (0.0, 0.0)


def test_the_training_text_may_come_in_many_pieces() -> None:
    pieces = [Piece(line) for line in LINES]
    assert overlap(document("".join(LINES[:4])), pieces).lines == 1.0


def test_counts_of_several_files_are_pooled(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one two\n")
    counts = survey(open_texts([tmp_path / "a.txt", tmp_path / "b.txt"], CorpusConfig(), None).pieces("test"))
    assert (counts.documents, counts.words, counts.bytes) == (2, 4, 16)
