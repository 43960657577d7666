"""Logits -> logits: the filters of sampling, as pure functions; `apply` runs them in this order, `draw` takes one.

    repetition penalty (Keskar et al. 2019, section 4.1)  ->  temperature  ->  top-k (Fan et al. 2018)
    ->  top-p (Holtzman et al. 2020)  ->  min-p (Nguyen et al. 2024)

The order is that of Hugging Face transformers. A symbol that is ruled out has logit -inf; the most likely one never is.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lstmlm.config import SamplingConfig


def repetition_penalty(logits_V: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Make every id in `seen` less likely, by a factor on its logit (`penalty` > 1)."""
    ids = torch.tensor([] if penalty == 1.0 else sorted(set(seen)), dtype=torch.int64)
    if not len(ids):
        return logits_V
    limits = torch.finfo(logits_V.dtype)  # an extreme penalty stops at the largest numbers: infinities would end as NaN
    penalty = min(max(penalty, limits.tiny), limits.max)
    picked = logits_V[ids]
    changed = torch.where(picked > 0, picked / penalty, picked * penalty).clamp(limits.min, limits.max)
    return logits_V.index_copy(0, ids, torch.where(picked.isfinite(), changed, picked))


def temperature(logits_V: Tensor, value: float) -> Tensor:
    """Sharpen (below 1) or flatten (above 1); 0 leaves only the most likely symbol."""
    if value == 0.0:
        return top_k(logits_V, 1)
    limits = torch.finfo(logits_V.dtype)  # with the largest at 0 and a divisor that is a float, nothing overflows to NaN
    return (logits_V - logits_V.max()) / min(max(value, limits.tiny), limits.max)


def top_k(logits_V: Tensor, k: int) -> Tensor:
    """Keep exactly the k largest (also where the k-th is tied); 0 keeps all."""
    if k == 0 or k >= len(logits_V):
        return logits_V
    kept = logits_V.topk(k).indices
    return torch.full_like(logits_V, -torch.inf).index_copy(0, kept, logits_V[kept])


def top_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely symbols whose probabilities reach p."""
    if p >= 1.0:
        return logits_V
    ordered = logits_V.sort(descending=True, stable=True)
    probabilities = ordered.values.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    ruled_out = ordered.indices[before >= p]
    return logits_V.index_fill(0, ruled_out, -torch.inf)


def min_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep symbols at least p times as likely as the most likely one."""
    if p == 0.0:
        return logits_V
    probabilities = logits_V.softmax(-1)
    return logits_V.masked_fill(probabilities < p * probabilities.max(), -torch.inf)


def apply(logits_V: Tensor, config: SamplingConfig, seen: Iterable[int] = ()) -> Tensor:
    """All filters of `config`, in order; `seen` are the ids so far."""
    logits_V = repetition_penalty(logits_V, seen, config.repetition_penalty)
    logits_V = temperature(logits_V, config.temperature)
    logits_V = top_k(logits_V, config.top_k)
    logits_V = top_p(logits_V, config.top_p)
    return min_p(logits_V, config.min_p)


def draw(logits_V: Tensor, generator: torch.Generator) -> int:
    """One id, with probability softmax(logits)."""
    return int(torch.multinomial(logits_V.double().softmax(-1), 1, generator=generator))
