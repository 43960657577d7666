"""How long completion takes: while a text is typed key by key, and after one with a half typed word was pasted.

    python benchmarks/completion_latency.py MODEL... --text FILE [--keys 2000] [--pastes 60] [--tolerance 1e-6]
        [--deadline .006] [--gap .15]

Every key of some passages is one call of `complete` for five words, in a session that keeps what it has computed. With
`--gap`, keys come at that pace, and the session works between them as the editor does (`lstmlm/anticipation.py`); a key's
time begins when it is due, so that work which is not over by then counts. A paste is a passage that ends in the middle of a
word, in a session that knows nothing but its model's weights.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from lstmlm.anticipation import Anticipation
from lstmlm.completion import complete
from lstmlm.durations import after, never
from lstmlm.generation import Session
from lstmlm.predictor import Predictor, load_any, open_predictor
from lstmlm.runtime import keep_freed_memory, keep_what_is_loaded, set_threads


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--keys", default=2000, show_default=True)
@click.option("--pastes", default=60, show_default=True)
@click.option("--words", default=50, show_default=True, help="Of a paste.")
@click.option("--tolerance", default=1e-6, show_default=True)
@click.option("--deadline", type=float, help="Seconds after which the best so far is taken.")
@click.option("--gap", type=float, help="Seconds from key to key; without, there is no time between them.")
@click.option("--part", "parts", multiple=True, help="cache, dynamic, ngram: as `lstmlm tune` fitted them.")
@click.option("--threads", type=int)
def main(
    models: tuple[str, ...],
    text: Path,
    keys: int,
    pastes: int,
    words: int,
    tolerance: float,
    deadline: float | None,
    gap: float | None,
    parts: tuple[str, ...],
    threads: int | None,
) -> None:
    """Print a Markdown table of milliseconds: medians, 95th percentiles, and more."""
    set_threads(threads)
    keep_freed_memory()
    passages = _passages(text.read_text(encoding="utf-8"), words, max(pastes, math.ceil(keys / (5 * words))))
    click.echo("| model | what | calls | p50 | p90 | p95 | p99 | whole | right first word | distributions a call |")
    click.echo("|---|---|---|---|---|---|---|---|---|---|")
    for path in models:
        predictor = open_predictor(load_any(path), parts)
        keep_what_is_loaded()
        found = _typed(predictor, passages, keys, tolerance, deadline, gap)
        for half in [passage[: _half_word(passage)] for passage in passages[:pastes]]:
            call = _timed(Session(predictor), half, tolerance, deadline)
            found[f"paste of {words} words"].append(_judged(call, Session(predictor)))
        for kind, calls in found.items():
            ms = " | ".join(f"{value:.2f}" for value in np.percentile([call.ms for call in calls], [50, 90, 95, 99]))
            whole = sum(call.whole for call in calls) / len(calls)
            rows = sum(call.distributions for call in calls) / len(calls)
            right = sum(call.right for call in calls) / len(calls)
            click.echo(f"| {path} | {kind} | {len(calls):,} | {ms} | {whole:.1%} | {right:.1%} | {rows:.1f} |")


_LEAST = 0.002
"""Seconds for a list, if the work before it ended late (as in `lstmlm/repl/asking.py`)."""


class Call(NamedTuple):
    text: str
    ms: float
    whole: bool
    """Whether the list is as exact as it was asked to be."""
    first: list[str]
    """Its first word."""
    distributions: int
    """That had to be computed."""
    right: bool = True
    """Whether the first word is that of an exact list."""


def _timed(session: Session, text: str, tolerance: float, deadline: float | None) -> Call:
    before, began = session.lookahead.computed, time.perf_counter()
    answer = complete(session, text, tolerance=tolerance, deadline=deadline)
    ms = 1e3 * (time.perf_counter() - began)
    first = [candidate.word for candidate in answer.candidates[:1]]
    return Call(text, ms, answer.mass_bound < tolerance, first, session.lookahead.computed - before)


def _judged(call: Call, judge: Session) -> Call:
    candidates = complete(judge, call.text, 1, tolerance=1e-4).candidates
    return call._replace(right=call.first == [candidate.word for candidate in candidates])


def _typed(
    predictor: Predictor[Any],
    passages: list[str],
    keys: int,
    tolerance: float,
    deadline: float | None,
    gap: float | None,
) -> defaultdict[str, list[Call]]:
    """Calls by kind; the first quarter of a passage is typed and not counted, as its context is short."""
    found: defaultdict[str, list[Call]] = defaultdict(list)
    for passage in passages:
        if len(found["every key"]) >= keys:
            break
        session = Session(predictor)
        if gap is None:
            calls = [_timed(session, passage[:end], tolerance, deadline) for end in range(1, len(passage) + 1)]
        else:
            calls = _at_a_pace(session, passage, tolerance, deadline, gap)
        judge = Session(predictor)
        for call in [_judged(call, judge) for call in calls[len(passage) // 4 :]]:
            found["every key"].append(call)
            found["after a space" if call.text[-1] == " " else "in a word"].append(call)
            if not call.distributions:
                found["nothing to compute"].append(call)
    return found


def _at_a_pace(session: Session, passage: str, tolerance: float, deadline: float | None, gap: float) -> list[Call]:
    """One key each `gap` seconds, and work between them."""
    anticipation = Anticipation(session, lambda text, stop: complete(session, text, tolerance=tolerance, stop=stop))
    calls, due = [], time.perf_counter()
    for end in range(1, len(passage) + 1):
        time.sleep(max(0.0, due - time.perf_counter()))
        before = session.lookahead.computed
        late = time.perf_counter() - due
        stop = never if deadline is None else after(max(_LEAST, deadline - late))
        answer, whole = anticipation.ask(passage[:end], stop)
        ms = 1e3 * (time.perf_counter() - due)
        first = [candidate.word for candidate in answer.candidates[:1]]
        calls.append(Call(passage[:end], ms, whole, first, session.lookahead.computed - before))
        due = max(due, time.perf_counter() - gap) + gap  # who waits for a list types on after it
        until_next = after(due - time.perf_counter())
        if whole or anticipation.ask(passage[:end], until_next)[1]:
            anticipation.look_ahead(passage[:end], until_next)
    return calls


def _passages(text: str, words: int, count: int) -> list[str]:
    """Passages of so many words, evenly over the text, each from the beginning of a line."""
    lines = [line for line in text.splitlines() if len(line.split()) > words]
    return [" ".join(line.split()[: words + 1]) for line in lines[:: max(1, len(lines) // count)]][:count]


def _half_word(passage: str) -> int:
    """Where the middle of the last word is."""
    last = len(passage.rsplit(" ", 1)[-1])
    return len(passage) - last + math.ceil(last / 2)


if __name__ == "__main__":
    main()
