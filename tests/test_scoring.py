from __future__ import annotations

import math
from typing import Any

import building
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from lstmlm.errors import DivergedError
from lstmlm.model import LanguageModel
from lstmlm.scoring import Scores, perplexity, score_segments
from lstmlm.token_store import Ids

V, EOS = 29, 28
SHAPES = [
    {"cell": cell, "input": input, "scale": 1.0 if cell == "rnn" else 2.0}  # larger RNN weights are chaotic
    for cell in ("lstm", "gru", "rnn")
    for input in ("embedding", "one-hot")
]


def ids(count: int, seed: int = 1) -> Ids:
    drawn: Ids = np.random.default_rng(seed).integers(V, size=count).astype("<u2")
    return drawn


def segments(*lengths: int) -> list[Ids]:
    return [ids(length, seed) for seed, length in enumerate(lengths)]


def by_definition(model: LanguageModel, segment: Ids) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One token at a time: nats in float64, ranks by a stable sort (the smaller id before its equal)."""
    state, last, nats, ranks = model.initial_state(1), EOS, [], []
    with torch.no_grad():
        for target in segment.tolist():
            hidden_TBH, state = model(torch.tensor([[last]]), state)
            logits_V = model.logits(hidden_TBH[0, 0]).numpy()
            exact_V = logits_V.astype(np.float64)
            nats.append(math.log(math.fsum(np.exp(exact_V - exact_V.max()))) + exact_V.max() - exact_V[target])
            ranks.append(1 + np.argsort(-logits_V, kind="stable").tolist().index(target))
            last = target
    return np.array(nats), np.array(ranks)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_token_is_scored_given_all_before_it(shape: dict[str, Any]) -> None:
    model = building.model(V, num_layers=2, **shape)
    parts = segments(17, 1, 60, 3)
    scores = score_segments(model, parts, eos=EOS, guesses=True)
    expected = [by_definition(model, part) for part in parts]
    np.testing.assert_allclose(scores.nats_N, np.concatenate([nats for nats, _ in expected]), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(scores.guesses.ranks_N, np.concatenate([ranks for _, ranks in expected]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lengths", [(233,), (60, 7, 1, 41), (13,) * 20], ids=["one", "several", "many"])
def test_the_chunk_size_does_not_change_the_figure(shape: dict[str, Any], lengths: tuple[int, ...]) -> None:
    torch.set_num_threads(1)  # steps this short are faster alone
    model, parts = building.model(V, **shape), segments(*lengths)
    sums = [score_segments(model, parts, eos=EOS, chunk=chunk).nll_nats for chunk in (1, 7, 35, 1000)]
    assert max(sums) - min(sums) < 1e-6 * sum(lengths)


@settings(max_examples=8, deadline=None)
@given(some.lists(some.integers(1, 12), min_size=1, max_size=90), some.integers(1, 40))
def test_segments_are_scored_as_if_alone_whatever_stands_beside_them(lengths: list[int], chunk: int) -> None:
    """Every token once, at its place in the text; nothing of the padding is scored."""
    model, parts = building.model(V), segments(*lengths)
    together = score_segments(model, parts, eos=EOS, chunk=chunk, guesses=True)
    alone = [score_segments(model, [part], eos=EOS, guesses=True) for part in parts]
    assert len(together.nats_N) == sum(lengths)
    np.testing.assert_allclose(together.nats_N, np.concatenate([scores.nats_N for scores in alone]), rtol=1e-5, atol=1e-5)
    assert together.nll_nats == pytest.approx(math.fsum(scores.nll_nats for scores in alone), abs=1e-6 * sum(lengths))


@pytest.mark.parametrize("size", [2, 29, 4001])
def test_equal_logits_have_perplexity_exactly_v(size: int) -> None:
    model = building.model(size, tied=False)
    assert model.output.weight is not None
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    scores = score_segments(model, [np.arange(997) % size], eos=0)  # type: ignore[list-item]
    assert math.isclose(scores.perplexity, size, rel_tol=1e-12)


def test_tied_symbols_rank_by_id() -> None:
    """All equal: the rank is the id. Some equal: behind the likelier ones, in the order of their ids."""
    model, all_ids = building.model(V, tied=False), np.arange(V).astype("<u2")
    assert model.output.weight is not None
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    found = score_segments(model, [all_ids], eos=EOS, guesses=True).guesses.ranks_N
    assert found is not None
    assert found.tolist() == list(range(1, V + 1))
    biases_V = torch.randint(4, (V,), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        model.output.bias.copy_(biases_V)
    found = score_segments(model, [all_ids], eos=EOS, guesses=True).guesses.ranks_N
    order = sorted(range(V), key=lambda token: (-float(biases_V[token]), token))
    assert found is not None
    assert found.tolist() == [1 + order.index(token) for token in range(V)]


def test_ranks_only_on_request() -> None:
    assert score_segments(building.model(V), segments(5), eos=EOS).guesses is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["output.bias", "rnn.layers.0.weight_hh", "embedding.weight"])
def test_weights_that_are_not_finite_are_an_error(value: float, where: str) -> None:
    model = building.model(V)
    with torch.no_grad():
        model.state_dict()[where].view(-1)[0] = value
    with pytest.raises(DivergedError, match="token 0 of the text"):
        score_segments(model, [np.zeros(9, "<u2")], eos=0)


def test_an_impossible_token_is_an_error_that_names_its_place() -> None:
    """Probability zero is not skipped, and not capped; while no text has that token, all is well."""
    model = building.model(V)
    with torch.no_grad():
        model.output.bias[5] = -math.inf
    possible = np.array([1, 2, 3, 4, 6], "<u2")
    assert math.isfinite(score_segments(model, [possible], eos=EOS).nll_nats)
    with pytest.raises(DivergedError, match="token 8 of the text"):
        score_segments(model, [possible, np.array([1, 2, 3, 5, 5], "<u2")], eos=EOS)


def test_dropout_is_off_and_the_model_is_left_as_it_was() -> None:
    model = building.model(V, dropout_input=0.5, dropout_hidden=0.5, dropout_output=0.5, num_layers=2)
    expected = score_segments(model, segments(50), eos=EOS).nats_N
    model.train()
    np.testing.assert_array_equal(score_segments(model, segments(50), eos=EOS).nats_N, expected)
    assert model.training
    model.eval()
    score_segments(model, segments(5), eos=EOS)
    assert not model.training


def test_progress_counts_every_token_and_may_stop_the_work() -> None:
    model = building.model(V).train()
    seen: list[int] = []
    score_segments(model, segments(*[9] * 70, 100), eos=EOS, chunk=64, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 730

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_segments(model, segments(9), eos=EOS, progress=stop)
    assert model.training


def test_scoring_leaves_no_trace_in_the_model() -> None:
    """No state is carried from one call to the next, and nothing is trained."""
    model = building.model(V)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first, second = (score_segments(model, segments(40), eos=EOS).nats_N for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_perplexity_is_one_division_at_the_end() -> None:
    """2 tokens of ln 2 and 1 of ln 16: exp(6 ln 2 / 3) is 4; the mean of perplexities would be 20/3."""
    scores = Scores(np.log([2.0, 2.0, 16.0]), None)
    assert scores.perplexity == pytest.approx(4.0)
    assert perplexity(2000.0, 2) == math.inf
    assert perplexity(0.0, 5) == 1.0
