"""A text in progress: what was read before never changes what is read, and predictors behave alike."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm import reader as reading
from lstmlm.adaptation import save_adaptation
from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.completion import complete
from lstmlm.config import SamplingConfig
from lstmlm.errors import UsageError
from lstmlm.generation import Session
from lstmlm.lookahead import Node, Ways
from lstmlm.ngram import load_ngram, save_ngram
from lstmlm.predictor import AdaptedPredictor, live_predictor, load_any, open_predictor
from lstmlm.reader import Reader

KINDS = ("word", "char", "byte", "bpe")
PARTS: tuple[tuple[str, ...], ...] = ((), ("ngram",), ("cache",), ("dynamic",), ("cache", "dynamic", "ngram"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    found = {kind: building.saved_model(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}
    for loaded in found.values():
        save_adaptation(loaded, building.adaptation(loaded))
    return found


def fresh(loaded: LoadedModel, parts: tuple[str, ...], text: str) -> np.ndarray:
    """p(next token), token by token, by a predictor that has read nothing else."""
    predictor = open_predictor(loaded, parts)
    place = predictor.start
    for token in loaded.tokenizer.encode(text):
        place = predictor.read(place, [token])
    return predictor.distributions([place])[0]


PIECES = ["the", " cat", " ", "\n", "s", "é", "don't", "  ", "\t", "zebra "]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_any_edits_end_where_the_last_text_does(models: dict[str, LoadedModel], kind: str, texts: list[str]) -> None:
    reader = Reader(models[kind])
    for text in texts:
        reader.read_text(text)
        assert reader.ids == models[kind].tokenizer.encode(text)
    np.testing.assert_allclose(reader.probabilities(), fresh(models[kind], (), texts[-1]), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_memory_is_that_of_the_text_and_of_nothing_else(
    models: dict[str, LoadedModel], kind: str, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_READ_AT_ONCE", 16)
    reader = Reader(open_predictor(models[kind], parts))
    for text in (building.text(9), "the cat sat on", "the cat", "the cat sat on the mat . the cat sat on the"):
        complete(reader, text, tolerance=0.1, deadline=0.05)  # what is looked ahead at leaves nothing behind
        reader.read_text(text)
        np.testing.assert_allclose(reader.probabilities(), fresh(models[kind], parts, text), rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_forgotten_is_computed_again(
    models: dict[str, LoadedModel], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the cat sat ", "the cat sat o", "the cat sat on ", "the cat sat on t", "the dog ", "the cat sat on th"]
    generous = Reader(models[kind])
    expected = [complete(generous, text, 3, tolerance=0.05).candidates for text in texts]
    monkeypatch.setattr(reading, "_NUMBERS_LOOKED_AHEAD", 1)
    sparing = Reader(models[kind])
    for text, candidates in zip(texts, expected, strict=True):
        found = complete(sparing, text, 3, tolerance=0.05).candidates
        assert [c.word for c in found] == [c.word for c in candidates]
        assert sparing.lookahead.kept == sparing._count_kept()
        assert list(sparing._looked_ahead.values()) == [sparing.node]
    assert sparing.lookahead.kept < generous.lookahead.kept


@pytest.mark.parametrize("parts", [(), ("ngram",)])
def test_ahead_is_reading_where_nothing_is_learned(models: dict[str, LoadedModel], parts: tuple[str, ...]) -> None:
    predictor = open_predictor(models["bpe"], parts)
    ids = models["bpe"].tokenizer.encode("the cat sat")
    read = [predictor.read(predictor.start, [token]) for token in ids]
    ahead = predictor.ahead([predictor.start] * len(ids), ids)
    np.testing.assert_allclose(
        predictor.distributions(ahead), np.concatenate([predictor.distributions([place]) for place in read]), rtol=1e-4
    )


def test_n_grams_are_a_predictor(models: dict[str, LoadedModel], tmp_path: Path) -> None:
    loaded = models["bpe"]
    ngram = building.adaptation(loaded).ngram
    assert ngram is not None
    save_ngram(tmp_path / "ngram", ngram, loaded.tokenizer, documents="file")
    found = load_any(tmp_path / "ngram")
    assert type(found) is type(load_ngram(tmp_path / "ngram"))
    reader = Reader(found)
    context = ngram.start
    for token in loaded.tokenizer.encode("the cat sat on the"):
        context = ngram.advance(context, token)
    reader.read_text("the cat sat on the")
    np.testing.assert_allclose(reader.probabilities(), ngram.probabilities(context))
    assert complete(reader, "the cat s", deadline=0.5).candidates[0].word.startswith("s")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda loaded, ngram: open_predictor(loaded, ("memory",)), "expected some of cache, dynamic, ngram"),
        (lambda loaded, ngram: open_predictor(ngram, ("cache",)), "does not adapt"),
        (lambda loaded, ngram: live_predictor(ngram, 100), "does not adapt"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    models: dict[str, LoadedModel], tmp_path: Path, asked: Callable[[Any, Any], Any], message: str
) -> None:
    ngram = building.adaptation(models["bpe"]).ngram
    assert ngram is not None
    save_ngram(tmp_path / "ngram", ngram, models["bpe"].tokenizer, documents="file")
    with pytest.raises(UsageError, match=message):
        asked(models["bpe"], load_ngram(tmp_path / "ngram"))


def test_a_live_cache_needs_no_tuning(tmp_path: Path) -> None:
    loaded = building.saved_model(tmp_path / "model", "word")
    predictor = live_predictor(loaded, 50)
    assert isinstance(predictor, AdaptedPredictor)
    plain, remembering = Reader(loaded), Reader(predictor)
    text = "the zebra cat dog . " * 3 + "the "
    for reader in (plain, remembering):
        reader.read_text(text)
    assert abs(remembering.probabilities() - plain.probabilities()).max() > 1e-3
    with pytest.raises(UsageError, match="lstmlm tune"):
        live_predictor(loaded, 0, dynamic=True)


@pytest.mark.parametrize("earlier", [0, 1, 20, 32, 33, 128, 200])
def test_the_likeliest_come_first_and_each_once_whoever_else_asks(earlier: int) -> None:
    for seed in range(20):  # few values, so that many are alike where the sorted part ends
        shares = np.random.default_rng(seed).integers(0, 4, 300) / 10
        ways = Ways(shares, np.arange(len(shares)))
        first = iter(ways)
        begun = [place for place, _ in itertools.islice(first, earlier)]
        every = list(ways)  # sorts on, under the first one's feet
        assert begun + [place for place, _ in first] == [place for place, _ in every]
        assert sorted(place for place, _ in every) == list(range(len(shares)))
        assert [share for _, share in every] == sorted(shares, reverse=True)


def live_nodes() -> int:
    gc.collect()
    return sum(type(thing) is Node for thing in gc.get_objects())


def test_what_was_generated_is_not_kept_beyond_its_text(models: dict[str, LoadedModel]) -> None:
    session = Session(models["bpe"])
    counts = []
    for _ in range(4):
        session.sample("the cat ", SamplingConfig(), max_tokens=40)
        counts.append(live_nodes())
    assert counts[-1] < counts[0] + 40


def test_a_long_text_that_was_left_is_forgotten(models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_NUMBERS_LOOKED_AHEAD", 1)
    reader = Reader(models["word"])
    for length in range(1, 1_500):  # a chain of places that were looked ahead at, longer than any recursion
        reader.read([5] * length)
        reader.lookahead.row(reader.node)
    complete(reader, "the cat")
    complete(reader, "a dog ")
    assert reader.lookahead.kept <= 2


@pytest.mark.parametrize("parts", [("dynamic",), ("cache",)], ids="+".join)
def test_places_with_weights_of_their_own_are_few(models: dict[str, LoadedModel], parts: tuple[str, ...]) -> None:
    predictor = open_predictor(models["word"], parts)
    predictor.kept = 8
    reader = Reader(predictor)
    for length in range(1, 40):
        complete(reader, "the cat sat on the mat . " * length, 2)
    assert len(reader._looked_ahead) <= 8


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_mark_that_is_typed_after_its_letter_is_read_with_it(tmp_path: Path, kind: str) -> None:
    vocabulary = building.tokenizer(kind, "the caf\u00e9 a\u0301\n", normalization="nfc")
    save_model(tmp_path / "model", building.model(vocabulary.vocabulary_size), vocabulary, documents="file")
    reader = Reader(load_model(tmp_path / "model"))
    for text in ("the cafe", "the cafe\u0301", "the a", "the a\u0301 e", "the a"):
        reader.read_text(text)
        assert reader.ids == vocabulary.encode(text)


def test_deleting_the_end_of_a_long_text_cuts_little_of_it_again(
    models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, text = Reader(models["bpe"]), "the cat sat on the mat . " * 400
    reader.read_text(text)
    cut: list[int] = []
    encode = reader.tokenizer.encode
    monkeypatch.setattr(reader.tokenizer, "encode", lambda part: cut.append(len(part)) or encode(part))
    for end in range(len(text) - 1, len(text) - 60, -1):
        reader.read_text(text[:end])
        assert reader.ids == encode(text[:end])
    assert max(cut) < 2_100
