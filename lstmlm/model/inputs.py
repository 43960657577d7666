"""Ids -> vectors for the recurrent stack: a learned embedding, or one-hot vectors that are never written out.

T time, B batch, V vocabulary, E embedding, G gates x hidden
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fill_uniform(weight: Tensor, bound: float, generator: torch.Generator) -> None:
    """Uniform numbers within `bound` of zero: drawn on the CPU, so that they are the same on every device."""
    with torch.no_grad():
        weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))


class Embedding(nn.Module):
    """One learned vector for each symbol."""

    def __init__(self, vocabulary_size: int, embedding_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, embedding_size))  # [V, E]

    def forward(self, ids_TB: Tensor, dropout: float = 0.0) -> Tensor:
        """[T, B, E]; a symbol that is dropped is dropped wherever it stands in the window (Gal & Ghahramani 2016)."""
        vectors_TBE = nn.functional.embedding(ids_TB, self.weight)
        if dropout == 0.0:
            return vectors_TBE
        keep_V1 = torch.empty(len(self.weight), 1, device=ids_TB.device).bernoulli_(1 - dropout).div_(1 - dropout)
        return vectors_TBE * nn.functional.embedding(ids_TB, keep_V1)


def one_hot_product(ids_TB: Tensor, weight_GV: Tensor, dropout: float = 0.0) -> Tensor:
    """W x for one-hot vectors x, [T, B, G]: the column of W that each id selects.

    Equal to `F.one_hot(ids_TB, V) @ W.T`, without the [T, B, V] vectors. Dropout is that of the vectors, locked: in each
    stream, a symbol that is dropped is dropped at every step.
    """
    columns_TBG = nn.functional.embedding(ids_TB, weight_GV.T)
    if dropout == 0.0:
        return columns_TBG
    mask_VB = torch.empty(weight_GV.shape[1], ids_TB.shape[1], device=ids_TB.device).bernoulli_(1 - dropout)
    return columns_TBG * (mask_VB.gather(0, ids_TB) / (1 - dropout)).unsqueeze(-1)
