"""Ids -> nats: the one definition of a model's loss, for validation in training and for every report.

Each segment starts from the zero state with `<eos>` as first input, and every one of its ids is a target exactly once.
Logits and their maximum are float32, the normalizer is summed over the full vocabulary in float32 and its logarithm taken
in float64; sums are float64. Neither the batch nor the chunk size changes the figure.

T time, B batch (segments side by side), N scored tokens, V vocabulary, H hidden
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmlm.errors import DivergedError
from lstmlm.model import LanguageModel
from lstmlm.runtime import one_thread
from lstmlm.token_store import Ids

CHUNK = 512
"""Time steps between two reports of progress."""
ROWS, COLUMNS = 512, 2_048
"""Tokens and symbols whose logits are multiplied together: 4 MB, which a processor's cache holds. For 33,278 symbols nearly
twice as fast as all of them at once (`benchmarks/evaluation_speed.py`)."""
_LOGITS_AT_ONCE = 1 << 25
"""Logits that are kept together, at most (128 MB)."""
_SEGMENTS_AT_ONCE = 64
_FEW_SEGMENTS = 8
_LEAST_LOGIT = -1e30
"""Below the highest; so that what is impossible adds 0 to the entropy and not nan."""
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Guesses:
    """What a model expects at each of N places."""

    ranks_N: NDArray[np.int32]
    """1 where the token that stands there was the likeliest; of equals, the smaller id comes first."""
    guess_N: NDArray[np.int32]
    """The likeliest token."""
    confidence_N: NDArray[np.float64]
    """Its probability."""
    entropy_N: NDArray[np.float64]
    """Of the next token, in nats."""
    squares_N: NDArray[np.float64]
    """The sum of p^2 over the vocabulary."""


@dataclass(frozen=True)
class Scores:
    """What a model says of each token of a text, in the text's order."""

    nats_N: NDArray[np.float64]
    """Surprisal, -ln p(token | all before)."""
    guesses: Guesses | None
    """`None` unless asked for."""

    @property
    def nll_nats(self) -> float:
        """The sum, exactly rounded."""
        return math.fsum(self.nats_N)

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens)"""
        return perplexity(self.nll_nats, len(self.nats_N))


def perplexity(nats: float, count: int) -> float:
    """exp(nats / count); infinity where that exceeds a float."""
    try:
        return math.exp(nats / count)
    except OverflowError:
        return math.inf


def log_normalizer(logits_NV: Tensor) -> Tensor:
    """Ln of the sum of exp over the vocabulary, float64 [N]. Exactly ln V for equal logits."""
    highest_N1 = logits_NV.max(dim=-1, keepdim=True).values
    total_N = (logits_NV - highest_N1).exp_().sum(dim=-1)
    return total_N.double().log() + highest_N1.squeeze(-1).double()


def score_segments(
    model: LanguageModel,
    segments: Sequence[Ids],
    *,
    eos: int,
    chunk: int = CHUNK,
    guesses: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Score every id of every segment exactly, state carried within a segment and zero at its start.

    `progress` is called with the number of tokens done; it may raise to stop.

    Raises:
        DivergedError: a token's surprisal is not finite; names the token and its position.
    """
    starts = np.concatenate([[0], np.cumsum([len(segment) for segment in segments])])
    nats_N = np.empty(starts[-1], np.float64)
    found = empty_guesses(int(starts[-1])) if guesses else None
    by_length = sorted(range(len(segments)), key=lambda index: -len(segments[index]))
    was_training = model.training
    model.eval()
    done = 0
    try:
        with torch.inference_mode():
            for first in range(0, len(by_length), _SEGMENTS_AT_ONCE):
                group = by_length[first : first + _SEGMENTS_AT_ONCE]
                state = model.initial_state(len(group))
                longest = len(segments[group[0]])
                steps = max(1, chunk // len(group))
                for begin in range(0, longest, steps):
                    end = min(begin + steps, longest)
                    inputs_TB, targets_TB, places_TB = _window([segments[i] for i in group], starts[group], begin, end, eos)
                    with one_thread(len(group) < _FEW_SEGMENTS):
                        hidden_TBH, state = model(inputs_TB.to(model.device), state)
                    places_N = places_TB[places_TB >= 0]
                    scored_TB = torch.from_numpy(places_TB >= 0)
                    hidden_NH = hidden_TBH[scored_TB.to(model.device)]
                    targets_N = targets_TB[scored_TB].to(model.device)
                    nats = np.empty(len(places_N), np.float64)
                    for part, rows in _score_rows(model, hidden_NH, targets_N, guesses):
                        nats[part] = rows[0]
                        if found is not None:
                            for kept_N, values in zip(vars(found).values(), rows[1:], strict=True):
                                kept_N[places_N[part]] = values
                    nats_N[places_N] = nats
                    if not np.isfinite(nats).all():
                        where = int(places_N[np.flatnonzero(~np.isfinite(nats))[0]])
                        raise DivergedError(f"token {where:,} of the text has no finite probability; the weights are broken")
                    done += len(nats)
                    if progress is not None:
                        progress(done)
    finally:
        model.train(was_training)
    return Scores(nats_N, found)


def empty_guesses(count: int) -> Guesses:
    """To be filled in."""
    ranks_N, guess_N = np.empty(count, np.int32), np.empty(count, np.int32)
    return Guesses(ranks_N, guess_N, *(np.empty(count, np.float64) for _ in range(3)))


def fill_guess(guesses: Guesses, place: int, probabilities_V: NDArray[np.float64], token: int) -> None:
    """Write down what a distribution says where `token` stands."""
    own = probabilities_V[token]
    guess = int(probabilities_V.argmax())
    guesses.ranks_N[place] = 1 + (probabilities_V > own).sum() + (probabilities_V[:token] == own).sum()
    guesses.guess_N[place], guesses.confidence_N[place] = guess, probabilities_V[guess]
    guesses.entropy_N[place] = -(probabilities_V @ np.log(np.maximum(probabilities_V, _TINY)))
    guesses.squares_N[place] = probabilities_V @ probabilities_V


def _window(
    segments: Sequence[Ids], starts: NDArray[np.int64], begin: int, end: int, eos: int
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Inputs, targets and places in the text of steps `begin` to `end`; the place of padding is -1."""
    inputs_TB = np.full((end - begin, len(segments)), eos, np.int64)
    targets_TB = inputs_TB.copy()
    places_TB = np.full_like(inputs_TB, -1)
    first = 1 if begin == 0 else 0  # the very first input is <eos>
    for column, segment in enumerate(segments):
        count = max(0, min(end, len(segment)) - begin)
        inputs_TB[first:count, column] = segment[begin - 1 + first : begin - 1 + count] if count else []
        targets_TB[:count, column] = segment[begin : begin + count]
        places_TB[:count, column] = starts[column] + np.arange(begin, begin + count)
    return torch.from_numpy(inputs_TB), torch.from_numpy(targets_TB), places_TB


def _score_rows(
    model: LanguageModel, hidden_NH: Tensor, targets_N: Tensor, guesses: bool
) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
    """Nats of some tokens at a time, and, if asked for, the fields of `Guesses`, in their order."""
    rows = min(ROWS, max(1, _LOGITS_AT_ONCE // model.config.vocabulary_size))
    for begin in range(0, len(hidden_NH), rows):
        part = slice(begin, begin + rows)
        found = _score_block(model, hidden_NH[part], targets_N[part], guesses)
        yield part, [values.cpu().numpy() for values in found]


def _score_block(model: LanguageModel, hidden_NH: Tensor, targets_N: Tensor, guesses: bool) -> list[Tensor]:
    """The same of tokens whose logits may be in memory together.

    What is summed over the vocabulary is summed block by block, while the block is in the processor's cache, each relative
    to its own highest logit, and then in float64 over the blocks.
    """
    targets_N1, target_N1 = targets_N[:, None], torch.empty(len(targets_N), 1, device=hidden_NH.device)
    blocks, sums, begin = [], [], 0
    for logits_NC in model.logit_blocks(
        hidden_NH, COLUMNS if hidden_NH.device.type == "cpu" else model.config.vocabulary_size
    ):
        logits_NC = logits_NC.float()
        here_N1 = (targets_N1 >= begin) & (targets_N1 < begin + logits_NC.shape[1])
        own_N1 = logits_NC.gather(1, (targets_N1 - begin).clamp(0, logits_NC.shape[1] - 1))
        target_N1 = torch.where(here_N1, own_N1, target_N1)
        highest_N1 = logits_NC.amax(-1, keepdim=True)
        below_NC = logits_NC - highest_N1
        weights_NC = below_NC.exp()
        summed = [weights_NC.sum(-1)]
        if guesses:
            summed.append(torch.linalg.vecdot(weights_NC, below_NC.clamp_(min=_LEAST_LOGIT)))
            summed.append(torch.linalg.vecdot(weights_NC, weights_NC))
            blocks.append(logits_NC)
        sums.append(torch.stack([highest_N1[:, 0], *summed]).double())
        begin += logits_NC.shape[1]
    highest_BN, total_BN, *more = torch.stack(sums, 1)
    highest_N = highest_BN.amax(0)
    below_BN = highest_BN - highest_N
    share_BN = below_BN.exp()
    total_N = (total_BN * share_BN).sum(0)
    normalizer_N = total_N.log()
    nats_N = normalizer_N + highest_N - target_N1[:, 0].double()
    if not guesses:
        return [nats_N]
    product_BN, squares_BN = more
    mean_N = ((product_BN + below_BN.clamp(min=_LEAST_LOGIT) * total_BN) * share_BN).sum(0) / total_N
    squares_N = (squares_BN * share_BN.square()).sum(0) / total_N.square()
    ranks_N, guess_N = _ranks(blocks, target_N1, targets_N), _likeliest(blocks, highest_BN.argmax(0))
    return [nats_N, ranks_N, guess_N, (-normalizer_N).exp(), normalizer_N - mean_N, squares_N]


def _ranks(blocks: Sequence[Tensor], target_N1: Tensor, targets_N: Tensor) -> Tensor:
    """1 + the number of symbols that come before the target: more likely, or as likely with a smaller id."""
    before_N, equal_N = torch.zeros_like(targets_N), torch.zeros_like(targets_N)
    for logits_NC in blocks:
        is_so_NC = torch.empty_like(logits_NC)  # 1 or 0: sums of float32 take a fifth of the time of sums of truth values
        before_N += torch.gt(logits_NC, target_N1, out=is_so_NC).sum(dim=1).long()
        equal_N += torch.eq(logits_NC, target_N1, out=is_so_NC).sum(dim=1).long()
    tied = (equal_N > 1).nonzero().squeeze(1)
    if len(tied):
        equal_TV = torch.cat([logits_NC[tied] for logits_NC in blocks], 1) == target_N1[tied]
        smaller_TV = torch.arange(equal_TV.shape[1], device=equal_TV.device) < targets_N[tied, None]
        before_N[tied] += (equal_TV & smaller_TV).sum(dim=1)
    return before_N + 1


def _likeliest(blocks: Sequence[Tensor], best_N: Tensor) -> Tensor:
    """The symbol with the highest logit, given in which block it is; of equals, the first."""
    guess_N, begin = torch.zeros_like(best_N), 0
    for number, logits_NC in enumerate(blocks):
        here = (best_N == number).nonzero().squeeze(1)
        guess_N[here] = begin + logits_NC[here].argmax(-1)
        begin += logits_NC.shape[1]
    return guess_N
