"""Beam search: the likeliest continuations of a text as wholes, where sampling draws one token after the other.

Step by step, every path is continued by every token, and the likeliest that have not ended are followed (Graves 2012,
arXiv 1211.3711, section 3). A path ends as a sample does: with a stop string, at the end of the document, at `max_tokens`.
What has ended is ranked by ln p / length^penalty, as in Hugging Face transformers (after Wu et al. 2016, arXiv 1609.08144,
section 7), where the length counts the tokens that were written and the end of the document.

N choices, V vocabulary, P paths
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lstmlm import sampling
from lstmlm.config import BeamConfig
from lstmlm.errors import UsageError
from lstmlm.generation import Draft, Opening, Sample, Session, check_limits, ends_text, first_stop, without_unknown
from lstmlm.runtime import one_thread


@dataclass(frozen=True)
class _Path:
    tokens: tuple[int, ...]
    """Those after what was read for certain; they may begin by spelling what was given of an unfinished word."""
    draft: Draft
    ended: bool = False


def beam_search(
    session: Session,
    prompt: str,
    config: BeamConfig,
    *,
    n: int = 1,
    max_tokens: int = 100,
    stop: Sequence[str] = (),
    logprobs: int = 0,
) -> list[Sample]:
    """The `n` best continuations of `prompt` that the beam finds, the best first; fewer if there are no more.

    Of spellings of one text in different tokens, the best counts. As in sampling, a BPE model spells an unfinished last word
    in its own way, and the probabilities are those given what was typed.

    Raises:
        UsageError: `n` is not between 1 and the number of beams, a limit is negative, or a stop string is empty.
    """
    check_limits(max_tokens, stop, logprobs)
    if not 1 <= n <= config.beams:
        raise UsageError(f"n is {n}; expected a number from 1 to that of the beams, {config.beams}")
    if not max_tokens:
        return [Draft().finished("length")]
    opening = session.opening(prompt)
    read = list(session.ids)
    spelled = list(_spelled(opening, logprobs, whole=max_tokens == 1))
    live = [path for path in spelled if not opening.goes_beyond(path.tokens)]
    arriving = [path for path in spelled if opening.goes_beyond(path.tokens)]
    found: dict[str, tuple[float, Sample]] = {}
    for length in range(1, max_tokens + 1):
        last = length == max_tokens
        grown = _grown(session, opening, read, live, config, logprobs, whole=last)
        live = []
        for path in heapq.merge(arriving, grown, key=lambda path: -path.draft.logprob):
            cut = first_stop(stop, path.draft.text)
            if cut is None and not path.ended:
                live.append(path)
            if cut is not None or path.ended or last:
                reason = "stop" if cut is not None else "eos" if path.ended else "length"
                ranked = path.draft.logprob / length**config.length_penalty, path.draft.finished(reason, cut)
                text = ranked[1].text
                found[text] = max(found.get(text, ranked), ranked, key=lambda entry: entry[0])
            if len(live) == config.beams:
                break
        if not live or _decided(found, n, live[0].draft.logprob, length, max_tokens, config.length_penalty):
            break
        arriving = []
    best = heapq.nlargest(n, found.values(), key=lambda entry: entry[0])
    return [sample for _, sample in best]


def _spelled(opening: Opening, logprobs: int, *, whole: bool) -> Iterator[_Path]:
    """A path for each spelling of what was given, the likeliest first."""
    shares_N = opening.masses().log_softmax(-1)
    for index in shares_N.argsort(descending=True, stable=True).tolist():
        tokens, _ = opening.spellings[index]
        beyond = opening.goes_beyond(tokens)
        text = opening.text(tokens, whole=whole and beyond)
        yield _Path(tokens, Draft().grown(text, shares_N, index, opening.describe if beyond else None, logprobs))


def _grown(
    session: Session,
    opening: Opening,
    read: list[int],
    live: list[_Path],
    config: BeamConfig,
    logprobs: int,
    *,
    whole: bool,
) -> Iterator[_Path]:
    """Every path with every token that may follow, the likeliest first; they are made when they are asked for."""
    if not live:
        return
    tokenizer = session.tokenizer
    live = sorted(live, key=lambda path: path.tokens)  # what neighbours begin with is not read again
    rows, allowed = [], []
    for path in live:
        session.read([*read, *path.tokens])
        logits_V = session.next_logits()
        with one_thread():
            rows.append(logits_V.double().log_softmax(-1))
            left_V = without_unknown(rows[-1], tokenizer)
            left_V = sampling.no_repeat_ngram(left_V, session.ids, config.no_repeat_ngram_size)
            allowed.append(left_V + path.draft.logprob)
    with one_thread():
        totals_PV = torch.stack(allowed)
        places = totals_PV.flatten().argsort(descending=True, stable=True)[: totals_PV.isfinite().sum()].tolist()
    for place in places:
        row, token = divmod(place, totals_PV.shape[1])
        path, ended = live[row], ends_text(token, tokenizer)
        tokens = path.tokens if ended else (*path.tokens, token)
        text = opening.text(tokens, whole=whole or ended)[len(path.draft.text) :]
        name = None if ended else tokenizer.describe
        yield _Path(tokens, path.draft.grown(text, rows[row], token, name, logprobs), ended)


def _decided(
    found: dict[str, tuple[float, Sample]], n: int, logprob: float, length: int, max_tokens: int, penalty: float
) -> bool:
    """Whether no path that goes on, the likeliest with `logprob`, can still be among the n best."""
    reachable = logprob / (max_tokens if penalty > 0 else length + 1) ** penalty
    best = heapq.nlargest(n, (score for score, _ in found.values()))
    return len(best) == n and best[-1] >= reachable
