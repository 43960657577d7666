from __future__ import annotations

import json
import math
from pathlib import Path

import building
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import CorpusConfig
from lstmlm.corpus import Piece, open_texts
from lstmlm.corpus.reading import into_documents
from lstmlm.evaluation.samples import coloured, samples
from lstmlm.evaluation.scored import score
from lstmlm.surprisal import surprisals
from lstmlm.token_store import read_text

TEXT = "the cat can't\tfind the \u732b !\n\n\nthe dog\u00a0sat \n  \na zebra on\nthe cat sat"


@pytest.fixture(params=["word", "char", "byte", "bpe"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    return building.saved_model(tmp_path / "model", request.param)


@pytest.mark.parametrize("documents", ["file", "blank-line"])
def test_prompts_are_first_words_of_the_text_and_samples_repeat(loaded: LoadedModel, documents: str) -> None:
    text = building.text(40)
    scored = building.scored(loaded, text, documents=documents)
    found = samples(scored, count=3, tokens=6)
    assert len(found) == 3
    parts = text.split("\n\n") if documents == "blank-line" else text.split("\n")
    for sample in found:
        kind, number = sample["from"].split()
        assert kind == ("document" if documents == "blank-line" else "line")
        assert parts[int(number) - 1].startswith(sample["prompt"])
        assert sample["prompt"]
    assert json.loads(json.dumps(found)) == found == samples(scored, count=3, tokens=6)
    assert [sample["text"] for sample in samples(scored, count=3, tokens=6, seed=9)] != [sample["text"] for sample in found]


def test_ngrams_go_on_too() -> None:
    found = samples(building.scored(building.ngram("word"), building.text(40)), count=2, tokens=5)
    assert [bool(sample["text"]) for sample in found] == [True, True]


@pytest.mark.parametrize("text", ["a", " ", "the cat\n"])
def test_a_short_text_has_fewer(text: str, loaded: LoadedModel) -> None:
    assert len(samples(building.scored(loaded, text), count=3, tokens=3)) <= 2


@pytest.mark.parametrize("documents", ["file", "blank-line"])
def test_the_bits_of_each_word_are_those_of_the_report(loaded: LoadedModel, documents: str) -> None:
    scored = building.scored(loaded, TEXT, documents=documents)
    found = coloured(scored, into_documents([TEXT], documents))
    assert found is not None
    assert found["text"] == TEXT
    assert [TEXT[start:end] for start, end, _, _ in found["units"]] == TEXT.split()
    if documents == loaded.documents:
        expected = [(unit.bits, unit.unknown) for unit in surprisals(loaded, TEXT, "word")]
        assert [(bits, unknown) for _, _, bits, unknown in found["units"]] == expected
    if loaded.tokenizer.kind == "word":
        ends = math.fsum(scored.nats_N[scored.ids_N == loaded.tokenizer.eos])
        words = math.fsum(bits for _, _, bits, _ in found["units"]) * math.log(2)
        assert words + ends == pytest.approx(scored.scores.nll_nats, rel=1e-12)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("characters", [1, 8, 12, 13, 14, 26, 29, 30, 41, 60])
@pytest.mark.parametrize("documents", ["file", "blank-line"])
def test_a_passage_ends_with_a_word_and_has_the_same_bits(loaded: LoadedModel, documents: str, characters: int) -> None:
    scored = building.scored(loaded, TEXT, documents=documents)
    whole = coloured(scored, into_documents([TEXT], documents))
    found = coloured(scored, into_documents([TEXT], documents), characters=characters)
    assert whole is not None
    if characters < len("the"):
        assert found is None
        return
    assert found is not None
    assert len(found["text"]) <= characters
    assert TEXT.startswith(found["text"])
    assert any(near.isspace() for near in TEXT[len(found["text"]) - 1 :][:2]) or found["text"] == TEXT
    assert found["units"] == whole["units"][: len(found["text"].split())]


def test_a_text_without_white_space_has_no_passage(loaded: LoadedModel) -> None:
    text = "cat" * 50
    assert coloured(building.scored(loaded, text), [Piece(text, ends_document=True)], characters=20) is None


def test_a_passage_goes_on_in_the_next_file(loaded: LoadedModel, tmp_path: Path) -> None:
    """Each file ends a document, with or without a line end."""
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    for path, content in zip(paths, ("the cat\n", "a dog", "the man saw\n"), strict=True):
        path.write_text(content)
    corpus = open_texts([str(path) for path in paths], CorpusConfig(), None)
    scored = score(loaded, read_text(loaded.tokenizer, corpus.files("test")))
    found = coloured(scored, corpus.pieces("test"))
    assert found is not None
    assert found["text"] == "the cat\na dogthe man saw\n"
    alone = [
        coloured(building.scored(loaded, path.read_text()), [Piece(path.read_text(), ends_document=True)]) for path in paths
    ]
    last = [bits for part in alone if part for _, _, bits, _ in part["units"]][-2:]
    assert [bits for _, _, bits, _ in found["units"]][-2:] == pytest.approx(last, abs=1e-4)
