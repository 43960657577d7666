"""Hidden states -> logits over the whole vocabulary, and the loss that trains them.

Two forms of p(next id | hidden state), both exact distributions over all V symbols:

- `FullSoftmax`: one product with all V output vectors.
- `AdaptiveSoftmax` (after Grave et al. 2017): the symbols, which must come by falling frequency, form clusters; p(id) is
  p(cluster) p(id | cluster). A token trains the output vectors of its own cluster alone.

Either has output vectors of its own [V, H], or takes the embedding's (tied: Press & Wolf 2017, Inan et al. 2017). Tied
vectors live in E dimensions; where the stack's H differs from E, a projection comes first. Features of H + E units are
hidden states, and what traces (`traces.py`) add to the projection: these go with a tied output only.

    output.projection.weight [E, H]   tied, and E differs from H
    output.weight            [V, H]   not tied
    output.bias              [V]
    output.cluster_weight    [C, E or H], output.cluster_bias [C]   adaptive

N tokens (any leading shape for logits), R rows of a chunk, V vocabulary, K columns scored for every token, C clusters,
E embedding, H hidden, F features: H, or H + E
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lstmlm.model.inputs import fill_uniform

_LOGITS_AT_ONCE = 1 << 25
"""Numbers in a chunk of logits (128 MB in float32): a batch of any size trains in that much memory."""
_ROWS_MULTIPLE = 64
"""Rows of a chunk come in a multiple of this many, filled up with the last token: oneDNN keeps a kernel for every shape it
meets, and the clusters of an adaptive softmax would be of another size at every step."""


class FullSoftmax(nn.Module):
    """softmax(W h + b)"""

    def __init__(self, vocabulary_size: int, hidden_size: int, tied_embedding_size: int | None) -> None:
        super().__init__()
        self._hidden_size = hidden_size
        self.bias = nn.Parameter(torch.empty(vocabulary_size))
        self.weight: nn.Parameter | None = None
        self.projection: nn.Linear | None = None
        if tied_embedding_size is None:
            self.weight = nn.Parameter(torch.empty(vocabulary_size, hidden_size))
        elif tied_embedding_size != hidden_size:
            self.projection = nn.Linear(hidden_size, tied_embedding_size, bias=False)

    def reset_parameters(self, unigram_V: Tensor, generator: torch.Generator) -> None:
        """Uniform weights; biases so that the first predictions are in proportion to `unigram_V`."""
        for weight in (self.weight, self.projection.weight if self.projection is not None else None):
            if weight is not None:
                fill_uniform(weight, 1 / math.sqrt(weight.shape[1]), generator)
        with torch.no_grad():
            self.bias.copy_(unigram_V.log())

    def forward(self, features_NF: Tensor, tied_VE: Tensor | None) -> Tensor:
        """Logits [..., V]; `tied_VE` is the embedding matrix of a tied model."""
        return nn.functional.linear(*self.factors(features_NF, tied_VE), self.bias)

    def loss(self, features_NF: Tensor, targets_N: Tensor, tied_VE: Tensor | None, columns: int | None = None) -> Tensor:
        """The mean surprisal of the targets, nats; `columns` as in `cross_entropy`."""
        return cross_entropy(*self.factors(features_NF, tied_VE), self.bias, targets_N, columns)

    def blocks(self, features_NF: Tensor, tied_VE: Tensor | None, columns: int) -> Iterator[Tensor]:
        """The logits of so many symbols at a time, in their order, [N, C]."""
        scored_NE, weight_VE = self.factors(features_NF, tied_VE)
        for begin in range(0, len(self.bias), columns):
            part = slice(begin, begin + columns)
            yield nn.functional.linear(scored_NE, weight_VE[part], self.bias[part])

    def factors(self, features_NF: Tensor, tied_VE: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is multiplied: the (projected) hidden states, with what is added to them, and the output vectors."""
        scored_NE, added_NE = features_NF[..., : self._hidden_size], features_NF[..., self._hidden_size :]
        if self.projection is not None:
            scored_NE = self.projection(scored_NE)
        if added_NE.shape[-1]:
            scored_NE = scored_NE + added_NE
        weight_VE = self.weight if tied_VE is None else tied_VE
        assert weight_VE is not None, "an untied output owns its weight"
        return scored_NE, weight_VE


class AdaptiveSoftmax(FullSoftmax):
    """softmax over clusters, then softmax over the symbols of one: the logits are log-probabilities already."""

    def __init__(
        self,
        vocabulary_size: int,
        hidden_size: int,
        tied_embedding_size: int | None,
        cluster_starts: Sequence[int],
    ) -> None:
        super().__init__(vocabulary_size, hidden_size, tied_embedding_size)
        self._clusters = [slice(*ends) for ends in pairwise((*cluster_starts, vocabulary_size))]
        self.cluster_weight = nn.Parameter(torch.empty(len(self._clusters), tied_embedding_size or hidden_size))
        self.cluster_bias = nn.Parameter(torch.empty(len(self._clusters)))

    def reset_parameters(self, unigram_V: Tensor, generator: torch.Generator) -> None:
        super().reset_parameters(unigram_V, generator)
        fill_uniform(self.cluster_weight, 1 / math.sqrt(self.cluster_weight.shape[1]), generator)
        with torch.no_grad():
            self.cluster_bias.copy_(torch.stack([unigram_V[cluster].sum() for cluster in self._clusters]).log())

    def forward(self, features_NF: Tensor, tied_VE: Tensor | None) -> Tensor:
        hidden_NE, weight_VE = self.factors(features_NF, tied_VE)
        log_clusters_NC = nn.functional.linear(hidden_NE, self.cluster_weight, self.cluster_bias).float().log_softmax(-1)
        logits_NV = nn.functional.linear(hidden_NE, weight_VE, self.bias).float()
        parts = [
            logits_NV[..., cluster].log_softmax(-1) + log_clusters_NC[..., number : number + 1]
            for number, cluster in enumerate(self._clusters)
        ]
        return torch.cat(parts, -1)

    def blocks(self, features_NF: Tensor, tied_VE: Tensor | None, columns: int) -> Iterator[Tensor]:
        yield self(features_NF, tied_VE)  # each cluster needs all of its symbols

    def loss(self, features_NF: Tensor, targets_N: Tensor, tied_VE: Tensor | None, columns: int | None = None) -> Tensor:
        assert columns is None, "only the full softmax is sampled"
        hidden_NE, weight_VE = self.factors(features_NF, tied_VE)
        starts = torch.tensor([cluster.start for cluster in self._clusters[1:]], device=targets_N.device)
        cluster_N = torch.bucketize(targets_N.contiguous(), starts, right=True)
        groups = [((cluster_N == number).nonzero().squeeze(1), cluster) for number, cluster in enumerate(self._clusters)]
        choice = cross_entropy(hidden_NE, self.cluster_weight, self.cluster_bias, cluster_N)
        return choice + _grouped(hidden_NE, weight_VE, self.bias, targets_N, groups, sampled=False)


def cross_entropy(
    hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor, columns: int | None = None
) -> Tensor:
    """Mean of -ln softmax(W h + b)[target], nats, without ever holding the logits of all tokens.

    With `columns` K, the normalizer of a token runs over the first K symbols and its own target: a sampled softmax, where
    the K were drawn and the bias holds the correction for it (see `training/candidates.py`).

    Under autocast the products run in its type; normalizer, probabilities and sums are float32 always.
    """
    every_N = torch.arange(len(targets_N), device=targets_N.device)
    return _grouped(
        hidden_NE, weight_VE, bias_V, targets_N, [(every_N, slice(0, columns or len(weight_VE)))], columns is not None
    )


def _grouped(
    hidden_NE: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor,
    targets_N: Tensor,
    groups: Sequence[tuple[Tensor, slice]],
    sampled: bool,
) -> Tensor:
    """Mean surprisal of tokens in groups, each with its own range of symbols (where `sampled`, with targets outside it)."""
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_NE, weight_VE, bias_V, targets_N, groups, sampled
    )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward pass and gradients in one, chunk by chunk: the logits of a chunk become its gradient in place."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: Tensor,
        weight_VE: Tensor,
        bias_V: Tensor,
        targets_N: Tensor,
        groups: Sequence[tuple[Tensor, slice]],
        sampled: bool,
    ) -> Tensor:
        device = hidden_NE.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VE.dtype
        with torch.autocast(device, enabled=False):
            sums = _Sums(hidden_NE.to(dtype), weight_VE, bias_V, targets_N, sampled)
            for tokens_N, symbols in groups:
                for tokens_R in torch.split(tokens_N, max(1, _LOGITS_AT_ONCE // (symbols.stop - symbols.start))):
                    sums.add(tokens_R, symbols)
        ctx.grads = sums.hidden_grad_NE.to(hidden_NE.dtype), sums.weight_grad_VE, sums.bias_grad_V
        return (sums.nats / len(targets_N)).to(bias_V.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad_NE, weight_grad_VE, bias_grad_V = ctx.grads
        ctx.grads = None  # they are changed in place: a second backward pass must fail
        scale = grad_outputs[0] / len(hidden_grad_NE)
        return hidden_grad_NE.mul_(scale), weight_grad_VE.mul_(scale), bias_grad_V.mul_(scale), None, None, None


class _Sums:
    """Nats and their gradients, summed over the tokens that were added."""

    def __init__(self, hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor, sampled: bool) -> None:
        """`hidden_NE` is in the type that products run in; with `sampled`, targets need not be among the symbols."""
        self._hidden_NE, self._weight_VE, self._bias_V, self._targets_N = hidden_NE, weight_VE, bias_V, targets_N
        self._factor_VE = weight_VE.to(hidden_NE.dtype)
        self._sampled = sampled
        self.hidden_grad_NE = torch.empty_like(hidden_NE)
        self.weight_grad_VE, self.bias_grad_V = torch.zeros_like(weight_VE), torch.zeros_like(bias_V)
        self.nats = torch.zeros((), dtype=torch.float64, device=hidden_NE.device)

    def add(self, tokens_R: Tensor, symbols: slice) -> None:
        """Tokens whose normalizer runs over `symbols` and their own target."""
        real = len(tokens_R)
        tokens_R = torch.cat([tokens_R, tokens_R[-1:].expand(-real % _ROWS_MULTIPLE)]) if real else tokens_R
        hidden_RE, targets_R, factor_KE = self._hidden_NE[tokens_R], self._targets_N[tokens_R], self._factor_VE[symbols]
        scores_RK = torch.mm(hidden_RE, factor_KE.T).to(self._bias_V.dtype).add_(self._bias_V[symbols])
        column_R1 = (targets_R - symbols.start).clamp_(max=len(factor_KE) - 1)[:, None]
        target_R = scores_RK.gather(1, column_R1).squeeze(1)
        highest_R = scores_RK.amax(-1)
        weights_RK = scores_RK.sub_(highest_R[:, None]).exp_()
        normalizer_R = weights_RK.sum(-1).log_().add_(highest_R)
        hit_R = torch.ones_like(target_R)
        if self._sampled:
            outside_X = (targets_R[:real] >= symbols.stop).nonzero().squeeze(1)
            own_X = self._own_scores(tokens_R[outside_X])
            target_R[outside_X], hit_R[outside_X] = own_X, 0.0
            normalizer_R[outside_X] = torch.logaddexp(normalizer_R[outside_X], own_X)
        self.nats += (normalizer_R - target_R)[:real].sum(dtype=torch.float64)
        grad_RK = weights_RK.mul_((highest_R - normalizer_R).exp_()[:, None])  # softmax...
        grad_RK.scatter_add_(1, column_R1, -hit_R[:, None])  # ...minus the one-hot target
        grad_RK[real:] = 0.0
        self.bias_grad_V[symbols] += grad_RK.sum(0)
        grad_factor_RK = grad_RK.to(factor_KE.dtype)
        self.hidden_grad_NE[tokens_R[:real]] = torch.mm(grad_factor_RK, factor_KE)[:real]
        self.weight_grad_VE[symbols] += torch.mm(grad_factor_RK.T, hidden_RE)
        if self._sampled:
            self._add_own(tokens_R[outside_X], (own_X - normalizer_R[outside_X]).exp_().sub_(1.0))

    def _own_scores(self, tokens_X: Tensor) -> Tensor:
        """The scores of the targets of these tokens."""
        targets_X = self._targets_N[tokens_X]
        products_XE = self._hidden_NE[tokens_X].to(self._bias_V.dtype) * self._weight_VE[targets_X]
        return products_XE.sum(-1) + self._bias_V[targets_X]

    def _add_own(self, tokens_X: Tensor, slope_X: Tensor) -> None:
        """The gradient of these scores."""
        targets_X, slope_X1 = self._targets_N[tokens_X], slope_X[:, None]
        self.weight_grad_VE.index_add_(0, targets_X, slope_X1 * self._hidden_NE[tokens_X].to(slope_X.dtype))
        self.bias_grad_V.index_add_(0, targets_X, slope_X)
        self.hidden_grad_NE[tokens_X] += (slope_X1 * self._weight_VE[targets_X]).to(self.hidden_grad_NE.dtype)
