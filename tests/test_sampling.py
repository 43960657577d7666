from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from lstmlm import sampling
from lstmlm.config import SamplingConfig
from lstmlm.errors import UsageError

NEVER = -math.inf
HALVES = (0.5, 0.25, 0.125, 0.125)


def logits(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).log()


def kept(logits_V: Tensor) -> list[int]:
    return logits_V.isfinite().nonzero().flatten().tolist()


def probabilities(logits_V: Tensor) -> list[float]:
    return logits_V.double().softmax(-1).tolist()


distributions = some.lists(some.floats(-30, 30, width=32), min_size=1, max_size=12).map(torch.tensor)
configs = some.builds(
    SamplingConfig,
    repetition_penalty=some.sampled_from([0.8, 1.0, 1.3]),
    temperature=some.sampled_from([0.0, 0.1, 1.0, 3.0]),
    top_k=some.integers(0, 14),
    top_p=some.sampled_from([1e-9, 0.3, 0.9, 1.0]),
    min_p=some.sampled_from([0.0, 0.1, 1.0]),
)


@pytest.mark.parametrize(
    ("k", "expected"), [(0, [0, 1, 2, 3]), (1, [2]), (2, [0, 2]), (4, [0, 1, 2, 3]), (99, [0, 1, 2, 3])]
)
def test_top_k_keeps_the_k_largest(k: int, expected: list[int]) -> None:
    assert kept(sampling.top_k(logits(0.3, 0.1, 0.4, 0.2), k)) == expected


def test_top_k_keeps_exactly_k_of_equals() -> None:
    assert len(kept(sampling.top_k(torch.zeros(10), 3))) == 3
    tied = kept(sampling.top_k(torch.tensor([1.0, 5.0, 1.0, 1.0, 4.0]), 3))
    assert len(tied) == 3
    assert {1, 4} < set(tied)


@pytest.mark.parametrize(
    ("p", "expected"), [(1.0, [0, 1, 2, 3]), (0.9, [0, 1, 2, 3]), (0.75, [0, 1]), (0.51, [0, 1]), (0.5, [0]), (1e-9, [0])]
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, expected: list[int]) -> None:
    assert kept(sampling.top_p(logits(*HALVES), p)) == expected


def test_top_p_takes_equals_in_the_order_of_their_ids() -> None:
    assert kept(sampling.top_p(torch.zeros(4), 0.5)) == [0, 1]
    assert kept(sampling.top_p(torch.zeros(4096), 0.25)) == list(range(1024))
    assert kept(sampling.top_p(logits(0.125, 0.25, 0.5, 0.125), 0.8)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, [0, 1, 2, 3]), (0.25, [0, 1, 2, 3]), (0.26, [0, 1]), (0.6, [0]), (1.0, [0])]
)
def test_min_p_is_relative_to_the_most_likely(p: float, expected: list[int]) -> None:
    assert kept(sampling.min_p(logits(*HALVES), p)) == expected


def test_what_is_kept_keeps_its_proportions() -> None:
    for filtered in (
        sampling.top_k(logits(*HALVES), 2),
        sampling.top_p(logits(*HALVES), 0.6),
        sampling.min_p(logits(*HALVES), 0.4),
    ):
        assert probabilities(filtered) == pytest.approx([2 / 3, 1 / 3, 0, 0])


def test_temperature_is_a_power_of_the_probabilities() -> None:
    assert probabilities(sampling.temperature(logits(0.8, 0.2), 0.5)) == pytest.approx([16 / 17, 1 / 17])
    assert probabilities(sampling.temperature(logits(0.8, 0.2), 2.0)) == pytest.approx([2 / 3, 1 / 3])
    assert probabilities(sampling.temperature(logits(0.8, 0.2), 1.0)) == pytest.approx([0.8, 0.2])
    assert probabilities(sampling.temperature(logits(0.3, 0.5, 0.2), 0.0)) == [0, 1, 0]


@pytest.mark.parametrize("value", [1e-320, 1e-40, 1e-6, 1e6, 1e40, 1e300])
def test_any_temperature_above_zero_gives_a_distribution(value: float) -> None:
    found = probabilities(sampling.temperature(torch.tensor([90.0, NEVER, -3.0, 89.0]), value))
    assert math.fsum(found) == pytest.approx(1)
    assert found[1] == 0
    assert found == pytest.approx([1, 0, 0, 0] if value < 1 else [1 / 3, 0, 1 / 3, 1 / 3], abs=1e-4)


def test_repetition_penalty_lowers_what_was_seen_once() -> None:
    logits_V = torch.tensor([2.0, -2.0, 0.0, 2.0])
    assert sampling.repetition_penalty(logits_V, [0, 1, 0, 2, 0], 2.0).tolist() == [1.0, -4.0, 0.0, 2.0]
    assert sampling.repetition_penalty(logits_V, [3, 1], 0.5).tolist() == [2.0, -1.0, 0.0, 4.0]
    assert sampling.repetition_penalty(logits_V, [], 2.0).tolist() == logits_V.tolist()
    assert sampling.repetition_penalty(torch.tensor([NEVER, 1.0]), [0], 2.0).tolist() == [NEVER, 1.0]


@pytest.mark.parametrize("penalty", [1e-320, 1e-40, 1e-30, 1e30, 1e40, 1e300])
def test_any_penalty_leaves_something_to_draw(penalty: float) -> None:
    """Also where every symbol was seen; what is ruled out stays so."""
    config = SamplingConfig(repetition_penalty=penalty)
    for logits_V in (torch.tensor([9.0, NEVER, -9.0, 0.0]), torch.tensor([-9.0, NEVER, -8.0, -1.0])):
        found = probabilities(sampling.apply(logits_V, config, seen=range(4)))
        assert math.fsum(found) == pytest.approx(1)
        assert found[1] == 0


def test_filters_run_in_the_documented_order() -> None:
    """Each case would keep something else in another order."""
    penalty_first = SamplingConfig(repetition_penalty=4.0, temperature=0.0)
    assert kept(sampling.apply(torch.tensor([4.0, 2.0]), penalty_first, seen=[0])) == [1]
    # flat at temperature 2, so that 0.6 / (0.6 + 0.4) no longer reaches 0.6 alone
    assert kept(sampling.apply(logits(0.6, 0.4), SamplingConfig(temperature=2.0, top_p=0.59))) == [0, 1]
    # top-k 2 leaves 2/3 and 1/3: the first alone reaches 0.6, of the whole it has only 0.5
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(top_k=2, top_p=0.6))) == [0]
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(top_p=0.6))) == [0, 1]
    # at temperature 2 the second is 0.71 times as likely as the first, at 1 only half
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(temperature=2.0, min_p=0.6))) == [0, 1]


@settings(max_examples=100, deadline=None)
@given(distributions, configs, some.lists(some.integers(0, 11), max_size=6))
def test_filters_are_pure_and_leave_something_to_draw(logits_V: Tensor, config: SamplingConfig, seen: list[int]) -> None:
    before, seen = logits_V.clone(), [token % len(logits_V) for token in seen]
    filtered = sampling.apply(logits_V, config, seen)
    assert torch.equal(logits_V, before)
    assert torch.equal(filtered, sampling.apply(logits_V, config, seen))
    found = kept(filtered)
    assert 1 <= len(found) <= (config.top_k or len(logits_V))
    penalized = sampling.repetition_penalty(logits_V, seen, config.repetition_penalty)
    assert float(penalized[found].max()) == float(penalized.max()), "the most likely one stays"
    assert sampling.draw(filtered, torch.Generator().manual_seed(1)) in found


@settings(max_examples=50, deadline=None)
@given(distributions, some.sampled_from([0.8, 1.0, 1.5]))
def test_temperature_zero_is_greedy(logits_V: Tensor, penalty: float) -> None:
    config = SamplingConfig(temperature=0.0, repetition_penalty=penalty)
    drawn = sampling.draw(sampling.apply(logits_V, config), torch.Generator().manual_seed(1))
    assert float(logits_V[drawn]) == float(logits_V.max())


def test_defaults_change_nothing() -> None:
    logits_V = torch.tensor([3.0, NEVER, -1.0, 3.0])
    assert probabilities(sampling.apply(logits_V, SamplingConfig(), seen=[0, 2])) == pytest.approx(probabilities(logits_V))


def test_draws_follow_the_distribution_and_the_seed() -> None:
    generator = torch.Generator().manual_seed(7)
    draws = Counter(sampling.draw(logits(0.5, 0.3, 0.2), generator) for _ in range(4000))
    assert [draws[token] / 4000 for token in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.05)  # six standard errors
    again = [[sampling.draw(torch.zeros(50), torch.Generator().manual_seed(seed)) for _ in range(2)] for seed in (1, 2, 3)]
    assert all(first == second for first, second in again)
    assert len({first for first, _ in again}) > 1


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("temperature", (-0.1, math.nan, math.inf)),
        ("top_k", (-1,)),
        ("top_p", (0.0, 1.1, math.nan)),
        ("min_p", (-0.1, 1.1, math.nan)),
        ("repetition_penalty", (0.0, -1.0, math.nan, math.inf)),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=f"{field} is {value}; expected"):
            SamplingConfig(**{field: value})  # type: ignore[arg-type]
