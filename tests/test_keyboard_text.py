"""What of a text is typed, and from what is before it: words, stretches, documents."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import building
import pytest

from lstmlm import keyboard
from lstmlm.checkpoint import LoadedModel
from lstmlm.completion import Candidate, Completion
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.generation import Session
from lstmlm.keyboard import Stretch, context_start, documents_of, keyboard_metrics, sample, stretches, words_in


@pytest.mark.parametrize(
    ("run_", "kind", "words"),
    [
        ("cat,", "bpe", ["cat"]),
        ("cat,", "word", ["cat,"]),
        ("(don't", "bpe", ["don't"]),
        ("'tis", "byte", ["tis"]),
        ("u.s.", "char", ["u.s"]),
        ("u.s.", "word", ["u.s."]),
        ("well--known", "bpe", ["well", "known"]),
        ("a,b", "bpe", ["a", "b"]),
        ("a,b", "word", ["a,b"]),
        ("e\u0301t", "bpe", ["e\u0301t"]),
        *((run_, kind, []) for run_ in ("<unk>", "@-@", "...", "\U0001f600", "x" * 201) for kind in ("bpe", "word")),
        ("x" * 200, "bpe", ["x" * 200]),
        ("caf\ufffd", "word", []),
    ],
)
def test_which_words_are_asked_for(run_: str, kind: str, words: list[str]) -> None:
    assert [run_[start:end] for start, end in words_in(run_, kind)] == words


@pytest.mark.parametrize(
    "text",
    [
        building.document(40),
        "word " * 3000,
        "\n\n  " + building.document(3),
        "# " * 30_000,
        "x" * 50_000 + " y",
        "cat",
        "\n",
        "",
    ],
)
def test_stretches_are_the_whole_text(text: str) -> None:
    found = list(stretches(text, "bpe"))
    assert "".join(text[stretch.start : stretch.end] for stretch in found) == text
    assert [stretch.start for stretch in found[1:]] == [stretch.end for stretch in found[:-1]]
    assert sum(stretch.words for stretch in found) == len([word for run_ in text.split() for word in words_in(run_, "bpe")])
    assert all(stretch.words <= 400 for stretch in found)


def test_stretches_end_with_lines() -> None:
    found = list(stretches(building.document(40), "bpe"))
    assert len(found) == 14
    assert all(building.document(40)[stretch.start :].startswith("line") for stretch in found)
    assert {(stretch.words, stretch.others) for stretch in found[:-1]} == {(3 * 43, 3)}


@pytest.mark.parametrize("words", [1, 100, 1000, 5000])
def test_a_sample_is_spread_evenly(words: int) -> None:
    whole = [Stretch("", place, place + 1, 100, 0) for place in range(100)]
    found = sample(whole, words)
    assert sum(stretch.words for stretch in found) == max(100, words)
    starts = [stretch.start for stretch in found]
    assert starts[0] + starts[-1] in (99, 100)
    assert len({second - first for first, second in pairwise(starts)}) <= 1


@pytest.mark.parametrize("words", [0, 10_000, 10_001])
def test_a_sample_of_all_is_all(words: int) -> None:
    whole = [Stretch("", place, place + 1, 100, 0) for place in range(100)]
    assert sample(whole, words) == whole


@pytest.mark.parametrize(
    ("text", "start", "begin"),
    [
        (building.document(10), 300, 0),
        ("one two\n" * 4000, 16_004, 6_000),
        ("onetwo " * 4000, 14_000, 4_004),
        ("x" * 30_000 + " y", 30_001, 30_001),
    ],
)
def test_where_reading_begins(text: str, start: int, begin: int) -> None:
    assert context_start(text, start) == begin
    assert begin in (0, start) or text[begin - 1].isspace() > text[begin].isspace()


def listen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked from now on; nothing is answered."""
    asked: list[str] = []

    def answer(session: Session, text: str, k: int, **_: object) -> Completion:
        asked.append(text)
        return Completion(text, "", [Candidate("cat", 0.5, 0, "cat")], 0.5, True, 0.0, 1.0)

    monkeypatch.setattr(keyboard, "complete", answer)
    return asked


def test_a_word_has_the_same_text_before_it_in_every_sample(
    word_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyboard, "CONTEXT", 2000)
    asked, text, session = listen(monkeypatch), building.document(60), Session(word_model)
    counts = [keyboard_metrics(session, [text], words=0)["words"]]
    whole = set(asked)
    asked.clear()
    counts.append(keyboard_metrics(session, [text], words=200)["words"])
    some = asked[1:]
    assert counts == [60 * 43, 2 * 3 * 43]
    assert set(some) < whole
    assert all(before in text and before.startswith("line") for before in some)
    assert all(2000 <= len(before) < 2000 + 4 * len(building.document(1)) + 10 for before in some)


def test_every_document_is_a_text_of_its_own(
    word_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    paths[0].write_text("the cat\ncan\n\n \ndog\n")
    paths[1].write_text("the")
    for rule, expected in (
        ("file", ["the cat\ncan\n\n \ndog\n", "the"]),
        ("blank-line", ["the cat\ncan\n", "dog\n", "the"]),
    ):
        corpus = open_texts(paths, CorpusConfig(documents=rule), None)
        documents = list(documents_of(corpus.files("test")))
        assert documents == expected
        asked = listen(monkeypatch)
        found = keyboard_metrics(Session(word_model), documents)
        assert found["words"] == 5
        assert found["keystrokes"]["chars"] == sum(map(len, expected))
        assert sum(before == "" for before in asked) == 1 + len(documents)
