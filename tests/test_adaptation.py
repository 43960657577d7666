"""Cache, dynamic evaluation and mixtures against their definitions, and what must hold of everything that adapts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch

from lstmlm import storage
from lstmlm.adaptation import Adaptation, AdaptedModel, load_adaptation, rows, save_adaptation
from lstmlm.adaptation import dynamic as dynamic_evaluation
from lstmlm.adaptation.cache import NeuralCache
from lstmlm.adaptation.dynamic import DynamicEvaluation, measure_gradients, segments
from lstmlm.adaptation.mixture import ROWS, Row, fitted_weights, mixed, row_named, trust
from lstmlm.adaptation.rows import Reading, mix_row, read_parts
from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.config import CacheConfig, DynamicConfig
from lstmlm.errors import ArtefactError, DivergedError, UsageError
from lstmlm.scoring import score_segments
from lstmlm.storage import amend, read_json, to_json
from lstmlm.token_store import Ids

SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "traces, two layers": {"traces": (3, 20), "num_layers": 2},
    "untied gru": {"tied": False, "cell": "gru"},
    "one-hot rnn": {"input": "one-hot", "cell": "rnn"},
    "adaptive": {"softmax": "adaptive", "cutoffs": (5, 12)},
}


@pytest.fixture(params=list(SHAPES))
def tuned(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LoadedModel, Adaptation]:
    loaded = building.saved_model(tmp_path / "model", "word", **SHAPES[request.param])
    return loaded, building.adaptation(loaded)


@pytest.fixture
def tied(tmp_path: Path) -> tuple[LoadedModel, Adaptation]:
    loaded = building.saved_model(tmp_path / "model", "word")
    return loaded, building.adaptation(loaded)


def scored(loaded: LoadedModel, adaptation: Adaptation, texts: list[Ids], row: Row) -> np.ndarray:
    eos = loaded.tokenizer.eos
    static = np.exp(-score_segments(loaded.model, texts, eos=eos).nats_N)
    readings = {"model": Reading(static, 0.0)} | read_parts(loaded.model, eos, adaptation, texts, [row])
    return mix_row(row, readings, adaptation).probabilities_N


# -- what must hold of every row --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_distribution_sums_to_one_and_is_the_one_that_is_scored(
    row: Row, tuned: tuple[LoadedModel, Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, adaptation = tuned
    monkeypatch.setattr(rows, "_BLOCK", 16)
    ids = building.ids_of(loaded, building.text(6))
    adapted = AdaptedModel(loaded, adaptation, row.name)
    standing, found = adapted.start, []
    for token in map(int, ids):
        probabilities_V = adapted.probabilities(standing)
        assert math.fsum(probabilities_V) == pytest.approx(1, abs=1e-6)
        assert (probabilities_V >= 0).all()
        found.append(probabilities_V[token])
        standing = adapted.feed(standing, token)
    np.testing.assert_allclose(scored(loaded, adaptation, [ids], row), found, rtol=2e-4)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_nothing_is_looked_ahead(row: Row, tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    ids = building.ids_of(loaded, building.text(6))
    changed = ids.copy()
    changed[20:] = ids[20:][::-1]
    assert (changed != ids).any()
    before, after = scored(loaded, adaptation, [ids], row), scored(loaded, adaptation, [changed], row)
    np.testing.assert_allclose(after[:20], before[:20], rtol=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_text_forgets_the_one_before(row: Row, tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    ids = building.ids_of(loaded, building.text(6))
    both = scored(loaded, adaptation, [ids, ids], row)
    np.testing.assert_allclose(both[len(ids) :], both[: len(ids)], rtol=1e-6)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_one_can_go_back_to_any_place(row: Row, tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    adapted = AdaptedModel(loaded, adaptation, row.name)
    ids = [int(token) for token in building.ids_of(loaded, building.text(3))]
    standings = [adapted.start]
    for token in ids:
        standings.append(adapted.feed(standings[-1], token))
    expected = [adapted.probabilities(standing) for standing in standings]
    for place in (0, 4, 5, 9, len(ids) - 3):
        other = standings[place]
        for token in reversed(ids[:12]):  # another way to go on, from the same place
            other = adapted.feed(other, token)
        again = standings[place]
        for later in range(place, len(ids)):
            assert (adapted.probabilities(again) == expected[later]).all()
            again = adapted.feed(again, ids[later])


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_blocks_do_not_change_the_figure(
    block: int, tuned: tuple[LoadedModel, Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, adaptation = tuned
    ids = building.ids_of(loaded, building.text(6))
    row = ROWS[2]
    assert row.name == "cache+dynamic"
    whole = scored(loaded, adaptation, [ids], row)
    monkeypatch.setattr(rows, "_BLOCK", block)
    np.testing.assert_allclose(scored(loaded, adaptation, [ids], row), whole, rtol=1e-5)


# -- the parts --------------------------------------------------------------------------------------------------------


def test_the_cache_is_what_its_definition_says() -> None:
    random = torch.Generator().manual_seed(1)
    hidden_NH, tokens_N = torch.randn(20, 4, generator=random), torch.randint(0, 3, (20,), generator=random)
    cache = NeuralCache(CacheConfig(window=6, sharpness=0.7), 3)
    found_N, _ = cache.score(cache.empty(4), hidden_NH, tokens_N)
    assert math.isnan(found_N[0])
    for now in range(1, 20):
        shares = [(math.exp(0.7 * float(hidden_NH[then] @ hidden_NH[now])), int(tokens_N[then])) for then in range(now)][-6:]
        wanted = sum(share for share, token in shares if token == int(tokens_N[now])) / sum(share for share, _ in shares)
        assert float(found_N[now]) == pytest.approx(wanted, rel=1e-5)


def test_memories_that_begin_alike_go_on_alone() -> None:
    cache = NeuralCache(CacheConfig(window=4, sharpness=1.0), 9)
    hidden_TH = torch.arange(3.0)[:, None]
    first = cache.empty(1).then(hidden_TH, torch.tensor([1, 2, 3]))
    left = first.then(torch.tensor([[7.0]]), torch.tensor([7]))
    right = first.then(torch.tensor([[8.0], [9.0]]), torch.tensor([8, 8]))
    assert first.tokens_M.tolist() == [1, 2, 3]
    assert left.tokens_M.tolist() == [1, 2, 3, 7]
    assert right.tokens_M.tolist() == [2, 3, 8, 8]
    assert left.hidden_MH.flatten().tolist() == [0, 1, 2, 7]
    for token in range(40):  # past the end of any room
        left = left.then(torch.tensor([[float(token)]]), torch.tensor([token % 9]))
    assert left.hidden_MH.flatten().tolist() == [36, 37, 38, 39]


def test_a_step_of_dynamic_evaluation_is_the_equation(tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    model = load_model(loaded.path).model
    ids = building.ids_of(loaded, building.text(2))[:10]
    dynamic = DynamicEvaluation(loaded.model, adaptation.dynamic, adaptation.gradient_rms)
    first, second = dynamic.read_text(ids, loaded.tokenizer.eos)
    trained = [parameter.detach().clone() for parameter in model.parameters()]
    state = model.initial_state(1)
    for learned, (inputs_T, targets_T) in zip((first, second), segments(ids, loaded.tokenizer.eos, 5), strict=True):
        model.zero_grad()
        features_TBF, state = model(inputs_T[:, None], tuple(part.detach() for part in state))
        loss = torch.nn.functional.cross_entropy(model.logits(features_TBF[:, 0]), targets_T, reduction="sum")
        loss.backward()
        assert float(learned.nats_T.sum()) == pytest.approx(float(loss.detach()), rel=1e-5)
        with torch.no_grad():
            named = zip(model.named_parameters(), trained, learned.weights, strict=True)
            for (name, parameter), at_first, now in named:
                rms = adaptation.gradient_rms[name]
                pull = (0.05 * rms / rms.mean()).clamp(max=1)
                step = 2e-3 / (rms + 0.1 * rms.mean())
                parameter += -step * parameter.grad + pull * (at_first - parameter)
                torch.testing.assert_close(now, parameter, rtol=1e-4, atol=1e-6)
    assert any((now != at_first).any() for now, at_first in zip(second.weights, trained, strict=True))


def test_vectors_of_many_symbols_do_not_learn(
    tuned: tuple[LoadedModel, Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, adaptation = tuned
    monkeypatch.setattr(dynamic_evaluation, "_MANY_SYMBOLS", 2)
    ids = building.ids_of(loaded, building.text(4))
    *_, rms = measure_gradients(loaded.model, ids, loaded.tokenizer.eos, segment=5, places=2, run=2)
    vectors = {"embedding.weight", "output.weight", "rnn.layers.0.weight_ih"}
    config = loaded.model.config
    kept = vectors if config.input == "one-hot" else vectors - {"rnn.layers.0.weight_ih"}
    parameters = dict(loaded.model.named_parameters())
    assert set(parameters) - set(rms) == kept & set(parameters)
    dynamic = DynamicEvaluation(loaded.model, adaptation.dynamic, rms)
    *_, last = dynamic.read_text(ids, loaded.tokenizer.eos)
    model = dynamic.model(last.weights)
    now = dict(model.named_parameters())
    assert all(now[name].data_ptr() == parameters[name].data_ptr() for name in kept & set(parameters))
    assert (model.output.bias != loaded.model.output.bias).any()


def test_without_rate_and_decay_dynamic_evaluation_is_static(tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    ids = building.ids_of(loaded, building.text(6))
    still = DynamicEvaluation(loaded.model, DynamicConfig(segment=4, learning_rate=0.0, decay=0.0), adaptation.gradient_rms)
    found = torch.cat([learned.nats_T for learned in still.read_text(ids, loaded.tokenizer.eos)])
    np.testing.assert_allclose(found, score_segments(loaded.model, [ids], eos=loaded.tokenizer.eos).nats_N, rtol=1e-5)


def test_a_rate_that_is_far_too_high_is_an_error_and_no_figure(tied: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tied
    wild = replace(adaptation, dynamic=DynamicConfig(segment=5, learning_rate=1e4, decay=0.0))
    with pytest.raises(DivergedError, match="leave --dynamic away"):
        scored(loaded, wild, [building.ids_of(loaded, building.text(40))], ROWS[1])


def test_learning_works_inside_inference_mode(tied: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tied
    ids = [int(token) for token in building.ids_of(loaded, building.text(2))]
    found = []
    for mode in (True, False):
        with torch.inference_mode(mode):
            adapted = AdaptedModel(loaded, adaptation, "dynamic")
            standing = adapted.start
            for token in ids:
                standing = adapted.feed(standing, token)
            found.append(adapted.probabilities(standing))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_evaluation_leaves_the_model_as_it_was(tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    scored(loaded, adaptation, [building.ids_of(loaded, building.text(6))], ROWS[-1])
    assert all((weight == before[name]).all() for name, weight in loaded.model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in loaded.model.parameters())


def test_gradients_are_root_mean_squares(word_model: LoadedModel) -> None:
    ids, eos = building.ids_of(word_model, building.text(10)), word_model.tokenizer.eos
    *_, found = measure_gradients(word_model.model, ids, eos, segment=6, places=1, run=2)
    model = load_model(word_model.path).model
    squares, state = torch.zeros_like(model.output.bias), model.initial_state(1)
    for inputs_T, targets_T in segments(ids[:12], eos, 6):
        model.zero_grad()
        features_TBF, after = model(inputs_T[:, None], state)
        torch.nn.functional.cross_entropy(model.logits(features_TBF[:, 0]), targets_T, reduction="sum").backward()
        squares, state = squares + model.output.bias.grad**2, tuple(part.detach() for part in after)
    torch.testing.assert_close(found["output.bias"], (squares / 2).sqrt())


# -- mixtures ---------------------------------------------------------------------------------------------------------


def test_fitted_weights_are_the_likeliest() -> None:
    random = np.random.default_rng(1)
    parts = {name: random.uniform(0.01, 1, 500) for name in ("a", "b", "c")}
    weights = fitted_weights(parts, 0)
    assert sum(weights.values()) == pytest.approx(1)
    best = np.log(mixed(parts, weights, 0)).sum()
    for low, high in (("a", "b"), ("b", "c"), ("c", "a")):
        moved = weights | {low: weights[low] - 0.02, high: weights[high] + 0.02}
        if moved[low] >= 0:
            assert np.log(mixed(parts, moved, 0)).sum() < best


def test_a_part_that_has_nothing_to_say_leaves_its_weight_to_the_others() -> None:
    parts = {"model": np.array([0.2, 0.4]), "cache": np.array([np.nan, 0.8]), "ngram": np.array([0.6, 0.0])}
    weights = {"model": 0.5, "cache": 0.25, "ngram": 0.25}
    half = (0.5 * 0.4 + 0.125 * 0.8) / 0.875  # after 200 tokens
    found = mixed(parts, weights, np.array([0, 200]))
    np.testing.assert_allclose(found, [(0.5 * 0.2 + 0.25 * 0.6) / 0.75, half])
    fitted = fitted_weights({"model": parts["model"], "cache": parts["cache"]}, np.array([0, 200]))
    assert fitted["cache"] == pytest.approx(1, abs=1e-3)


def test_a_cache_that_is_nearly_empty_is_hardly_heard() -> None:
    """And one that is full has the weight that was fitted for it."""
    random = np.random.default_rng(2)
    parts = {name: random.uniform(0.01, 1, 4_000) for name in ("model", "cache")}
    held_N = np.minimum(np.arange(4_000), 2_000)
    constant, weights = fitted_weights(parts, 10**9), fitted_weights(parts, held_N)
    given = weights["cache"] * trust(held_N) / (weights["model"] + weights["cache"] * trust(held_N))
    assert given[0] == 0
    assert np.all(np.diff(given[:2_000]) > 0)
    assert given.mean() == pytest.approx(constant["cache"], abs=0.02)
    few = {name: part[:3] for name, part in parts.items()}
    np.testing.assert_allclose(mixed(few, weights, held_N[:3]), few["model"], rtol=0.15)


def test_a_mixture_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no mixture 'all'; expected one of cache, dynamic,"):
        row_named("all")


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_what_was_tuned_comes_back(tuned: tuple[LoadedModel, Adaptation]) -> None:
    loaded, adaptation = tuned
    with pytest.raises(UsageError, match="lstmlm tune"):
        load_adaptation(loaded)
    for _ in range(2):  # the second takes the place of the first
        save_adaptation(loaded, adaptation)
        found = load_adaptation(load_model(loaded.path))
        assert (found.cache, found.dynamic, found.weights) == (adaptation.cache, adaptation.dynamic, adaptation.weights)
        ids = building.ids_of(loaded, building.text(6))
        for row in ROWS:
            np.testing.assert_allclose(scored(loaded, found, [ids], row), scored(loaded, adaptation, [ids], row), rtol=1e-6)


def test_a_crash_while_it_is_added_leaves_the_model_whole(
    tied: tuple[LoadedModel, Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, adaptation = tied
    save_adaptation(loaded, adaptation)
    write = storage.write_atomic
    for writes in range(5):
        left = [writes]

        def failing(path: Path, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, data)

        monkeypatch.setattr(storage, "write_atomic", failing)
        with pytest.raises(KeyboardInterrupt):
            save_adaptation(loaded, adaptation)
        found = load_model(loaded.path)
        if writes:
            with pytest.raises(UsageError, match="lstmlm tune"):
                load_adaptation(found)
        monkeypatch.setattr(storage, "write_atomic", write)
    save_adaptation(loaded, adaptation)
    assert load_adaptation(load_model(loaded.path)).weights == adaptation.weights


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about.update(format="other"), "is of format 'other'"),
        (lambda about: about.pop("cache"), "no section 'cache'"),
        (lambda about: about["cache"].update(window=0), "window is 0"),
        (lambda about: about["cache"].update(depth=1), "unknown setting 'depth'"),
        (lambda about: about["weights"].pop("cache+ngram"), "no weights of model, cache, ngram for cache+ngram"),
        (lambda about: about["weights"]["cache"].update(model=0.9), "do not add up to 1"),
        (lambda about: about["weights"]["cache"].update(model=-1), "not above 0 and up to 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: Callable[[dict[str, object]], object], said: str, tied: tuple[LoadedModel, Adaptation]
) -> None:
    loaded, adaptation = tied
    save_adaptation(loaded, adaptation)
    about = read_json(loaded.path / "adaptation.json")
    change(about)
    amend(loaded.path, {"adaptation.json": to_json(about)})
    with pytest.raises(ArtefactError) as caught:
        load_adaptation(load_model(loaded.path))
    assert said in str(caught.value)
    assert "tune again: lstmlm tune" in str(caught.value)


def test_someone_tired_of_waiting_leaves_no_file_behind(
    tied: tuple[LoadedModel, Adaptation], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, adaptation = tied

    def interrupted(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "_write_synced", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_adaptation(loaded, adaptation)
    assert not [path for path in loaded.path.iterdir() if path.name.startswith(".")]
