"""The gate equations, written out once: the reference that the fused kernels are tested against.

One function per cell takes one time step, `unroll` takes a window. Weights are laid out as in `torch.nn.LSTM`, `GRU` and
`RNN`: the gates' matrices stand on top of one another, so one product computes them all.

T time, B batch, I input size, H hidden size, G gates x H
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""(hidden,) for GRU and RNN, (hidden, cell) for LSTM."""


class CellWeights(NamedTuple):
    """The parameters of one layer, in the order in which torch's kernels take them."""

    weight_ih_GI: Tensor
    weight_hh_GH: Tensor
    bias_ih_G: Tensor
    bias_hh_G: Tensor


def lstm_step(input_BI: Tensor, state: State, weights: CellWeights) -> State:
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    The cell state is the memory: what the forget gate keeps of it, plus what the input gate lets in of the candidate.
    The hidden state is what the output gate shows of it. Where the forget gate is open, the gradient passes along the
    cell state undiminished: that is why an LSTM learns over long distances.
    """
    hidden_BH, cell_BH = state
    gates_BG = input_BI @ weights.weight_ih_GI.T + weights.bias_ih_G + hidden_BH @ weights.weight_hh_GH.T + weights.bias_hh_G
    return lstm_state(gates_BG, cell_BH)


def lstm_state(gates_BG: Tensor, cell_BH: Tensor) -> State:
    """The state after a step, from what its gates are given."""
    input_gate_BH, forget_gate_BH, candidate_BH, output_gate_BH = gates_BG.chunk(4, dim=-1)
    cell_BH = forget_gate_BH.sigmoid() * cell_BH + input_gate_BH.sigmoid() * candidate_BH.tanh()
    hidden_BH = output_gate_BH.sigmoid() * cell_BH.tanh()
    return hidden_BH, cell_BH


def gru_step(input_BI: Tensor, state: State, weights: CellWeights) -> State:
    """Gated recurrent unit (Cho et al. 2014), in the variant of the fused kernels: the reset gate acts after the product.

    The update gate slides between the old hidden state and the candidate; one state serves as memory and as output.
    """
    (hidden_BH,) = state
    from_input_BG = input_BI @ weights.weight_ih_GI.T + weights.bias_ih_G
    from_hidden_BG = hidden_BH @ weights.weight_hh_GH.T + weights.bias_hh_G
    reset_in_BH, update_in_BH, candidate_in_BH = from_input_BG.chunk(3, dim=-1)
    reset_hid_BH, update_hid_BH, candidate_hid_BH = from_hidden_BG.chunk(3, dim=-1)
    reset_BH = (reset_in_BH + reset_hid_BH).sigmoid()
    update_BH = (update_in_BH + update_hid_BH).sigmoid()
    candidate_BH = (candidate_in_BH + reset_BH * candidate_hid_BH).tanh()
    return ((1 - update_BH) * candidate_BH + update_BH * hidden_BH,)


def rnn_step(input_BI: Tensor, state: State, weights: CellWeights) -> State:
    """The plain recurrent network (Elman 1990): everything passes through the same tanh at every step, and fades."""
    (hidden_BH,) = state
    from_input_BH = input_BI @ weights.weight_ih_GI.T + weights.bias_ih_G
    return ((from_input_BH + hidden_BH @ weights.weight_hh_GH.T + weights.bias_hh_G).tanh(),)


Step = Callable[[Tensor, State, CellWeights], State]

STEPS: dict[str, Step] = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STATE_TENSORS = {"lstm": 2, "gru": 1, "rnn": 1}


def unroll(cell: str, input_TBI: Tensor, state: State, weights: CellWeights) -> tuple[Tensor, State]:
    """Apply a cell step by step; returns all hidden states [T, B, H] and the last state, each [B, H]."""
    step = STEPS[cell]
    hidden = []
    for input_BI in input_TBI:
        state = step(input_BI, state, weights)
        hidden.append(state[0])
    return torch.stack(hidden), state
