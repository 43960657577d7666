"""Traces: decaying sums of what was read, against their formula."""

from __future__ import annotations

import math

import building
import pytest
import torch
from torch import Tensor

from lstmlm.model.traces import Traces

V, E, H, T, B = 11, 6, 5, 150, 3
HORIZONS = (1, 7, 400)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def traces() -> Traces:
    """Open gates, any scale, and weights of a falling frequency."""
    built = Traces(V, E, H, HORIZONS).double()
    built.reset_parameters(torch.arange(V, 0, -1) / 66)
    with torch.no_grad():
        built.scale.copy_(draw(len(HORIZONS), E, seed=1))
        built.gate.weight.copy_(draw(len(HORIZONS), H, seed=2))
        built.gate.bias.copy_(draw(len(HORIZONS), seed=3))
    return built


def test_what_is_added_is_a_sum_over_all_that_was_read(traces: Traces) -> None:
    """Each symbol by its age, in blocks or not, after a state or not."""
    ids_TB = torch.randint(V, (T, B), generator=torch.Generator().manual_seed(4))
    vectors_TBE, hidden_TBH = draw(T, B, E, seed=5), draw(T, B, H, seed=6)
    given_JBE = draw(len(HORIZONS), B, E, seed=7)
    found_TBE, after_JBE = traces(ids_TB, vectors_TBE, hidden_TBH, given_JBE)
    for last in (0, 1, 63, 64, 65, T - 1):
        expected_BE = torch.zeros(B, E, dtype=torch.float64)
        for number, horizon in enumerate(HORIZONS):
            decay = math.exp(-1 / horizon)
            trace_BE = decay ** (last + 1) * given_JBE[number]
            for step in range(last + 1):
                counts_B1 = traces.weight[ids_TB[step]][:, None] * math.sqrt(1 - decay**2)
                trace_BE = trace_BE + decay ** (last - step) * counts_B1 * vectors_TBE[step]
            gate_B = (hidden_TBH[last] @ traces.gate.weight[number] + traces.gate.bias[number]).sigmoid()
            expected_BE += gate_B[:, None] * traces.scale[number] * trace_BE
            if last == T - 1:
                torch.testing.assert_close(after_JBE[number], trace_BE)
        torch.testing.assert_close(found_TBE[last], expected_BE)


def test_a_trace_fades_by_1_over_e_within_its_horizon_and_keeps_its_size(traces: Traces) -> None:
    """A vector long ago is worth d^age; of independent vectors of variance 1 a long trace has variance 1 again."""
    traces.weight.fill_(1.0)
    ids_TB, nothing_TBH = torch.zeros(20_000, 1, dtype=torch.int64), torch.zeros(20_000, 1, H, dtype=torch.float64)
    vectors_TBE = draw(20_000, 1, E, seed=8)
    start_JBE = traces.initial_state(1)
    _, after_JBE = traces(ids_TB[:7], torch.zeros_like(vectors_TBE[:7]), nothing_TBH[:7], torch.ones_like(start_JBE))
    assert after_JBE[:, 0, 0].tolist() == pytest.approx([math.exp(-7), math.exp(-1), math.exp(-7 / 400)])
    squares = []
    state_JBE = start_JBE
    for part_TBE in torch.split(vectors_TBE, 10):
        _, state_JBE = traces(ids_TB[: len(part_TBE)], part_TBE, nothing_TBH[: len(part_TBE)], state_JBE)
        squares.append(state_JBE[:2].detach().square().mean())
    assert float(torch.stack(squares).mean()) == pytest.approx(1.0, rel=0.05)


def test_a_rare_symbol_counts_for_more_than_a_frequent_one() -> None:
    built = Traces(3, E, H, (5,))
    built.reset_parameters(torch.tensor([0.999, 1e-3, 0.0]))
    assert built.weight.tolist() == pytest.approx([1e-3 / 1.0, 0.5, 1.0])


def test_at_first_nothing_is_added_but_gradients_flow() -> None:
    """The same logits as without traces; the first step opens them."""
    plain, model = (building.model(V, embedding_size=E, hidden_size=H, traces=of, scale=1.0) for of in ((), HORIZONS))
    model.load_state_dict(model.state_dict() | plain.state_dict())
    assert model.traces is not None
    model.traces.reset_parameters(torch.full((V,), 1 / V))
    ids_TB = torch.arange(12).view(4, 3) % V
    features_TBF, _ = model(ids_TB, model.initial_state(3))
    hidden_TBH, _ = plain(ids_TB, plain.initial_state(3))
    assert features_TBF.shape[-1] == H + E
    torch.testing.assert_close(model.logits(features_TBF), plain.logits(hidden_TBH))
    model.loss(features_TBF.flatten(0, 1), ids_TB.flatten()).backward()  # type: ignore[no-untyped-call]
    assert model.traces.scale.grad is not None
    assert model.traces.scale.grad.abs().min() > 0
