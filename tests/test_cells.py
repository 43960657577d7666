from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lstmlm.model.cells import GATES, STATE_TENSORS, STEPS, CellWeights, State, unroll
from lstmlm.model.recurrent import RecurrentStack, run_fused

CELLS = ("lstm", "gru", "rnn")
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]
T, B, INPUT, H = 13, 5, 7, 11
Run = Callable[[str, Tensor, State, CellWeights], tuple[Tensor, State]]
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def drawn(*shape: int, dtype: torch.dtype, seed: int, scale: float = 0.3) -> Tensor:
    values = scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).requires_grad_()


def layer(cell: str, dtype: torch.dtype, input_size: int = INPUT) -> CellWeights:
    gates = GATES[cell] * H
    shapes = [(gates, input_size), (gates, H), (gates,), (gates,)]
    return CellWeights(*(drawn(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes)))


def start(cell: str, dtype: torch.dtype) -> State:
    return tuple(drawn(B, H, dtype=dtype, seed=20 + part) for part in range(STATE_TENSORS[cell]))


def objective(hidden_TBH: Tensor, state: State) -> Tensor:
    """A number in which every output counts differently, so that its gradient checks them all."""
    outputs = [hidden_TBH, *state]
    return sum((drawn(*out.shape, dtype=out.dtype, seed=40 + k).detach() * out).sum() for k, out in enumerate(outputs))  # type: ignore[return-value]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_the_fused_kernel_computes_the_written_out_equations(cell: str, dtype: torch.dtype, tolerance: float) -> None:
    inputs_TBI, state, weights = drawn(T, B, INPUT, dtype=dtype, seed=30), start(cell, dtype), layer(cell, dtype)
    results = []
    for run in (unroll, run_fused):
        hidden_TBH, after = run(cell, inputs_TBI, state, weights)
        gradients = torch.autograd.grad(objective(hidden_TBH, after), [inputs_TBI, *state, *weights])
        results.append([hidden_TBH, *after, *gradients])
    for written_out, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, written_out, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_weights_are_laid_out_as_in_torch(cell: str, dtype: torch.dtype, tolerance: float) -> None:
    """Two layers of torch's own module, given our weights: same outputs, same states, same gradients."""
    stack = RecurrentStack(cell, INPUT, H, 2).to(dtype)
    theirs = TORCH[cell](INPUT, H, num_layers=2, dtype=dtype)
    for index, ours in enumerate(stack.layers):
        filled = layer(cell, dtype, INPUT if index == 0 else H)
        for name, weight in filled._asdict().items():
            place = name.removesuffix("_GI").removesuffix("_GH").removesuffix("_G")
            getattr(ours, place).data = weight.detach().clone()
            getattr(theirs, f"{place}_l{index}").data = weight.detach().clone()
    inputs_TBI = drawn(T, B, INPUT, dtype=dtype, seed=30)
    state = tuple(drawn(2, B, H, dtype=dtype, seed=20 + part) for part in range(STATE_TENSORS[cell]))
    hidden_TBH, after = stack(inputs_TBI, state)
    their_TBH, their_after = theirs(inputs_TBI, state if cell == "lstm" else state[0])
    their_state = their_after if cell == "lstm" else (their_after,)
    ours_grad = torch.autograd.grad(objective(hidden_TBH, after), [inputs_TBI, *state, *stack.parameters()])
    their_grad = torch.autograd.grad(objective(their_TBH, their_state), [inputs_TBI, *state, *theirs.parameters()])
    for found, expected in zip([hidden_TBH, *after, *ours_grad], [their_TBH, *their_state, *their_grad], strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("run", [unroll, run_fused])
def test_lstm_by_hand(run: Run) -> None:
    """One unit, no weights: both gates on the memory half open, the candidate and the output gate saturated."""
    biases_G = torch.tensor([0.0, 0.0, 30.0, 30.0], dtype=torch.float64)  # input, forget, candidate, output
    weights = CellWeights(biases_G.new_zeros(4, 1), biases_G.new_zeros(4, 1), biases_G, torch.zeros_like(biases_G))
    state = (torch.tensor([[0.9]], dtype=torch.float64), torch.tensor([[0.6]], dtype=torch.float64))
    hidden_TBH, (hidden_BH, cell_BH) = run("lstm", torch.ones(1, 1, 1).double(), state, weights)
    assert cell_BH.item() == pytest.approx(0.5 * 0.6 + 0.5 * 1.0, abs=1e-12)
    assert hidden_BH.item() == hidden_TBH.item() == pytest.approx(math.tanh(0.8), abs=1e-12)


@pytest.mark.parametrize("run", [unroll, run_fused])
def test_gru_by_hand(run: Run) -> None:
    """Half-open gates; the reset gate halves the recurrent bias as well, so it acts after the product."""
    bias_ih_G, bias_hh_G = torch.tensor([[0.0, 0.0, 0.25], [0.0, 0.0, 2.0]]).double()
    weights = CellWeights(torch.zeros(3, 1).double(), torch.zeros(3, 1).double(), bias_ih_G, bias_hh_G)
    (hidden_BH,) = run("gru", torch.ones(1, 1, 1).double(), (torch.tensor([[0.75]]).double(),), weights)[1]
    assert hidden_BH.item() == pytest.approx(0.5 * math.tanh(0.25 + 0.5 * 2.0) + 0.5 * 0.75, abs=1e-12)


@pytest.mark.parametrize("run", [unroll, run_fused])
def test_rnn_by_hand(run: Run) -> None:
    one, half = torch.ones(1, 1).double(), torch.full((1, 1), 0.5).double()
    weights = CellWeights(2 * one, half, 0.25 * one[0], 0.125 * one[0])
    (hidden_BH,) = run("rnn", 0.5 * one[None], (half,), weights)[1]
    assert hidden_BH.item() == pytest.approx(math.tanh(2 * 0.5 + 0.5 * 0.5 + 0.25 + 0.125), abs=1e-12)


def test_an_open_forget_gate_carries_the_memory_and_its_gradient_undiminished() -> None:
    closed, wide_open = -60.0, 60.0
    biases_G = torch.tensor([closed, wide_open, 0.0, 0.0], dtype=torch.float64)
    weights = CellWeights(biases_G.new_zeros(4, 1), biases_G.new_zeros(4, 1), biases_G, torch.zeros_like(biases_G))
    cell_BH = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    after = unroll("lstm", torch.ones(200, 1, 1).double(), (torch.zeros(1, 1).double(), cell_BH), weights)[1]
    (gradient,) = torch.autograd.grad(after[1].sum(), cell_BH)
    assert (after[1].item(), gradient.item()) == pytest.approx((0.7, 1.0), abs=1e-12)


def test_every_cell_has_its_step_gates_and_state() -> None:
    assert set(STEPS) == set(GATES) == set(STATE_TENSORS) == set(CELLS)
