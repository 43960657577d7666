"""Hidden states -> logits over the whole vocabulary.

B any leading shape, V vocabulary, E embedding, H hidden
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FullSoftmax(nn.Module):
    """A product with all V output vectors: its own, or the embedding's (tied: Press & Wolf 2017, Inan et al. 2017).

    Tied weights live in E dimensions; where the stack's H differs from E, a projection comes first.
    """

    def __init__(self, vocabulary_size: int, hidden_size: int, tied_embedding_size: int | None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(vocabulary_size))
        self.weight: nn.Parameter | None = None
        self.projection: nn.Linear | None = None
        if tied_embedding_size is None:
            self.weight = nn.Parameter(torch.empty(vocabulary_size, hidden_size))
        elif tied_embedding_size != hidden_size:
            self.projection = nn.Linear(hidden_size, tied_embedding_size, bias=False)

    def forward(self, hidden_BH: Tensor, tied_VE: Tensor | None) -> Tensor:
        """Logits [B, V]; `tied_VE` is the embedding matrix of a tied model."""
        if self.projection is not None:
            hidden_BH = self.projection(hidden_BH)
        weight_VE = self.weight if tied_VE is None else tied_VE
        assert weight_VE is not None, "an untied output owns its weight"
        return nn.functional.linear(hidden_BH, weight_VE, self.bias)
