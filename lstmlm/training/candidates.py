"""Sampled softmax: which symbols stand in the normalizer of a training step, and the correction that keeps it unbiased.

A symbol of relative frequency f is a candidate with probability 1 - (1 - q)^K, q ~ f^0.75: as often as K draws with
replacement would hold it, but independently of all others. One set serves all tokens of the step. Subtracting the logarithm
of that probability from the logits of candidates and target alike makes the model itself, not the sampled one, what
training converges to (Bengio & Senecal 2008; Jean et al. 2015, section 3). The logarithm of the expected number of draws,
log(K q), in its place spoils the exact distribution: for frequent words it is far above 0.

T time, B batch, V vocabulary, R symbols that a step touches, K candidates, S spare symbols
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FLATTENING = 0.75
"""Exponent of the counts: rarer words are drawn more often than they occur (Mikolov et al. 2013)."""
_MULTIPLE = 256
"""Candidates come in a multiple of this many, and so do the rest: oneDNN keeps a kernel for every shape that it meets, and
1,000 steps of as many shapes hold 0.4 GB more, 10,000 a whole GB (`benchmarks/RESULTS.md`)."""


@dataclass(frozen=True)
class Touched:
    """The symbols of a step: first the candidates, then the other inputs and targets, each with some to fill up."""

    symbols_R: Tensor
    candidates: int
    """How many come first."""
    place_V: Tensor
    """Where a symbol stands among them; without meaning for all others."""
    log_inclusion_R: Tensor
    """Log probability of being a candidate; infinite for one that fills up, whose corrected logit is -infinity."""


class CandidateSampler:
    """Draws the candidates of a step from torch's global generator."""

    def __init__(self, counts_V: Tensor, draws: int) -> None:
        weights_V = counts_V.double().clamp(min=1.0) ** _FLATTENING
        inclusion_V = -torch.expm1(draws * torch.log1p(-weights_V / weights_V.sum()))
        inclusion_V[inclusion_V.argmax()] = 1.0  # there is always a candidate
        self._inclusion_V = inclusion_V.float()

    def touch(self, inputs_TB: Tensor, targets_N: Tensor) -> Touched:
        """Candidates for the step that reads these ids."""
        drawn_V = torch.rand_like(self._inclusion_V) < self._inclusion_V
        read_V = torch.zeros_like(drawn_V)
        read_V[inputs_TB.flatten()] = True
        read_V[targets_N] = True
        candidates, others = drawn_V.nonzero().squeeze(1), (read_V & ~drawn_V).nonzero().squeeze(1)
        spare_S = (~(read_V | drawn_V)).nonzero().squeeze(1)
        first, second = -len(candidates) % _MULTIPLE, -len(others) % _MULTIPLE
        if first + second > len(spare_S):
            first = second = 0  # few symbols make few shapes
        symbols_R = torch.cat([candidates, spare_S[:first], others, spare_S[first : first + second]])
        place_V = torch.zeros_like(drawn_V, dtype=torch.int64)
        place_V[symbols_R] = torch.arange(len(symbols_R), device=place_V.device)
        log_inclusion_R = self._inclusion_V[symbols_R].log()
        log_inclusion_R[len(candidates) : len(candidates) + first] = torch.inf
        return Touched(symbols_R, len(candidates) + first, place_V, log_inclusion_R)
