from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lstmlm.checkpoint import LoadedModel
from lstmlm.errors import DivergedError
from lstmlm.evaluation import calibration as module
from lstmlm.evaluation.calibration import best_temperature, calibration
from lstmlm.evaluation.scored import score
from lstmlm.predictor import AnyModel, open_predictor
from lstmlm.scoring import score_segments
from lstmlm.token_store import Ids

VARIANTS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied gru": {"tied": False, "cell": "gru"},
    "adaptive": {"softmax": "adaptive", "cutoffs": (5, 12)},
    "traces": {"traces": (2, 30)},
    "one-hot": {"input": "one-hot"},
}


def loaded(kind: str = "word", **config: Any) -> LoadedModel:
    tokenizer = building.tokenizer(kind)
    return LoadedModel(Path(), building.model(tokenizer.vocabulary_size, **config), tokenizer, "file")


def distributions(model: AnyModel, ids: Ids) -> NDArray[np.float64]:
    """p of every token at every place of a text, [N, V], step by step."""
    predictor = open_predictor(model)
    places = [predictor.start]
    for token in ids[:-1].tolist():
        places.append(predictor.read(places[-1], [token]))
    return np.concatenate([predictor.distributions([place]) for place in places])


def sampled(model: LoadedModel, count: int) -> Ids:
    """A text that the model itself has drawn."""
    predictor, random = open_predictor(model), np.random.default_rng(7)
    place, ids = predictor.start, []
    for _ in range(count):
        probabilities_V = predictor.distributions([place])[0]
        ids.append(int(random.choice(len(probabilities_V), p=probabilities_V / probabilities_V.sum())))
        place = predictor.read(place, ids[-1:])
    return np.array(ids, np.uint16)


def nats_at(probabilities_NV: NDArray[np.float64], ids: Ids, temperature: float) -> float:
    scaled_NV = np.log(probabilities_NV) / temperature
    normalizer_N = np.log(np.exp(scaled_NV - scaled_NV.max(1, keepdims=True)).sum(1)) + scaled_NV.max(1)
    return math.fsum(normalizer_N - scaled_NV[np.arange(len(ids)), ids])


@pytest.mark.parametrize("kind", ["word", "bpe", "ngram"])
def test_figures_of_a_model_follow_from_its_distributions(kind: str) -> None:
    model = building.ngram("word") if kind == "ngram" else loaded(kind)
    read = building.read(model, building.text(12), "the zebra sat\n")
    found = calibration(score(model, read, "stream"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    p_NV, ids = distributions(model, read.ids_N), read.ids_N
    entropy = -(p_NV * np.log(p_NV)).sum(1).mean()
    token_NV = np.eye(p_NV.shape[1])[ids]
    assert found["brier"] == pytest.approx(((p_NV - token_NV) ** 2).sum(1).mean(), rel=1e-5)
    assert found["entropy_nats"] == pytest.approx(entropy, rel=1e-5)
    assert found["entropy_minus_nats"] == pytest.approx(entropy + np.log(p_NV[token_NV > 0]).mean(), abs=1e-5)
    confidence_N, right_N = p_NV.max(1), p_NV.argmax(1) == ids
    gaps = []
    for shown in found["bins"]:
        inside_N = (shown["low"] <= confidence_N) & (confidence_N < shown["high"])
        assert shown["tokens"] == inside_N.sum()
        assert shown["confidence"] == pytest.approx(confidence_N[inside_N].mean(), rel=1e-5)
        assert shown["accuracy"] == pytest.approx(right_N[inside_N].mean())
        gaps.append(abs(shown["confidence"] - shown["accuracy"]) * shown["tokens"])
    assert sum(shown["tokens"] for shown in found["bins"]) == len(ids)
    assert found["ece"] == pytest.approx(math.fsum(gaps) / len(ids))


def test_a_guess_that_is_right_with_its_own_probability_is_calibrated(word_model: LoadedModel) -> None:
    read = building.read(word_model, "the " * 10 + "\n")  # "the" ten times of eleven
    the = int(read.ids_N[0])
    found = calibration(building.said(read, word_model, guess=the, confidence=10 / 11))
    assert found["ece"] == pytest.approx(0, abs=1e-12)
    assert found["bins"] == [
        {"low": 0.9, "high": 1.0, "tokens": 11, "confidence": pytest.approx(10 / 11), "accuracy": pytest.approx(10 / 11)}
    ]
    half = calibration(building.said(read, word_model, guess=the, confidence=[0.5] * 5 + [1.0] * 6))
    assert half["ece"] == pytest.approx((5 * 0.5 + 6 * (1 / 6)) / 11)
    assert [(shown["low"], shown["tokens"], shown["accuracy"]) for shown in half["bins"]] == [
        (0.5, 5, 1.0),
        (0.9, 6, pytest.approx(5 / 6)),
    ]


def test_brier_of_the_sure_and_of_the_uniform(word_model: LoadedModel) -> None:
    read = building.read(word_model, "the cat\n")
    right = calibration(building.said(read, word_model, nats=0.0, guess=read.ids_N, confidence=1.0))
    assert (right["brier"], right["ece"]) == (0.0, 0.0)
    wrong = calibration(building.said(read, word_model, nats=1e3, guess=read.ids_N + 1, confidence=1.0))
    assert (wrong["brier"], wrong["ece"]) == (2.0, 1.0)
    uniform = building.said(read, word_model, nats=math.log(4))
    guesses = replace(uniform.guesses, squares_N=np.full(3, 1 / 4))
    assert calibration(replace(uniform, scores=replace(uniform.scores, guesses=guesses)))["brier"] == pytest.approx(3 / 4)


def test_a_model_is_calibrated_on_what_it_has_drawn_itself() -> None:
    model = loaded()
    ids = sampled(model, 2_000)
    read = replace(building.read(model, "the"), ids_N=ids)
    found = calibration(score(model, replace(read, file_ends_F=np.array([len(ids)]))))
    assert found["ece"] < 0.03
    assert abs(found["entropy_minus_nats"]) < 0.05
    temperature = best_temperature(model, [ids])
    assert temperature is not None
    assert temperature["best"] == pytest.approx(1, abs=0.05)
    assert temperature["nats_before"] - temperature["nats_after"] < 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_temperature_is_the_best_one(variant: str) -> None:
    """Against distributions that are made step by step, and scaled in float64."""
    model = loaded(**VARIANTS[variant])
    ids = sampled(model, 200)
    found = best_temperature(model, [ids])
    assert found is not None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    p_NV = distributions(model, ids)
    assert (found["split"], found["tokens"]) == ("valid", len(ids))
    assert found["nats_before"] == pytest.approx(nats_at(p_NV, ids, 1.0), rel=1e-5)
    assert found["nats_after"] == pytest.approx(nats_at(p_NV, ids, found["best"]), rel=1e-5)
    lowest = nats_at(p_NV, ids, found["best"])
    assert lowest < min(nats_at(p_NV, ids, found["best"] * factor) for factor in (0.998, 1.002, 0.5, 2.0))
    assert 0.1 < found["best"] < 10


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.3, 4.0])
def test_the_temperature_of_a_model_whose_logits_were_multiplied_is_multiplied(factor: float) -> None:
    model = loaded(tied=False)
    ids = sampled(model, 200)
    before = best_temperature(model, [ids])
    with torch.no_grad():
        for weight in model.model.output.parameters():
            weight.mul_(factor)
    after = best_temperature(model, [ids])
    assert before is not None
    assert after is not None
    assert after["best"] == pytest.approx(factor * before["best"], rel=1e-3)
    assert after["nats_after"] == pytest.approx(before["nats_after"], rel=1e-6)


def test_the_beginning_of_a_text_is_read_segment_by_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("bpe")
    segments = [building.ids_of(model, building.text(lines)) for lines in (2, 1, 3)]
    counts = [len(ids) for ids in segments]
    monkeypatch.setattr(module, "_BLOCK", 7)
    monkeypatch.setattr(module, "_LOGITS_AT_ONCE", 30 * model.tokenizer.vocabulary_size)
    for tokens in (1, counts[0], counts[0] + 3, counts[0] + counts[1] + 20, 20_000):
        used = np.cumsum([0, *counts[:-1]])
        parts = [ids[: max(0, tokens - start)] for ids, start in zip(segments, used.tolist(), strict=True)]
        parts = [ids for ids in parts if len(ids)]
        found = best_temperature(model, segments, tokens=tokens)
        assert found is not None
        assert found["tokens"] == min(tokens, sum(counts)) == sum(map(len, parts))
        expected = score_segments(model.model, parts, eos=model.tokenizer.eos).nll_nats
        assert found["nats_before"] == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(module, "_LOGITS_IN_ALL", 10 * model.tokenizer.vocabulary_size)
    few = best_temperature(model, segments)
    assert few is not None
    assert few["tokens"] == 10


@pytest.mark.parametrize(("text", "best"), [("the " * 50, 0.1), ("cat " * 50, 10.0)])
def test_where_colder_or_hotter_is_always_better_the_search_ends(text: str, best: float) -> None:
    """A model that expects "the" everywhere, on a text of nothing else, and on one without it."""
    model = loaded(tied=False)
    ids = np.array(model.tokenizer.encode(text), np.uint16)
    with torch.no_grad():
        for weight in model.model.output.parameters():
            weight.zero_()
        model.model.output.bias[model.tokenizer.encode("the")[0]] = 1.0
    found = best_temperature(model, [ids])
    assert found is not None
    assert found["best"] == pytest.approx(best, rel=1e-3)
    assert found["nats_after"] < found["nats_before"]


def test_a_model_that_knows_nothing_is_as_good_at_any_temperature() -> None:
    model = loaded(tied=False)
    ids = building.ids_of(model, building.text(2))
    with torch.no_grad():
        for weight in model.model.output.parameters():
            weight.zero_()
    nats = pytest.approx(len(ids) * math.log(model.tokenizer.vocabulary_size))
    expected = {"best": 1.0, "split": "valid", "tokens": len(ids), "nats_before": nats, "nats_after": nats}
    assert best_temperature(model, [ids]) == expected


def test_an_impossible_symbol_does_no_harm_until_it_comes() -> None:
    model = loaded(tied=False)
    ids = np.array(model.tokenizer.encode("the cat sat"), np.uint16)
    before = best_temperature(model, [ids])
    assert before is not None
    with torch.no_grad():
        model.model.output.bias[model.tokenizer.encode("dog")[0]] = -math.inf
    after = best_temperature(model, [ids])
    assert after is not None
    assert after["nats_before"] < before["nats_before"]
    assert math.isfinite(after["nats_after"])
    with pytest.raises(DivergedError, match="no finite probabilities"):
        best_temperature(model, [np.array(model.tokenizer.encode("the dog"), np.uint16)])


def test_n_grams_have_no_temperature() -> None:
    model = building.ngram("bpe")
    assert best_temperature(model, [building.read(model, "the cat").ids_N]) is None
