from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from lstmlm.model.cells import State, unroll
from lstmlm.model.recurrent import RecurrentStack, dropped_weights, locked_dropout

CELLS = ("lstm", "gru", "rnn")
T, B, INPUT, H = 14, 3, 5, 8


def stack(cell: str = "lstm", layers: int = 3, input_size: int = INPUT, **options: float) -> RecurrentStack:
    built = RecurrentStack(cell, input_size, H, layers, **options).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)
    for layer in built.layers:
        layer.reset_parameters(generator)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, dtype=weight.dtype, generator=generator))
    return built.eval()


def window(steps: int = T, streams: int = B, input_size: int = INPUT) -> Tensor:
    """Continuous vectors, as any source may give them."""
    return torch.randn(steps, streams, input_size, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def in_parts(rnn: RecurrentStack, inputs_TBI: Tensor, cuts: list[int]) -> tuple[Tensor, State]:
    state = rnn.initial_state(inputs_TBI.shape[1])
    hidden = []
    for begin, end in zip([0, *cuts], [*cuts, len(inputs_TBI)], strict=True):
        hidden_TBH, state = rnn(inputs_TBI[begin:end], state)
        hidden.append(hidden_TBH)
    return torch.cat(hidden), state


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=8, deadline=None)
@given(cuts=some.sets(some.integers(1, T - 1)).map(sorted))
def test_one_long_window_is_many_short_ones(cell: str, residual: bool, cuts: list[int]) -> None:
    rnn, inputs_TBI = stack(cell, residual=residual), window()
    at_once = rnn(inputs_TBI, rnn.initial_state(B))
    torch.testing.assert_close(in_parts(rnn, inputs_TBI, cuts), at_once, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_is_all_at_once_in_float32(cell: str) -> None:
    """In float32 too, where the LSTM runs on another kernel."""
    rnn, inputs_TBI = stack(cell).float(), window().float()
    at_once = rnn(inputs_TBI, rnn.initial_state(B))
    torch.testing.assert_close(in_parts(rnn, inputs_TBI, list(range(1, T))), at_once, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_streams_do_not_see_each_other(cell: str) -> None:
    rnn, inputs_TBI = stack(cell), window()
    together_TBH, state = rnn(inputs_TBI, rnn.initial_state(B))
    for stream in range(B):
        alone_TBH, alone = rnn(inputs_TBI[:, [stream]], rnn.initial_state(1))
        torch.testing.assert_close(alone_TBH, together_TBH[:, [stream]], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone, tuple(part_LBH[:, [stream]] for part_LBH in state), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_stack_is_its_layers_one_above_the_other(cell: str, residual: bool) -> None:
    """Residual adds a layer's input to its output from layer 1 on, also where layer 0 would allow it."""
    rnn, inputs_TBI = stack(cell, input_size=H, residual=residual), window(input_size=H)
    values_TBH, after = inputs_TBI, []
    for index, layer in enumerate(rnn.layers):
        zero = tuple(part_LBH[index] for part_LBH in rnn.initial_state(B))
        hidden_TBH, state = unroll(cell, values_TBH, zero, layer.weights)
        values_TBH = hidden_TBH + values_TBH if residual and index >= 1 else hidden_TBH
        after.append(state)
    found_TBH, found_state = rnn(inputs_TBI, rnn.initial_state(B))
    torch.testing.assert_close(found_TBH, values_TBH, rtol=1e-10, atol=1e-10)
    for part_LBH, parts in zip(found_state, zip(*after, strict=True), strict=True):
        torch.testing.assert_close(part_LBH, torch.stack(parts), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("cell", "parts"), [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_the_initial_state_is_zero_for_every_layer_and_stream(cell: str, parts: int) -> None:
    state = stack(cell).initial_state(7)
    assert [tuple(part_LBH.shape) for part_LBH in state] == [(3, 7, H)] * parts
    assert not any(part_LBH.any() for part_LBH in state)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_reach_the_given_state(cell: str) -> None:
    rnn = stack(cell)
    state = tuple(part_LBH.requires_grad_() for part_LBH in rnn.initial_state(B))
    gradients = torch.autograd.grad(rnn(window(), state)[0].sum(), state)
    assert all(gradient_LBH.any(dim=-1).all() for gradient_LBH in gradients)


def test_the_forget_gate_starts_open_by_one_of_two_biases() -> None:
    rnn = RecurrentStack("lstm", INPUT, H, 2)
    for layer in rnn.layers:
        layer.reset_parameters(torch.Generator().manual_seed(1))
        total_IFGO = (layer.bias_ih + layer.bias_hh).reshape(4, H)
        assert total_IFGO.tolist() == [[0.0] * H, [1.0] * H, [0.0] * H, [0.0] * H]
        assert not (layer.bias_ih.any() and layer.bias_hh.any())


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("rnn", 1), ("lstm", 4)])
def test_recurrent_weights_start_orthogonal_gate_by_gate(cell: str, gates: int) -> None:
    (layer,) = RecurrentStack(cell, INPUT, H, 1).double().layers
    layer.reset_parameters(torch.Generator().manual_seed(1))
    for gate_HH in layer.weight_hh.reshape(gates, H, H):
        torch.testing.assert_close(gate_HH @ gate_HH.T, torch.eye(H).double(), rtol=0, atol=2e-6)  # drawn in float32
    assert layer.weight_hh.unique().numel() > H * H * (gates - 1)  # no two gates alike


def test_dropout_zeroes_the_same_units_at_every_step() -> None:
    torch.manual_seed(4)
    values_TBX = 1 + window().abs()
    factors_TBX = locked_dropout(values_TBX, 0.5, training=True) / values_TBX
    assert torch.equal(factors_TBX, factors_TBX[:1].expand_as(factors_TBX))
    assert factors_TBX.unique().tolist() == pytest.approx([0.0, 2.0])
    assert not torch.equal(factors_TBX[0, 0], factors_TBX[0, 1])


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(4)
    kept_TBX = locked_dropout(torch.ones(1, 200, 200), 0.3, training=True)
    assert kept_TBX.mean().item() == pytest.approx(1.0, abs=0.02)  # six standard errors
    assert (kept_TBX == 0).double().mean().item() == pytest.approx(0.3, abs=0.015)


def test_dropout_is_off_outside_training() -> None:
    inputs_TBI = window()
    assert torch.equal(locked_dropout(inputs_TBI, 0.9, training=False), inputs_TBI)
    without, with_dropout = stack(), stack(dropout_hidden=0.9)
    zero = without.initial_state(B)
    assert torch.equal(without(inputs_TBI, zero)[0], with_dropout(inputs_TBI, zero)[0])
    assert not torch.equal(without(inputs_TBI, zero)[0], with_dropout.train()(inputs_TBI, zero)[0])


def test_dropout_between_layers_leaves_a_single_layer_alone() -> None:
    inputs_TBI, plain, dropped = window(), stack(layers=1), stack(layers=1, dropout_hidden=0.9).train()
    assert torch.equal(plain(inputs_TBI, plain.initial_state(B))[0], dropped(inputs_TBI, plain.initial_state(B))[0])


@pytest.mark.parametrize("cell", CELLS)
def test_weight_drop_masks_the_recurrent_weights_once_for_the_window(cell: str) -> None:
    """The fused kernel on a masked matrix is the written-out recurrence with that matrix at every step."""
    rnn, inputs_TBI = stack(cell, layers=2, dropout_weight=0.5).train(), window()
    zero = rnn.initial_state(B)
    torch.manual_seed(7)
    found_TBH, _ = rnn(inputs_TBI, zero)
    torch.manual_seed(7)
    values_TBH, masks = inputs_TBI, []
    for index, layer in enumerate(rnn.layers):
        masks.append(dropped_weights(torch.ones_like(layer.weight_hh), 0.5))
        weights = layer.weights._replace(weight_hh_GH=layer.weight_hh * masks[-1])
        values_TBH, _ = unroll(cell, values_TBH, tuple(part_LBH[index] for part_LBH in zero), weights)
    torch.testing.assert_close(found_TBH, values_TBH, rtol=1e-10, atol=1e-10)
    for layer, mask_GH in zip(rnn.layers, masks, strict=True):
        (gradient_GH,) = torch.autograd.grad(found_TBH.square().sum(), layer.weight_hh, retain_graph=True)
        assert torch.equal(gradient_GH == 0, mask_GH == 0)


@pytest.mark.parametrize("probability", [1e-4, 0.25, 0.5, 0.9, 1 - 1e-9])
def test_a_weight_is_dropped_with_its_probability_and_the_others_make_up_for_it(probability: float) -> None:
    torch.manual_seed(3)
    ones = torch.ones(1_001, 999, dtype=torch.float64)
    dropped = dropped_weights(ones, probability)
    part = float((dropped == 0).double().mean())
    tolerance = 5 * (probability * (1 - probability) / ones.numel()) ** 0.5 + 1 / 65_536
    assert part == pytest.approx(probability, abs=tolerance)
    (kept,) = dropped[dropped != 0].unique()
    assert kept == pytest.approx(1 / (1 - probability), rel=1e-4) or probability > 0.99
    if 0.1 < probability < 0.95:
        assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
        neighbours = (dropped[:, 1:] == 0) & (dropped[:, :-1] == 0)
        assert float(neighbours.double().mean()) == pytest.approx(probability**2, abs=0.01)


def test_weight_drop_is_off_outside_training_and_leaves_the_weights_alone() -> None:
    plain, dropping, inputs_TBI = stack(), stack(dropout_weight=0.9), window()
    zero = plain.initial_state(B)
    assert torch.equal(plain(inputs_TBI, zero)[0], dropping(inputs_TBI, zero)[0])
    first_TBH, _ = dropping.train()(inputs_TBI, zero)
    assert not torch.equal(first_TBH, dropping(inputs_TBI, zero)[0])  # another mask for every window
    assert all(map(torch.equal, plain.parameters(), dropping.parameters()))
