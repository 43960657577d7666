"""The sampled loss is its formula, and what it converges to is the distribution itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import building
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor
from torch.nn import functional

from lstmlm.model import outputs
from lstmlm.model.outputs import cross_entropy
from lstmlm.training.candidates import CandidateSampler

N, V, E = 33, 70, 8
TARGETS = torch.arange(N) * 23 % V


def factors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in [(N, E), (V, E), (V,)])
    return hidden, weight, bias


def written_out(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, columns: int) -> Tensor:
    """All logits, of which a token sees those of the first `columns` symbols and of its own target."""
    symbols = torch.arange(len(bias))
    seen = (symbols < columns) | (symbols == targets[:, None])
    return functional.cross_entropy((hidden @ weight.T + bias).masked_fill(~seen, -torch.inf), targets)


# -- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 20, V - 1, V])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_sampled_loss_is_the_formula(monkeypatch: pytest.MonkeyPatch, rows: int, columns: int) -> None:
    """With all symbols as columns it is the full softmax."""
    monkeypatch.setattr(outputs, "_LOGITS_AT_ONCE", rows * columns)
    assert ((columns > TARGETS).any(), (columns <= TARGETS).any()) == (True, columns < V)
    given = factors()
    wanted = written_out(*given, TARGETS, columns)
    found = cross_entropy(*given, TARGETS, columns)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    pairs = zip(torch.autograd.grad(3 * found, given), torch.autograd.grad(3 * wanted, given), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("columns", [20, V])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_far_apart_neither_overflow_nor_vanish(dtype: torch.dtype, columns: int) -> None:
    """Thousands of nats between candidates and targets, either way."""
    hidden, weight, bias = factors(dtype)
    given = hidden, weight, (3000 * bias).detach().requires_grad_()
    wanted, found = written_out(*given, TARGETS, columns), cross_entropy(*given, TARGETS, columns)
    assert float(wanted.detach()) > 1000
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip(torch.autograd.grad(found, given), torch.autograd.grad(wanted, given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("target", "probability"), [(0, 1 / 3), (1, 2 / 3), (2, 3 / 6), (3, 4 / 7)])
def test_the_sampled_loss_by_hand(target: int, probability: float) -> None:
    """Weights 1, 2, 3 and 4, of which the first two are candidates: a target among them counts once."""
    bias = torch.tensor([1.0, 2.0, 3.0, 4.0]).log()
    loss = cross_entropy(torch.zeros(1, 2), torch.zeros(4, 2), bias, torch.tensor([target]), 2)
    assert float(loss) == pytest.approx(-math.log(probability))


@pytest.mark.parametrize("columns", [20, V])
def test_under_autocast_only_the_products_are_bf16(columns: int) -> None:
    given = factors(torch.float32)
    wanted = cross_entropy(*given, TARGETS, columns)
    wanted_grads = torch.autograd.grad(wanted, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cross_entropy(*given, TARGETS, columns)
    found_grads = torch.autograd.grad(found, given)
    assert found.dtype == torch.float32
    assert float((found - wanted).detach().abs() / wanted.detach()) < 1e-2
    for mine, theirs in zip(found_grads, wanted_grads, strict=True):
        assert mine.dtype == torch.float32
        assert 0 < float((mine - theirs).norm() / theirs.norm()) < 1e-2


# -- the candidates ---------------------------------------------------------------------------------------------------


def log_inclusion(sampler: CandidateSampler, size: int) -> Tensor:
    """By symbol."""
    touched = sampler.touch(torch.arange(size)[:, None], torch.arange(size))
    return touched.log_inclusion_R[touched.place_V]


def every_set(chances: list[float]) -> Iterator[tuple[list[int], float]]:
    """Every set of candidates with its probability, if each symbol is drawn independently."""
    for drawn in product((True, False), repeat=len(chances)):
        share = math.prod(chance if taken else 1 - chance for chance, taken in zip(chances, drawn, strict=True))
        yield [symbol for symbol, taken in enumerate(drawn) if taken], share


def test_the_correction_is_the_logarithm_of_being_drawn_at_all() -> None:
    """Counts 0 (taken as 1), 16 and 81, flattened to 1, 8 and 27 of 36: of three draws, in any order, with replacement."""
    shares, found = [1 / 36, 8 / 36, 27 / 36], log_inclusion(CandidateSampler(torch.tensor([0, 16, 81]), 3), 3)
    sequences = [(set(drawn), math.prod(shares[symbol] for symbol in drawn)) for drawn in product(range(3), repeat=3)]
    wanted = [math.log(sum(share for drawn, share in sequences if symbol in drawn)) for symbol in (0, 1)]
    assert found.tolist() == pytest.approx([*wanted, 0.0], abs=1e-6)  # the most frequent symbol is always a candidate


def test_symbols_are_drawn_as_often_as_the_correction_says_and_independently() -> None:
    torch.manual_seed(3)
    sampler, times = CandidateSampler(torch.tensor([1, 3, 200, 10, 40]), 4), 4000
    drawn_NV = torch.zeros(times, 5)
    for row_V in drawn_NV:
        touched = sampler.touch(torch.empty(0, 0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
        assert touched.candidates == len(touched.symbols_R)
        row_V[touched.symbols_R] = 1
    chance_V = log_inclusion(sampler, 5).exp()
    assert chance_V[2] == drawn_NV[:, 2].mean() == 1
    others = [0, 1, 3, 4]
    for one in others:
        for other in others:
            together = chance_V[one] * (chance_V[other] if other != one else 1)
            error = (drawn_NV[:, one] * drawn_NV[:, other]).mean() - together
            assert abs(error) < 4.5 * (together * (1 - together) / times).sqrt()  # standard errors


def test_the_distribution_itself_is_where_the_sampled_loss_rests() -> None:
    """The expected gradient, over all sets of candidates and all targets, of a model that has the true distribution."""
    counts, draws = [80, 160, 40, 20, 10], 4
    shares = [count**0.75 / sum(other**0.75 for other in counts) for count in counts]
    correction_V = log_inclusion(CandidateSampler(torch.tensor(counts), draws), 5).double()
    number_of_draws_V = torch.tensor([draws * share for share in shares]).double().log()
    probabilities_V = torch.tensor(counts).double() / sum(counts)
    sets = list(every_set(correction_V.exp().tolist()))
    assert sum(chance for _, chance in sets) == pytest.approx(1.0)

    def expected_gradient(correction_V: Tensor) -> Tensor:
        total_V = torch.zeros(5, dtype=torch.float64)
        for drawn, chance in sets:
            if not drawn:
                assert chance == 0.0
                continue
            order = torch.tensor([*drawn, *sorted(set(range(5)) - set(drawn))])
            for target in range(5):
                bias = (probabilities_V.log() - correction_V)[order].requires_grad_()
                place = (order == target).nonzero()[0]
                loss = cross_entropy(torch.zeros(1, 1).double(), torch.zeros(5, 1).double(), bias, place, len(drawn))
                (gradient,) = torch.autograd.grad(loss, bias)
                total_V[order] += chance * float(probabilities_V[target]) * gradient
        return total_V

    assert expected_gradient(correction_V).abs().max() < 1e-6
    assert expected_gradient(number_of_draws_V).abs().max() > 0.05


@settings(max_examples=40, deadline=None)
@given(
    some.lists(some.integers(0, 1000), min_size=1, max_size=30),
    some.integers(1, 60),
    some.integers(0, 10_000),
    some.data(),
)
def test_a_step_touches_its_candidates_inputs_and_targets_once_each(
    counts: list[int], draws: int, seed: int, data: some.DataObject
) -> None:
    symbols = some.lists(some.integers(0, len(counts) - 1), min_size=2, max_size=8)
    inputs_TB, targets_N = torch.tensor(data.draw(symbols))[:, None], torch.tensor(data.draw(symbols))
    torch.manual_seed(seed)
    sampler = CandidateSampler(torch.tensor(counts), draws)
    touched = sampler.touch(inputs_TB, targets_N)
    order = touched.symbols_R.tolist()
    assert len(set(order)) == len(order)
    assert torch.equal(touched.place_V[touched.symbols_R], torch.arange(len(order)))
    read = {*inputs_TB.flatten().tolist(), *targets_N.tolist()}
    assert 1 <= touched.candidates <= len(counts)
    assert max(1, *counts) in {max(1, counts[symbol]) for symbol in order[: touched.candidates]}, "a most frequent one"
    assert read <= set(order)
    assert set(order[touched.candidates :]) <= read
    assert torch.isfinite(touched.log_inclusion_R).all()
    assert (touched.log_inclusion_R <= 0).all()
    assert log_inclusion(sampler, len(counts)).exp().sum() <= draws + 1.001, "about as many candidates as draws, or fewer"


def test_an_excerpt_says_what_the_whole_model_says_of_its_symbols() -> None:
    symbols_R, correction_R = torch.tensor([5, 2, 11, 7]), torch.tensor([0.5, -1.0, 0.0, 2.0])
    for shape in ({}, {"tied": False}, {"embedding_size": 16}):
        whole = building.model(13, **shape)
        part = whole.excerpt(symbols_R, correction_R)
        ids_TB = torch.tensor([[0, 3], [2, 2], [1, 0]])
        hidden_TBH, state = part(ids_TB, part.initial_state(2))
        wanted_TBH, wanted_state = whole(symbols_R[ids_TB], whole.initial_state(2))
        assert torch.equal(hidden_TBH, wanted_TBH)
        assert all(map(torch.equal, state, wanted_state))
        wanted_TBR = whole.logits(wanted_TBH)[..., symbols_R] - correction_R
        torch.testing.assert_close(part.logits(hidden_TBH), wanted_TBR, rtol=1e-5, atol=1e-5)
        assert whole.num_parameters > part.num_parameters, "the whole was left alone"
