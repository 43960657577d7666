"""Logits -> logits: the penalties and filters of sampling, as pure functions; `apply` runs them in this order.

    repetition penalty     a factor on the logit of what has occurred      Keskar et al. 2019, arXiv 1909.05858
    frequency penalty      subtracted for each time it has occurred        OpenAI's API reference
    presence penalty       subtracted once                                 OpenAI's API reference
    no repeated n-grams    none that has occurred is completed again       Paulus et al. 2018, arXiv 1705.04304
    temperature            divides all logits                              Ackley et al. 1985
    top-k                  the k likeliest                                 Fan et al. 2018, arXiv 1805.04833
    top-p                  the likeliest that reach p                      Holtzman et al. 2020, arXiv 1904.09751
    min-p                  all at least p times the likeliest              Nguyen et al. 2024, arXiv 2407.01082
    typical-p              those of the most usual surprisal that reach p  Meister et al. 2023, arXiv 2202.00666
    epsilon cutoff         all of at least this probability                Hewitt et al. 2022, arXiv 2210.15191
    eta cutoff             the same, but lower where the entropy is high   Hewitt et al. 2022

The order is that of Hugging Face transformers, with OpenAI's penalties where vLLM has them. Penalties correct what the model
says, so they come before anything is measured by it; temperature changes all probabilities, so it comes before the filters
that compare them; and each filter measures what the ones before have left.

The ids that penalties look at are those of the whole text so far. A symbol that is ruled out has logit -inf. One always
remains: the likeliest, unless it would repeat an n-gram, or its surprisal is far from the average that typical-p asks for.

V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lstmlm.config import SamplingConfig


def repetition_penalty(logits_V: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Make every id in `seen` less likely, by a factor on its logit (`penalty` > 1)."""
    if penalty == 1.0:
        return logits_V
    limits = torch.finfo(logits_V.dtype)  # an extreme penalty stops at the largest numbers: infinities would end as NaN
    penalty = min(max(penalty, limits.tiny), limits.max)
    changed_V = torch.where(logits_V > 0, logits_V / penalty, logits_V * penalty).clamp(limits.min, limits.max)
    return torch.where((_counts(logits_V, seen) > 0) & logits_V.isfinite(), changed_V, logits_V)


def frequency_penalty(logits_V: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Subtract `penalty` from an id's logit for every time it is in `seen`."""
    return logits_V if penalty == 0.0 else logits_V - penalty * _counts(logits_V, seen)


def presence_penalty(logits_V: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Subtract `penalty` from the logit of every id in `seen`."""
    return logits_V if penalty == 0.0 else logits_V - penalty * (_counts(logits_V, seen) > 0)


def no_repeat_ngram(logits_V: Tensor, seen: Sequence[int], n: int) -> Tensor:
    """Rule out ids that would complete an n-gram of `seen` once more, unless nothing would remain; 0 rules out none."""
    if n == 0 or len(seen) < n:
        return logits_V
    seen = list(seen)
    last = seen[len(seen) - n + 1 :]
    repeats = sorted({seen[start + n - 1] for start in range(len(seen) - n + 1) if seen[start : start + n - 1] == last})
    left_V = logits_V.index_fill(0, torch.tensor(repeats, dtype=torch.int64), -torch.inf)
    return left_V if left_V.isfinite().any() else logits_V


def temperature(logits_V: Tensor, value: float) -> Tensor:
    """Sharpen (below 1) or flatten (above 1); 0 leaves only the likeliest."""
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
    """Keep the smallest set of likeliest symbols whose probabilities reach p; 1 keeps all."""
    return logits_V if p == 1.0 else _reach(logits_V, logits_V.argsort(descending=True, stable=True), p)


def min_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep symbols at least p times as likely as the likeliest; 0 keeps all."""
    return logits_V if p == 0.0 else _at_least(logits_V, p * logits_V.softmax(-1).max())


def typical_p(logits_V: Tensor, p: float) -> Tensor:
    """Keep the smallest set of symbols, those with a surprisal nearest to its mean first, that reaches p; 1 keeps all."""
    if p == 1.0:
        return logits_V
    distances_V = (logits_V.log_softmax(-1) + _entropy(logits_V)).abs()
    return _reach(logits_V, distances_V.argsort(stable=True), p)


def epsilon_cutoff(logits_V: Tensor, epsilon: float) -> Tensor:
    """Keep symbols with a probability of at least `epsilon`, and the likeliest; 0 keeps all."""
    return logits_V if epsilon == 0.0 else _at_least(logits_V, torch.tensor(epsilon))


def eta_cutoff(logits_V: Tensor, epsilon: float) -> Tensor:
    """Keep symbols with a probability of at least min(epsilon, sqrt(epsilon) exp(-entropy)), and the likeliest."""
    if epsilon == 0.0:
        return logits_V
    return _at_least(logits_V, (epsilon**0.5 * (-_entropy(logits_V)).exp()).clamp(max=epsilon))


def apply(logits_V: Tensor, config: SamplingConfig, seen: Sequence[int] = ()) -> Tensor:
    """All of the above, as `config` says; `seen` are the ids so far."""
    logits_V = repetition_penalty(logits_V, seen, config.repetition_penalty)
    logits_V = frequency_penalty(logits_V, seen, config.frequency_penalty)
    logits_V = presence_penalty(logits_V, seen, config.presence_penalty)
    logits_V = no_repeat_ngram(logits_V, seen, config.no_repeat_ngram_size)
    logits_V = temperature(logits_V, config.temperature)
    logits_V = top_k(logits_V, config.top_k)
    logits_V = top_p(logits_V, config.top_p)
    logits_V = min_p(logits_V, config.min_p)
    logits_V = typical_p(logits_V, config.typical_p)
    logits_V = epsilon_cutoff(logits_V, config.epsilon_cutoff)
    return eta_cutoff(logits_V, config.eta_cutoff)


def draw(logits_V: Tensor, generator: torch.Generator) -> int:
    """One id, with probability softmax(logits)."""
    return int(torch.multinomial(logits_V.double().softmax(-1), 1, generator=generator))


def _counts(logits_V: Tensor, seen: Sequence[int]) -> Tensor:
    return torch.bincount(torch.tensor(seen, dtype=torch.int64), minlength=len(logits_V))


def _entropy(logits_V: Tensor) -> Tensor:
    """The mean surprisal, in nats."""
    entropy: Tensor = torch.special.entr(logits_V.softmax(-1)).sum()
    return entropy


def _reach(logits_V: Tensor, order_V: Tensor, p: float) -> Tensor:
    """Keep the first ids of `order_V` until their probabilities reach p."""
    probabilities_V = logits_V.softmax(-1)[order_V]
    before_V = probabilities_V.cumsum(-1) - probabilities_V
    return logits_V.index_fill(0, order_V[before_V >= p], -torch.inf)


def _at_least(logits_V: Tensor, least: Tensor) -> Tensor:
    """Keep probabilities of at least `least`, and the largest."""
    probabilities_V = logits_V.softmax(-1)
    return logits_V.masked_fill(probabilities_V < torch.minimum(least, probabilities_V.max()), -torch.inf)
