"""Whether the figures of a report can be what they say: checks of the model at hand, on a part of its text.

What is computed again are the beginnings of some segments of the text. Rounding of float32 is allowed for, and nothing else;
each check says by how much it was off. Other tests may know that the code is right; these know that this report is.

P tokens of the part, C of them chosen, N tokens of the text, V vocabulary
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmlm.checkpoint import TOKENIZER, LoadedModel
from lstmlm.evaluation.scored import Scored
from lstmlm.ngram import LoadedNGram
from lstmlm.ngram.scoring import score_with_ngrams
from lstmlm.predictor import AnyModel
from lstmlm.runtime import one_thread
from lstmlm.scoring import CHUNK, Scores, score_segments
from lstmlm.storage import sha256_of
from lstmlm.token_store import Ids

FIGURE = 1e-6
"""Nats per token by which batch and chunk size may change the figure; of few tokens, whose errors do not cancel, more."""
ROUNDING_OF_ONE = 1e-5
"""Nats by which rounding changes the surprisal of a token (measured: 8e-6 at most, 2 x 512, V = 33,278)."""
ROUNDING = 1e-4
"""Nats by which it may change it, and by how much a sum of probabilities may differ from 1."""
_TOKENS, _SEGMENTS = 256, 8
"""Of the part, at most."""
_PLACES = 64
"""Where all probabilities are summed."""
_AT_ONCE = 32
"""Rows of logits in float64."""
_OTHER_CHUNK = 30
_LINES, _LONGEST_LINE = 64, 4_096
"""Lines that are encoded again, and their longest in tokens."""

Outcome = tuple[bool, str] | None
"""Passed, and by how much; `None` where there is nothing to check."""


@dataclass(frozen=True)
class Part:
    """The beginnings of some segments of a text."""

    segments: list[Ids]
    places_P: NDArray[np.int64]
    """Where their tokens stand in the text."""
    nats_P: NDArray[np.float64]
    """As reported."""
    scores: Scores
    """As the model scores them now."""
    targets: int
    """That were counted in doing so."""


def self_checks(scored: Scored) -> list[dict[str, Any]]:
    """Every check that applies to the model: its name, whether it passed, and the figures that say so.

    It takes 2.4 s of one core (2 x 512, V = 33,278): some passes over 256 tokens.
    """
    part = _part(scored)
    outcomes = {name: check(scored, part) for name, check in _CHECKS.items()}
    return [
        {"name": name, "passed": outcome[0], "detail": outcome[1]}
        for name, outcome in outcomes.items()
        if outcome is not None
    ]


def _part(scored: Scored) -> Part:
    whole = scored.read.segments(scored.mode)
    starts = np.cumsum([0, *map(len, whole)])
    chosen = np.unique(np.linspace(0, len(whole) - 1, _SEGMENTS).astype(int))
    segments = [whole[index][: _TOKENS // len(chosen)] for index in chosen]
    places_P = np.concatenate([starts[index] + np.arange(len(ids)) for index, ids in zip(chosen, segments, strict=True)])
    done: list[int] = []
    scores = _score(scored.loaded, segments, progress=done.append)
    return Part(segments, places_P, scored.nats_N[places_P], scores, done[-1])


def _score(
    loaded: AnyModel, segments: Sequence[Ids], chunk: int = CHUNK, progress: Callable[[int], None] | None = None
) -> Scores:
    if isinstance(loaded, LoadedNGram):
        return score_with_ngrams(loaded.model, segments, progress=progress)
    eos = loaded.tokenizer.eos
    return score_segments(loaded.model, segments, eos=eos, chunk=chunk, guesses=True, progress=progress)


def _sum_to_one(scored: Scored, part: Part) -> Outcome:
    """All probabilities of a place, on the scale on which the token there has its reported one."""
    chosen_C = np.unique(np.linspace(0, len(part.places_P) - 1, _PLACES).astype(int))
    log_sums_C = _recomputed(scored.loaded, part.segments, chosen_C) - part.nats_P[chosen_C]
    error = float(np.abs(np.expm1(log_sums_C)).max())
    return error < ROUNDING, f"largest error {error:.1g} at {len(chosen_C)} places, allowed {ROUNDING:g}"


def _double_precision(scored: Scored, part: Part) -> Outcome:
    """The same weights with every number in float64.

    A chaotic model fails here alone: rounding decides what it remembers, so that its figures cannot be had again elsewhere.
    """
    loaded = scored.loaded
    if isinstance(loaded, LoadedNGram):
        return None
    exact = replace(loaded, model=copy.deepcopy(loaded.model).double())
    error_P = np.abs(_recomputed(exact, part.segments, np.arange(len(part.nats_P))) - part.nats_P)
    mean = float(error_P.mean())
    return mean < ROUNDING, (
        f"{len(error_P)} surprisals differ by {mean:.1g} nats on average, by {error_P.max():.1g} at most; "
        f"allowed {ROUNDING:g} on average"
    )


@torch.no_grad()
def _recomputed(loaded: AnyModel, segments: Sequence[Ids], chosen_C: NDArray[np.int64]) -> NDArray[np.float64]:
    """Surprisals in some places, with the weights of the whole vocabulary summed in float64, [C]."""
    targets_C = torch.from_numpy(np.concatenate(segments).astype(np.int64)[chosen_C])
    parts = torch.split(targets_C, _AT_ONCE)
    rows = (
        _ngram_logits(loaded, segments, chosen_C) if isinstance(loaded, LoadedNGram) else _logits(loaded, segments, chosen_C)
    )
    found = [
        logits_NV.logsumexp(1) - logits_NV.gather(1, targets_N[:, None])[:, 0]
        for targets_N, logits_NV in zip(parts, rows, strict=True)
    ]
    return torch.cat(found).numpy()


def _logits(loaded: LoadedModel, segments: Sequence[Ids], chosen_C: NDArray[np.int64]) -> Iterator[Tensor]:
    """In some places, float64 [_AT_ONCE, V] at a time."""
    model, features = loaded.model, []
    for ids in segments:
        inputs_T = torch.from_numpy(np.append(loaded.tokenizer.eos, ids[:-1]).astype(np.int64))
        with one_thread():
            features.append(model(inputs_T[:, None].to(model.device), model.initial_state(1))[0][:, 0])
    for features_NF in torch.split(torch.cat(features)[chosen_C], _AT_ONCE):
        yield model.logits(features_NF).double().cpu()


def _ngram_logits(loaded: LoadedNGram, segments: Sequence[Ids], chosen_C: NDArray[np.int64]) -> Iterator[Tensor]:
    """The same of n-grams, read one by one."""
    contexts = []
    for ids in segments:
        context = loaded.model.start
        for token in ids.tolist():
            contexts.append(context)
            context = loaded.model.advance(context, token)
    for part in torch.split(torch.from_numpy(chosen_C), _AT_ONCE):
        yield torch.from_numpy(np.log([loaded.model.probabilities(contexts[place]) for place in part.tolist()]))


def _causality(scored: Scored, part: Part) -> Outcome:
    """From the middle of each segment on stand other tokens.

    The surprisals before may not change, and neither may the distribution in the middle itself: it would, if a token had a
    part in its own.
    """
    size, other = scored.loaded.tokenizer.vocabulary_size, [ids.copy() for ids in part.segments]
    for ids in other:
        ids[len(ids) // 2 :] = (ids[len(ids) // 2 :].astype(np.int64) + 1) % size
    found = _score(scored.loaded, other)
    after_P = np.concatenate([np.arange(len(ids)) - len(ids) // 2 for ids in other])
    changed_P = (after_P < 0) & (found.nats_N != part.scores.nats_N)
    for name in ("guess_N", "confidence_N", "entropy_N", "squares_N"):
        changed_P |= (after_P <= 0) & (getattr(found.guesses, name) != getattr(part.scores.guesses, name))
    changed = int(changed_P.sum())
    return changed == 0, f"with other text after them, {changed} of {int((after_P <= 0).sum())} predictions changed"


def _invariance(scored: Scored, part: Part) -> Outcome:
    """Each segment alone and in other chunks, and all side by side, against what was reported."""
    alone_P = np.concatenate([_score(scored.loaded, [ids], chunk=_OTHER_CHUNK).nats_N for ids in part.segments])
    error_2P = np.stack([alone_P, part.scores.nats_N]) - part.nats_P
    figure, token = float(np.abs(error_2P.mean(1)).max()), float(np.abs(error_2P).max())
    allowed = max(FIGURE, ROUNDING_OF_ONE / math.sqrt(len(alone_P)))
    return figure < allowed and token < ROUNDING, (
        f"alone or side by side, in chunks of {_OTHER_CHUNK} or {CHUNK}, {len(alone_P)} tokens differ by {figure:.1g} nats "
        f"per token, allowed {allowed:.1g}; one by {token:.1g}, allowed {ROUNDING:g}"
    )


def _once(scored: Scored, part: Part) -> Outcome:
    """The targets, counted in every way there is, and what they spell."""
    read, text, tokenizer, tokens = scored.read, scored.text, scored.loaded.tokenizer, len(scored.ids_N)
    ends = {"files": read.file_ends_F, "documents": read.document_ends_D, "lines": read.line_ends_L}
    counts: dict[str, tuple[float, float]] = {
        "surprisals": (len(scored.nats_N), tokens),
        "targets in segments": (sum(map(len, read.segments(scored.mode))), tokens),
        "targets scored again": (part.targets, len(part.places_P)),
        "words in lines": (int(read.line_words_L.sum()), text.words),
        "bytes in lines": (int(read.line_bytes_L.sum()), text.bytes),
    }
    for name, found in ends.items():
        parts = [scored.nats_N[begin:end] for begin, end in pairwise((0, *found))]
        counts[f"targets in {name}"] = (sum(map(len, parts)), tokens)
        counts[f"nats in {name}"] = (math.fsum(map(math.fsum, parts)), scored.scores.nll_nats)
    if tokenizer.kind == "word" and tokenizer.config.normalization == "none":
        counts["words and line ends"] = (text.words + int((scored.ids_N == tokenizer.eos).sum()), tokens)
    if tokenizer.lossless and not scored.unknown_N.any():
        sizes_V = np.array([len(tokenizer.spelling(token)) for token in range(tokenizer.vocabulary_size)])
        spelled = int(sizes_V[scored.ids_N].sum())
        counts["bytes spelled, and blank lines of no document"] = (spelled + text.separators, text.bytes)
    wrong = [
        f"{found:,} {name}, expected {expected:,}"
        for name, (found, expected) in counts.items()
        if not math.isclose(found, expected, rel_tol=1e-12)
    ]
    return not wrong, "; ".join(wrong) or f"{tokens:,} tokens are {tokens:,} targets, by {len(counts)} counts"


def _tokenizer(scored: Scored, part: Part) -> Outcome:
    """The vocabulary is the one of the model's directory, and decoded lines have the tokens that they had."""
    loaded, tokenizer = scored.loaded, scored.loaded.tokenizer
    wrong = []
    file = loaded.path / TOKENIZER
    if file.exists() and sha256_of(file) != tokenizer.fingerprint:
        wrong.append(f"{tokenizer.fingerprint[:12]} is not the fingerprint of the model's {TOKENIZER}")
    if isinstance(loaded, LoadedModel) and loaded.model.config.vocabulary_size != tokenizer.vocabulary_size:
        wrong.append(f"{tokenizer.vocabulary_size:,} symbols, but the model has {loaded.model.config.vocabulary_size:,}")
    lines = 0
    if tokenizer.lossless or tokenizer.kind == "word":
        starts = np.append(0, scored.read.line_ends_L)
        for line in np.unique(np.linspace(0, len(starts) - 2, _LINES).astype(int)):
            ids = scored.ids_N[starts[line] : starts[line + 1]].tolist()
            if tokenizer.kind != "word" and ids[-1] == tokenizer.eos:
                ids.pop()
            if len(ids) > _LONGEST_LINE or (tokenizer.kind == "char" and tokenizer.unk in ids):
                continue
            lines += 1
            if tokenizer.encode(tokenizer.decode(ids)) != ids:
                wrong.append(f"line {line + 1:,} of the text, decoded and encoded, has other tokens")
                break
    return not wrong, "; ".join(wrong) or f"fingerprint {tokenizer.fingerprint[:12]}, {lines} lines decoded and encoded"


def _dropout(scored: Scored, part: Part) -> Outcome:
    """No part of the model is in training while it scores, and two passes are equal in every bit."""
    if isinstance(scored.loaded, LoadedNGram):
        return None
    modes: list[bool] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: modes.append(module.training))
        for module in scored.loaded.model.modules()
    ]
    try:
        again = _score(scored.loaded, part.segments)
    finally:
        for hook in hooks:
            hook.remove()
    changed = int((again.nats_N != part.scores.nats_N).sum())
    in_training = sum(modes)
    return not changed and not in_training, (
        f"of {len(again.nats_N)} surprisals {changed} changed in a second pass; "
        f"{in_training} of {len(modes)} calls were in training mode"
    )


_CHECKS: dict[str, Callable[[Scored, Part], Outcome]] = {
    "probabilities sum to 1": _sum_to_one,
    "causality, bit for bit": _causality,
    "batch and chunk size change nothing": _invariance,
    "every token scored once": _once,
    "the tokenizer is the model's": _tokenizer,
    "dropout is off": _dropout,
    "agrees with float64": _double_precision,
}
