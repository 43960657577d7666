from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

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
    frequency_penalty=some.sampled_from([-2.0, 0.0, 0.7]),
    presence_penalty=some.sampled_from([-0.7, 0.0, 2.0]),
    no_repeat_ngram_size=some.integers(0, 3),
    temperature=some.sampled_from([0.0, 0.1, 1.0, 3.0]),
    top_k=some.integers(0, 14),
    top_p=some.sampled_from([1e-9, 0.3, 0.9, 1.0]),
    min_p=some.sampled_from([0.0, 0.1, 1.0]),
    typical_p=some.sampled_from([1e-9, 0.3, 0.9, 1.0]),
    epsilon_cutoff=some.sampled_from([0.0, 1e-3, 0.3, 0.99]),
    eta_cutoff=some.sampled_from([0.0, 1e-3, 0.3, 0.99]),
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


@pytest.mark.parametrize(
    ("p", "expected"), [(1.0, [0, 1, 2, 3]), (0.8, [0, 1, 2]), (0.7, [0, 1]), (0.3, [0, 1]), (0.2, [1]), (1e-9, [1])]
)
def test_typical_p_takes_the_most_usual_surprisals_first(p: float, expected: list[int]) -> None:
    """In bits, the surprisals are 1, 2, 3 and 3, and their mean is 1.75: the second symbol is nearer than the first."""
    assert kept(sampling.typical_p(logits(*HALVES), p)) == expected


@pytest.mark.parametrize(("epsilon", "expected"), [(0.0, [0, 1, 2, 3]), (0.12, [0, 1, 2, 3]), (0.13, [0, 1]), (0.9, [0])])
def test_epsilon_cutoff_is_a_probability(epsilon: float, expected: list[int]) -> None:
    assert kept(sampling.epsilon_cutoff(logits(*HALVES), epsilon)) == expected


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [
        (0.0, [0, 1, 2, 3]),
        (0.13, [0, 1, 2, 3]),  # exp(-entropy) is 0.297: the cutoff is at 0.107, not at 0.13
        (0.2, [0, 1]),  # 0.133
        (0.9, [0]),  # 0.282
    ],
)
def test_eta_cutoff_sinks_with_the_entropy(epsilon: float, expected: list[int]) -> None:
    assert kept(sampling.eta_cutoff(logits(*HALVES), epsilon)) == expected


def test_eta_cutoff_is_never_above_epsilon() -> None:
    """Where the entropy is low, sqrt(epsilon) exp(-entropy) is: here 0.089."""
    sharp = logits(0.98, 0.012, 0.008)
    assert kept(sampling.eta_cutoff(sharp, 0.01)) == kept(sampling.epsilon_cutoff(sharp, 0.01)) == [0, 1]


def test_what_is_kept_keeps_its_proportions() -> None:
    for filtered in (
        sampling.top_k(logits(*HALVES), 2),
        sampling.top_p(logits(*HALVES), 0.6),
        sampling.min_p(logits(*HALVES), 0.4),
        sampling.typical_p(logits(*HALVES), 0.5),
        sampling.epsilon_cutoff(logits(*HALVES), 0.2),
        sampling.eta_cutoff(logits(*HALVES), 0.2),
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


def test_frequency_counts_and_presence_does_not() -> None:
    logits_V = torch.tensor([1.0, 1.0, 1.0, NEVER])
    assert sampling.frequency_penalty(logits_V, [0, 3, 0, 1], 0.5).tolist() == [0.0, 0.5, 1.0, NEVER]
    assert sampling.presence_penalty(logits_V, [0, 3, 0, 1], 0.5).tolist() == [0.5, 0.5, 1.0, NEVER]
    assert sampling.frequency_penalty(logits_V, [0, 0], -2.0).tolist() == [5.0, 1.0, 1.0, NEVER]
    assert sampling.presence_penalty(logits_V, [0, 0], -2.0).tolist() == [3.0, 1.0, 1.0, NEVER]


@pytest.mark.parametrize(
    ("n", "expected"), [(0, [0, 1, 2, 3]), (1, [0]), (2, [0, 1, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_no_ngram_is_completed_twice(n: int, expected: list[int]) -> None:
    assert kept(sampling.no_repeat_ngram(torch.zeros(4), [1, 2, 3, 1, 2], n)) == expected


@settings(max_examples=60, deadline=None)
@given(some.lists(some.integers(0, 3), max_size=14), some.integers(1, 4))
def test_a_text_without_repeated_ngrams_has_none_after_one_more(seen: list[int], n: int) -> None:
    before = [tuple(seen[start : start + n]) for start in range(len(seen) - n + 1)]
    new = [token for token in range(4) if tuple([*seen, token][-n:]) not in before]
    assert kept(sampling.no_repeat_ngram(torch.zeros(4), seen, n)) == (new or [0, 1, 2, 3])


def test_where_everything_would_repeat_nothing_is_ruled_out() -> None:
    logits_V = torch.tensor([1.0, NEVER, 2.0])
    assert torch.equal(sampling.no_repeat_ngram(logits_V, [0, 2], 1), logits_V)


def test_filters_run_in_the_documented_order() -> None:
    """Each case would keep something else in another order."""
    for penalty in ({"repetition_penalty": 4.0}, {"frequency_penalty": 2.0}, {"presence_penalty": 2.0}):
        config = SamplingConfig(temperature=0.0, **penalty)  # type: ignore[arg-type]
        assert kept(sampling.apply(torch.tensor([4.0, 2.5]), config, seen=[0])) == [1]
    # 4 / 2 - 1.5 = 0.5, where (4 - 1.5) / 2 = 1.25
    both = SamplingConfig(temperature=0.0, repetition_penalty=2.0, frequency_penalty=1.5)
    assert kept(sampling.apply(torch.tensor([4.0, 1.0]), both, seen=[0])) == [1]
    assert kept(sampling.apply(torch.tensor([4.0, 1.0]), SamplingConfig(temperature=0, no_repeat_ngram_size=1), [0])) == [1]
    # flat at temperature 2, so that 0.6 / (0.6 + 0.4) no longer reaches 0.6 alone
    assert kept(sampling.apply(logits(0.6, 0.4), SamplingConfig(temperature=2.0, top_p=0.59))) == [0, 1]
    # top-k 2 leaves 2/3 and 1/3: the first alone reaches 0.6, of the whole it has only 0.5
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(top_k=2, top_p=0.6))) == [0]
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(top_p=0.6))) == [0, 1]
    # at temperature 2 the second is 0.71 times as likely as the first, at 1 only half
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(temperature=2.0, min_p=0.6))) == [0, 1]
    # of all four the second is the most typical; of the two that min-p leaves, with a mean of 0.92 bits, it is the first
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(min_p=0.4, typical_p=0.2))) == [0]
    # of the two that are most typical, the second has a third, of all it has a quarter
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(typical_p=0.7, epsilon_cutoff=0.3))) == [0, 1]
    # the eta cutoff, at 0.21, would leave the second a third, and so above the other one
    assert kept(sampling.apply(logits(*HALVES), SamplingConfig(epsilon_cutoff=0.3, eta_cutoff=0.5))) == [0]


@settings(max_examples=100, deadline=None)
@given(distributions, configs, some.lists(some.integers(0, 11), max_size=6))
def test_filters_are_pure_and_leave_something_to_draw(logits_V: Tensor, config: SamplingConfig, seen: list[int]) -> None:
    before, seen = logits_V.clone(), [token % len(logits_V) for token in seen]
    filtered = sampling.apply(logits_V, config, seen)
    assert torch.equal(logits_V, before)
    assert torch.equal(filtered, sampling.apply(logits_V, config, seen))
    found = kept(filtered)
    assert 1 <= len(found) <= (config.top_k or len(logits_V))
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
    penalized = sampling.apply(logits_V, replace(config, **neutral, epsilon_cutoff=0.0, eta_cutoff=0.0), seen)  # type: ignore[arg-type]
    if config.typical_p == 1.0:
        assert float(penalized[found].max()) == float(penalized.max()), "the most likely one stays"
    assert set(found) <= set(kept(penalized)), "and what repeats does not come back"
    assert math.fsum(probabilities(filtered)) == pytest.approx(1)
    assert sampling.draw(filtered, torch.Generator().manual_seed(1)) in found


@pytest.mark.parametrize("name", ["top_p", "typical_p", "min_p", "epsilon_cutoff", "eta_cutoff"])
@settings(max_examples=40, deadline=None)
@given(logits_V=distributions, settings_=some.tuples(some.floats(1e-6, 0.999), some.floats(1e-6, 0.999)))
def test_a_stricter_setting_keeps_a_part_of_what_a_looser_one_keeps(
    name: str, logits_V: Tensor, settings_: tuple[float, float]
) -> None:
    low, high = (set(kept(getattr(sampling, name)(logits_V, value))) for value in sorted(settings_))
    assert low
    assert high
    assert low <= high if name in ("top_p", "typical_p") else high <= low


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
        ("top_k", (-1, 2.5, 1 << 31)),
        ("no_repeat_ngram_size", (-1, 2.5, 1 << 31)),
        ("top_p", (0.0, 1.1, math.nan)),
        ("typical_p", (0.0, 1.1, math.nan)),
        ("epsilon_cutoff", (-0.1, 1.0, math.nan)),
        ("eta_cutoff", (-0.1, 1.0, math.nan)),
        ("frequency_penalty", (-2.1, 2.1, math.nan)),
        ("presence_penalty", (-2.1, 2.1, math.nan)),
        ("min_p", (-0.1, 1.1, math.nan)),
        ("repetition_penalty", (0.0, -1.0, math.nan, math.inf)),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=f"{field} is {value}; expected"):
            SamplingConfig(**{field: value})  # type: ignore[arg-type]
