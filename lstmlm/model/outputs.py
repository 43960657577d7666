"""Hidden states -> logits over the whole vocabulary, and the loss that trains them.

N tokens (any leading shape for logits), R rows of a chunk, V vocabulary, E embedding, H hidden
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LOGITS_AT_ONCE = 1 << 25
"""Numbers in a chunk of logits (128 MB in float32): a batch of any size trains in that much memory."""


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

    def forward(self, hidden_NH: Tensor, tied_VE: Tensor | None) -> Tensor:
        """Logits [..., V]; `tied_VE` is the embedding matrix of a tied model."""
        return nn.functional.linear(*self._factors(hidden_NH, tied_VE), self.bias)

    def loss(self, hidden_NH: Tensor, targets_N: Tensor, tied_VE: Tensor | None) -> Tensor:
        """The mean surprisal of the targets, nats."""
        return cross_entropy(*self._factors(hidden_NH, tied_VE), self.bias, targets_N)

    def _factors(self, hidden_NH: Tensor, tied_VE: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.projection is not None:
            hidden_NH = self.projection(hidden_NH)
        weight_VE = self.weight if tied_VE is None else tied_VE
        assert weight_VE is not None, "an untied output owns its weight"
        return hidden_NH, weight_VE


def cross_entropy(hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
    """Mean of -ln softmax(W h + b)[target], nats, without ever holding the logits of all tokens.

    Under autocast the products run in its type; normalizer, probabilities and sums are float32 always.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden_NE, weight_VE, bias_V, targets_N)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward pass and gradients in one, chunk by chunk: the logits of a chunk become its gradient in place."""

    @staticmethod
    def forward(ctx: Any, hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
        device = hidden_NE.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VE.dtype
        rows = max(1, _LOGITS_AT_ONCE // len(weight_VE))
        with torch.autocast(device, enabled=False):
            factor_VE = weight_VE.to(dtype)
            hidden_grads = []
            weight_grad_VE, bias_grad_V = torch.zeros_like(weight_VE), torch.zeros_like(bias_V)
            total = torch.zeros((), dtype=torch.float64, device=hidden_NE.device)
            for hidden_RE, targets_R in zip(
                torch.split(hidden_NE.to(dtype), rows), torch.split(targets_N, rows), strict=True
            ):
                scores_RV = torch.mm(hidden_RE, factor_VE.T).to(bias_V.dtype).add_(bias_V)
                normalizer_R1 = scores_RV.logsumexp(-1, keepdim=True)
                target_R1 = scores_RV.gather(1, targets_R[:, None])
                total += (normalizer_R1 - target_R1).sum(dtype=torch.float64)
                grad_RV = scores_RV.sub_(normalizer_R1).exp_()  # softmax...
                grad_RV.scatter_add_(1, targets_R[:, None], torch.full_like(target_R1, -1.0))  # ...minus the one-hot target
                bias_grad_V += grad_RV.sum(0)
                factor_RV = grad_RV.to(dtype)
                hidden_grads.append(torch.mm(factor_RV, factor_VE))
                weight_grad_VE += torch.mm(factor_RV.T, hidden_RE)
        ctx.grads = torch.cat(hidden_grads).to(hidden_NE.dtype), weight_grad_VE, bias_grad_V
        return (total / len(targets_N)).to(bias_V.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        hidden_grad_NE, weight_grad_VE, bias_grad_V = ctx.grads
        scale = grad_outputs[0] / len(hidden_grad_NE)
        return hidden_grad_NE * scale, weight_grad_VE * scale, bias_grad_V * scale, None
