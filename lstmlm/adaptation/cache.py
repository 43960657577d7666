"""The neural cache: what followed when the model was in a similar state lately (Grave et al. 2017, "Improving Neural
Language Models with a Continuous Cache").

    p(w | x_1 ... x_t) = sum over i < t with x_{i+1} = w of  exp(s h_i . h_t),  normalized,  for the last `window` i

The memory holds the hidden state before every token that was read, and the token. It is filled from the first token on;
before, there is no such distribution.

T tokens of a block, B places, M tokens remembered, H hidden, V vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lstmlm.config import CacheConfig


class _Log:
    """Room for hidden states and tokens, filled from the front, shared by all memories that begin alike."""

    def __init__(self, capacity: int, hidden_size: int) -> None:
        self.hidden_CH = torch.empty(capacity, hidden_size)
        self.tokens_C = torch.empty(capacity, dtype=torch.int64)
        self.filled = 0

    def write(self, hidden_TH: Tensor, tokens_T: Tensor) -> None:
        place = slice(self.filled, self.filled + len(tokens_T))
        self.hidden_CH[place], self.tokens_C[place] = hidden_TH, tokens_T
        self.filled = place.stop


@dataclass(frozen=True)
class Memory:
    """What was read; never changes, and holds no more than its part of a log that goes on."""

    _log: _Log
    _length: int
    window: int

    @property
    def _place(self) -> slice:
        return slice(max(0, self._length - self.window), self._length)

    @property
    def hidden_MH(self) -> Tensor:  # noqa: N802
        return self._log.hidden_CH[self._place]

    @property
    def tokens_M(self) -> Tensor:  # noqa: N802
        return self._log.tokens_C[self._place]

    def __len__(self) -> int:
        return min(self._length, self.window)

    def then(self, hidden_TH: Tensor, tokens_T: Tensor) -> Memory:
        """The memory after these tokens, each with the hidden state that it was predicted from."""
        log, length = self._log, self._length
        if log.filled > length or length + len(tokens_T) > len(log.tokens_C):  # another text went on there, or it is full
            log = _Log(2 * self.window + len(tokens_T), hidden_TH.shape[1])
            log.write(self.hidden_MH, self.tokens_M)
            length = log.filled
        log.write(hidden_TH, tokens_T)
        return Memory(log, length + len(tokens_T), self.window)


@dataclass(frozen=True)
class NeuralCache:
    """The distribution over what the memory holds."""

    config: CacheConfig
    vocabulary_size: int

    def empty(self, hidden_size: int) -> Memory:
        """Nothing was read."""
        return Memory(_Log(0, hidden_size), 0, self.config.window)

    def probabilities(self, memory: Memory, hidden_BH: Tensor) -> Tensor | None:
        """p(next token | text) from where the model may be now, float64 [B, V]; `None` while the memory is empty."""
        if not len(memory):
            return None
        shares_BM = (self.config.sharpness * (hidden_BH @ memory.hidden_MH.T)).double().softmax(1)
        empty_BV = torch.zeros(len(hidden_BH), self.vocabulary_size, dtype=torch.float64)
        return empty_BV.index_add_(1, memory.tokens_M, shares_BM)

    def score(self, memory: Memory, hidden_TH: Tensor, tokens_T: Tensor) -> tuple[Tensor, Memory]:
        """Probabilities of tokens, each given those before, float64 [T] (nan: nothing was remembered); the memory after."""
        known = len(memory)
        hidden_SH = torch.cat([memory.hidden_MH, hidden_TH])
        tokens_S = torch.cat([memory.tokens_M, tokens_T])
        scores_TS = self.config.sharpness * (hidden_TH @ hidden_SH.T)
        now_T1 = torch.arange(known, known + len(tokens_T))[:, None]
        then_S = torch.arange(len(tokens_S))
        seen_TS = (then_S < now_T1) & (then_S >= now_T1 - self.config.window)
        shares_TS = scores_TS.masked_fill_(~seen_TS, -torch.inf).softmax(1)  # nan where nothing is seen
        found_T = (shares_TS * (tokens_S == tokens_T[:, None])).sum(1, dtype=torch.float64)
        return found_T, memory.then(hidden_TH, tokens_T)
