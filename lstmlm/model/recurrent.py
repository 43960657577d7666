"""Stacked LSTM, GRU or RNN on torch's fused kernels, with the state in the caller's hands.

The stack reads continuous vectors [T, B, I], so that anything, not only embeddings, can be its input. Dropout is `locked`
(Gal & Ghahramani 2016): one mask for all steps of a window.

T time, B batch, L layers, I input size, H hidden size, G gates x H, V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lstmlm.model.cells import GATES, STATE_TENSORS, CellWeights, State
from lstmlm.model.inputs import fill_uniform

_FUSED: dict[str, Callable[..., Any]] = {"lstm": torch.lstm, "gru": torch.gru, "rnn": torch.rnn_tanh}


def locked_dropout(values_TBX: Tensor, probability: float, training: bool) -> Tensor:
    """Zero the same units at every time step, and scale the others up to keep the mean."""
    if not training or probability == 0.0:
        return values_TBX
    mask_BX = torch.empty_like(values_TBX[0]).bernoulli_(1 - probability).div_(1 - probability)
    return values_TBX * mask_BX


def dropped_weights(weight_GH: Tensor, probability: float) -> Tensor:
    """Dropout on weights (Wan et al. 2013), from 16 random bits a weight.

    torch's own draws 53 bits for one after the other: 6.8 to 8.8 ms for 1536 x 384 weights on a CPU, where this takes 1.0.
    """
    draws = torch.empty(-(-weight_GH.numel() // 4), dtype=torch.int64, device=weight_GH.device).random_(-(1 << 63), None)
    bits_GH = draws.view(torch.int16)[: weight_GH.numel()].view(weight_GH.shape)
    lowest = min(round(probability * 65_536), 65_535) - 32_768
    return weight_GH * (bits_GH >= lowest).to(weight_GH.dtype).mul_(65_536 / (32_768 - lowest))


class RecurrentLayer(nn.Module):
    """One layer; parameters named and laid out as in the model directory.

    With `multiplied_input` its input is W x already, [T, B, G]: what one-hot vectors come as (`inputs.one_hot_product`).
    """

    _identity_GG: Tensor

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, *, multiplied_input: bool = False, dropout_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.cell = cell
        self.dropout_weight = dropout_weight
        self.multiplied_input = multiplied_input
        self.hidden_size = hidden_size
        gates = GATES[cell] * hidden_size
        # Columns that are read one by one are kept together in memory.
        weight_ih = torch.empty(input_size, gates).T if multiplied_input else torch.empty(gates, input_size)
        self.weight_ih = nn.Parameter(weight_ih)
        self.weight_hh = nn.Parameter(torch.empty(gates, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(gates))
        self.bias_hh = nn.Parameter(torch.empty(gates))
        if multiplied_input:
            self.register_buffer("_identity_GG", torch.eye(gates), persistent=False)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform input weights, orthogonal recurrent weights gate by gate, zero biases but a forget gate of 1.

        There are two bias vectors, which add up: the 1 stands in one of them (Jozefowicz et al. 2015).
        """
        bound = 1 / math.sqrt(self.hidden_size)
        with torch.no_grad():
            fill_uniform(self.weight_ih, bound, generator)
            for gate_HH in torch.split(self.weight_hh, self.hidden_size):
                gate_HH.copy_(nn.init.orthogonal_(torch.empty(gate_HH.shape), generator=generator))
            self.bias_ih.zero_()
            self.bias_hh.zero_()
            if self.cell == "lstm":
                self.bias_ih[self.hidden_size : 2 * self.hidden_size] = 1.0

    @property
    def weights(self) -> CellWeights:
        return CellWeights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def forward(self, inputs_TBI: Tensor, state: State) -> tuple[Tensor, State]:
        """A window through the fused kernel; `state` and the returned one hold tensors [B, H]."""
        weights = self.weights
        if self.multiplied_input:  # the kernel always multiplies: by the identity, exact in any precision
            weights = weights._replace(weight_ih_GI=self._identity_GG)
        if self.training and self.dropout_weight:  # once for the window, so that it still is one call of the kernel
            weights = weights._replace(weight_hh_GH=dropped_weights(self.weight_hh, self.dropout_weight))
        return run_fused(self.cell, inputs_TBI, state, weights)


def run_fused(cell: str, inputs_TBI: Tensor, state: State, weights: CellWeights) -> tuple[Tensor, State]:
    """What `cells.unroll` does, in one call of torch's kernel (oneDNN for the LSTM on a CPU, cuDNN on a GPU)."""
    given = tuple(part_BH.unsqueeze(0) for part_BH in state)
    hidden_TBH, *after = _FUSED[cell](
        inputs_TBI,
        given if len(given) > 1 else given[0],
        list(weights),
        True,
        1,
        0.0,
        torch.is_grad_enabled(),
        False,
        False,
    )
    return hidden_TBH, tuple(part_LBH.squeeze(0) for part_LBH in after)


class RecurrentStack(nn.Module):
    """Layers one above the other; with `residual`, each from the second on adds its input to its output."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        residual: bool = False,
        multiplied_input: bool = False,
        dropout_hidden: float = 0.0,
        dropout_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.hidden_size = hidden_size
        self.residual = residual
        self.dropout_hidden = dropout_hidden
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers: Sequence[RecurrentLayer] = nn.ModuleList(  # type: ignore[assignment]
            RecurrentLayer(
                cell,
                size,
                hidden_size,
                multiplied_input=multiplied_input and layer == 0,
                dropout_weight=dropout_weight,
            )
            for layer, size in enumerate(sizes)
        )

    def initial_state(self, batch_size: int) -> State:
        """Zeros, [L, B, H] each: the only reset there is."""
        weight = self.layers[0].weight_hh
        shape = (len(self.layers), batch_size, self.hidden_size)
        return tuple(weight.new_zeros(shape) for _ in range(STATE_TENSORS[self.cell]))

    def forward(self, inputs_TBI: Tensor, state: State) -> tuple[Tensor, State]:
        """Hidden states of the top layer [T, B, H] and the state after the last step, float32 [L, B, H] each."""
        values = inputs_TBI
        after: list[State] = []
        for index, layer in enumerate(self.layers):
            if index > 0:
                values = locked_dropout(values, self.dropout_hidden, self.training)
            hidden_TBH, layer_state = layer(values, tuple(part_LBH[index] for part_LBH in state))
            values = values + hidden_TBH if self.residual and index > 0 else hidden_TBH
            after.append(layer_state)
        return values, tuple(torch.stack(parts).to(state[0].dtype) for parts in zip(*after, strict=True))
