"""Whether probabilities mean what they say, and the one temperature that would make them mean it better.

N tokens, F features, V vocabulary, B bins
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstmlm.adaptation.dynamic import segments as cut
from lstmlm.errors import DivergedError
from lstmlm.evaluation.scored import Scored
from lstmlm.model import LanguageModel
from lstmlm.ngram import LoadedNGram
from lstmlm.predictor import AnyModel
from lstmlm.runtime import one_thread
from lstmlm.token_store import Ids

_BINS = 10
_BLOCK = 512
"""Tokens that the recurrent layers read at once."""
_LOGITS_AT_ONCE = 1 << 23
"""Numbers in a block of logits (32 MB)."""
_LOGITS_IN_ALL = 1 << 28
"""Numbers that are made anew for each of the three or four temperatures tried: 8 s of one core (V = 33,278, E = 400)."""
_COLDEST = 0.1
"""And the hottest is its inverse."""
_CLOSE = 1e-4
"""Of a temperature; what likelihood is missed is of the order of its square."""
_LEAST_LOGIT = -1e15
"""Below the highest: what is impossible adds 0, and not nan, also where it is squared."""


def calibration(scored: Scored) -> dict[str, Any]:
    """Reliability of the first guess, and two figures of the whole distribution.

    `bins` are by confidence, those without tokens left out; `ece` is the mean distance of confidence and accuracy in them,
    weighted by tokens (Guo et al. 2017, section 2; with 10 bins, in shares). `brier` is the mean of
    sum_v (p(v) - [v is the token])^2, from 0 to 2 (Brier 1950). `entropy_minus_nats` is the mean entropy less the mean
    surprisal, in nats: below 0 where the model is surer than it may be.
    """
    guesses, nats_N = scored.guesses, scored.nats_N
    right_N = guesses.guess_N == scored.ids_N
    bin_N = np.minimum((guesses.confidence_N * _BINS).astype(np.int64), _BINS - 1)
    tokens_B = np.bincount(bin_N, minlength=_BINS).tolist()
    confidence_B = np.bincount(bin_N, guesses.confidence_N, minlength=_BINS).tolist()
    right_B = np.bincount(bin_N, right_N, minlength=_BINS).tolist()
    rows = list(zip(tokens_B, confidence_B, right_B, strict=True))
    entropy = float(guesses.entropy_N.mean())
    return {
        "bins": [
            {
                "low": number / _BINS,
                "high": (number + 1) / _BINS,
                "tokens": tokens,
                "confidence": confidence / tokens,
                "accuracy": right / tokens,
            }
            for number, (tokens, confidence, right) in enumerate(rows)
            if tokens
        ],
        "ece": math.fsum(abs(confidence - right) for _, confidence, right in rows) / len(nats_N),
        "brier": float((1 - 2 * np.exp(-nats_N) + guesses.squares_N).mean()),
        "entropy_nats": entropy,
        "entropy_minus_nats": entropy - float(nats_N.mean()),
    }


def best_temperature(loaded: AnyModel, segments: Sequence[Ids], *, tokens: int = 20_000) -> dict[str, Any] | None:
    """The temperature, dividing all logits, that makes the beginning of a validation text likeliest; and its sums of nats.

    (Guo et al. 2017, section 4.2.) Found on at most `tokens` tokens, fewer where the vocabulary is so large that they would
    take long, by Newton's method on the inverse temperature, in which the nats are convex; between 0.1 and 10. Each segment
    starts from the zero state. `None` for n-grams, which have no logits.

    Raises:
        DivergedError: the model has no finite probabilities.
    """
    if isinstance(loaded, LoadedNGram):
        return None
    model = loaded.model
    tokens = min(tokens, _LOGITS_IN_ALL // model.config.vocabulary_size)
    features_NF, targets_N = _read(model, segments, loaded.tokenizer.eos, tokens)
    low, inverse, high = _COLDEST, 1.0, 1 / _COLDEST
    nats_before = None
    while True:
        nats, slope, curvature = _nats(model, features_NF, targets_N, inverse)
        nats_before = nats if nats_before is None else nats_before
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        following = inverse - slope / curvature if curvature > 0 else inverse
        if slope and not low < following < high:
            following = math.sqrt(low * high)
        if abs(following / inverse - 1) < _CLOSE:
            break
        inverse = following
    return {
        "best": 1 / inverse,
        "split": "valid",
        "tokens": len(targets_N),
        "nats_before": nats_before,
        "nats_after": nats,
    }


@torch.inference_mode()
def _read(model: LanguageModel, segments: Sequence[Ids], eos: int, tokens: int) -> tuple[Tensor, Tensor]:
    """The features [N, F] that the first tokens [N] of a text are predicted from."""
    features, targets = [], []
    for ids in segments:
        state = model.initial_state(1)
        for inputs_T, targets_T in cut(ids[:tokens], eos, _BLOCK):
            with one_thread():
                features_TBF, state = model(inputs_T[:, None].to(model.device), state)
            features.append(features_TBF[:, 0])
            targets.append(targets_T.to(model.device))
        tokens -= len(ids[:tokens])
    return torch.cat(features), torch.cat(targets)


@torch.inference_mode()
def _nats(model: LanguageModel, features_NF: Tensor, targets_N: Tensor, inverse: float) -> tuple[float, float, float]:
    """Surprisal of all targets with the logits times `inverse`, and its first two derivatives by that.

    They are the sums over the tokens of E[z] - z(target), and of the variance of z under the scaled distribution.
    """
    sums = np.zeros(3)
    rows = max(1, _LOGITS_AT_ONCE // model.config.vocabulary_size)
    for begin in range(0, len(targets_N), rows):
        part = slice(begin, begin + rows)
        logits_NV = model.logits(features_NF[part]).float()
        logits_NV -= logits_NV.amax(-1, keepdim=True)
        target_N = logits_NV.gather(1, targets_N[part, None]).squeeze(1).double()
        logits_NV.clamp_(min=_LEAST_LOGIT)
        weights_NV = (logits_NV * inverse).exp_()
        total_N = weights_NV.sum(-1).double()
        weighted_NV = weights_NV.mul_(logits_NV)
        mean_N = weighted_NV.sum(-1).double() / total_N
        squared_N = torch.linalg.vecdot(weighted_NV, logits_NV).double() / total_N
        nats_N = total_N.log() - inverse * target_N
        sums += torch.stack([nats_N, mean_N - target_N, squared_N - mean_N.square()], 1).sum(0).cpu().numpy()
    if not np.isfinite(sums).all():
        raise DivergedError("the model has no finite probabilities on its validation text; the weights are broken")
    nats, slope, curvature = sums.tolist()
    return nats, slope, curvature
