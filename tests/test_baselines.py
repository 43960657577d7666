from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import building
import numpy as np
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import MODES
from lstmlm.evaluation.baselines import baselines
from lstmlm.evaluation.origin import count_symbols
from lstmlm.ngram import train_ngram

TEXT = "the cat sat on the zebra .\n\nthe dog !\nthe cat\n"


def test_all_stand_on_the_model_s_own_targets(bpe_model: LoadedModel) -> None:
    scored = building.scored(bpe_model, TEXT)
    found = baselines(scored, [building.ids_of(bpe_model, building.text())])
    assert list(found) == ["uniform", "unigram", "5-gram"]
    for figures in json.loads(json.dumps(found)).values():
        nats = figures["nll_nats"]
        assert figures["tokens"] == len(scored.ids_N)
        assert figures["perplexity"] == pytest.approx(math.exp(nats / len(scored.ids_N)))
        assert figures["perplexity_word"] == pytest.approx(math.exp(nats / len(TEXT.split())))
        assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(TEXT))
    assert found["uniform"]["perplexity"] == pytest.approx(bpe_model.tokenizer.vocabulary_size, rel=1e-12)
    assert found["5-gram"]["nll_nats"] < found["unigram"]["nll_nats"] < found["uniform"]["nll_nats"]


def test_the_unigram_by_hand(word_model: LoadedModel) -> None:
    """Counts, plus one for each symbol of the vocabulary, seen or not."""
    tokenizer = word_model.tokenizer
    scored = building.scored(word_model, "cat cat dog zebra\n")
    train = building.ids_of(word_model, "cat cat cat dog\n")
    total = len(train) + tokenizer.vocabulary_size
    counts = [3, 3, 1, 0, 1]  # zebra is unknown; the line end was there once
    expected = -math.fsum(math.log((count + 1) / total) for count in counts)
    assert baselines(scored, [train])["unigram"]["nll_nats"] == pytest.approx(expected, rel=1e-12)
    assert math.fsum((count_symbols([train], tokenizer.vocabulary_size) + 1) / total) == pytest.approx(1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["word", "char"])
def test_the_ngrams_are_those_that_the_toolkit_evaluates(kind: str, mode: str, tmp_path: Path) -> None:
    """An n-gram model that was made from the same text, scored like any model."""
    neural = building.saved_model(tmp_path / "m", kind)
    training = [building.ids_of(neural, part) for part in (building.text(30), building.text(7))]
    size, eos = neural.tokenizer.vocabulary_size, neural.tokenizer.eos
    ngram = replace(
        building.ngram(kind), model=train_ngram(training, vocabulary_size=size, eos=eos, order=3), tokenizer=neural.tokenizer
    )
    found = baselines(building.scored(neural, TEXT, mode), training, order=3)
    assert list(found) == ["uniform", "unigram", "3-gram"]
    assert found["3-gram"]["nll_nats"] == pytest.approx(building.scored(ngram, TEXT, mode).scores.nll_nats, rel=1e-12)


def test_without_training_text_there_is_what_needs_none(word_model: LoadedModel) -> None:
    scored = building.scored(word_model, TEXT)
    assert list(baselines(scored, None)) == ["uniform"]
    train = building.ids_of(word_model, building.text())
    counts_V = count_symbols([train], word_model.tokenizer.vocabulary_size)
    counted = baselines(replace(scored, training_counts_V=counts_V), None)
    assert list(counted) == ["uniform", "unigram"]
    assert counted["unigram"] == baselines(scored, [train])["unigram"]


def test_intervals_surround_their_figures(word_model: LoadedModel) -> None:
    scored = building.scored(word_model, building.text(400))
    found = baselines(scored, [building.ids_of(word_model, building.text(40))], order=2)
    for name in ("unigram", "2-gram"):
        low, high = found[name]["confidence95"]
        assert low < found[name]["perplexity"] < high
    assert np.ptp(found["uniform"]["confidence95"]) == pytest.approx(0, abs=1e-9)
