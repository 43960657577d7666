"""What was read lately, symbol by symbol: traces of the input vectors, which fade at a pace of their own.

A text comes back to its words; the gates of a cell learn that slowly, and not beyond the window of backpropagation. A trace
remembers it without learning ("exponential trace memory", Mozer 1993): every symbol leaves its vector there, and what was
left before fades by 1/e within `horizon` symbols. Added to what the output vectors are multiplied by, a trace makes likely
what was read lately, and whatever has similar vectors: an exponentially decaying cache (Clarkson & Robinson 1997) of
meanings in place of words. Learned is how much of each unit is added, and, from the hidden state, when. Frequent symbols
say little, and count less (Arora et al. 2017). What it is worth stands in `benchmarks/RESULTS.md`.

    m_t = d m_{t-1} + sqrt(1 - d^2) w(x_t) e(x_t)      with d = exp(-1 / horizon), m_0 = 0, and e(x) the embedding
    added_t = sum over traces j of sigmoid(gate_j . h_t + b_j) scale_j m_t,j

    traces.scale        [J, E]
    traces.gate.weight  [J, H], traces.gate.bias [J]
    traces.weight       [V]     w(x) = a / (a + frequency of x), not trained

T time, B batch, V vocabulary, E embedding, H hidden, J traces, K sources: J (T + 1)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_RARE = 1e-3
"""The frequency at which a symbol counts for half of what the rarest do."""
_AT_ONCE = 64
"""Steps in one product: its matrix has as many rows and columns."""


class Traces(nn.Module):
    """Decaying sums of the vectors that were read; their state is [J, B, E], float32."""

    weight: Tensor
    _horizons_J: Tensor

    def __init__(self, vocabulary_size: int, embedding_size: int, hidden_size: int, horizons: Sequence[int]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(len(horizons), embedding_size))
        self.gate = nn.Linear(hidden_size, len(horizons))
        self.register_buffer("weight", torch.empty(vocabulary_size))
        self.register_buffer("_horizons_J", torch.tensor(horizons, dtype=torch.float32), persistent=False)

    def reset_parameters(self, unigram_V: Tensor) -> None:
        """Nothing is added at first, and all gates are half open; `unigram_V` are the frequencies."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.weight.copy_(_RARE / (_RARE + unigram_V))

    def initial_state(self, batch_size: int) -> Tensor:
        """Nothing was read: zeros [J, B, E]."""
        return self.scale.new_zeros(len(self.scale), batch_size, self.scale.shape[1])

    def forward(self, ids_TB: Tensor, vectors_TBE: Tensor, hidden_TBH: Tensor, state_JBE: Tensor) -> tuple[Tensor, Tensor]:
        """What is added after each step [T, B, E], and the traces after the last; float32, also under autocast."""
        with torch.autocast(ids_TB.device.type, enabled=False):
            marks_BTE = (vectors_TBE.to(self.scale.dtype) * self.weight[ids_TB].unsqueeze(-1)).transpose(0, 1)
            gates_BTJ = self.gate(hidden_TBH.to(self.scale.dtype)).sigmoid().transpose(0, 1)
            state_BJE, added = state_JBE.transpose(0, 1), []
            parts = zip(torch.split(marks_BTE, _AT_ONCE, 1), torch.split(gates_BTJ, _AT_ONCE, 1), strict=True)
            for part_BTE, part_BTJ in parts:
                added_BTE, state_BJE = self._read(part_BTE, part_BTJ, state_BJE)
                added.append(added_BTE)
            return torch.cat(added, 1).transpose(0, 1), state_BJE.transpose(0, 1)

    def _read(self, marks_BTE: Tensor, gates_BTJ: Tensor, state_BJE: Tensor) -> tuple[Tensor, Tensor]:
        """A few steps: what is added comes from one product over K sources, all that is read and the past of each trace."""
        decays_J1 = (-1 / self._horizons_J).exp().unsqueeze(1)
        steps_T = torch.arange(marks_BTE.shape[1], dtype=decays_J1.dtype, device=decays_J1.device)
        elapsed_TT = steps_T[:, None] - steps_T
        read_JTT = (1 - decays_J1**2).sqrt().unsqueeze(2) * decays_J1.unsqueeze(2) ** elapsed_TT.clamp(min=0.0)
        read_JTT = torch.where(elapsed_TT < 0, 0.0, read_JTT)
        past_JT1 = (decays_J1 ** (steps_T + 1)).unsqueeze(2)
        shares_BTK = torch.einsum("btj,jtk->btjk", gates_BTJ, torch.cat([read_JTT, past_JT1], 2)).flatten(2)
        sources_BJTE = torch.cat([marks_BTE.unsqueeze(1).expand(-1, len(decays_J1), -1, -1), state_BJE.unsqueeze(2)], 2)
        scaled_BKE = (sources_BJTE * self.scale.unsqueeze(1)).flatten(1, 2)
        after_BJE = read_JTT[:, -1] @ marks_BTE + past_JT1[:, -1] * state_BJE
        return torch.bmm(shares_BTK, scaled_BKE), after_BJE
