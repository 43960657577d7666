"""How long completion takes: while a text is typed key by key, and after one with a half typed word was pasted.

    python benchmarks/completion_latency.py MODEL... --text FILE [--keys 2000] [--pastes 60] [--tolerance 1e-6]

Every key of some passages is one call of `complete` for five words, in a session that keeps what it has computed. A paste is
a passage that ends in the middle of a word, in a session that knows nothing but its model's weights.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from lstmlm.completion import complete
from lstmlm.generation import Session
from lstmlm.predictor import Predictor, load_any, open_predictor
from lstmlm.runtime import keep_freed_memory, set_threads


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--keys", default=2000, show_default=True)
@click.option("--pastes", default=60, show_default=True)
@click.option("--words", default=50, show_default=True, help="Of a paste.")
@click.option("--tolerance", default=1e-6, show_default=True)
@click.option(
    "--deadline", type=float, help="Seconds after which the best so far is taken; another session says what is right."
)
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
    parts: tuple[str, ...],
    threads: int | None,
) -> None:
    """Print a Markdown table of milliseconds: medians, 95th percentiles, and more."""
    set_threads(threads)
    keep_freed_memory()
    passages = _passages(text.read_text(encoding="utf-8"), words, max(pastes, math.ceil(keys / (5 * words))))
    click.echo("| model | what | calls | p50 | p90 | p95 | p99 | exact | right first word | distributions a call |")
    click.echo("|---|---|---|---|---|---|---|---|---|---|")
    for path in models:
        predictor = open_predictor(load_any(path), parts)
        found = _typed(predictor, passages, keys, tolerance, deadline)
        halves = [passage[: _half_word(passage)] for passage in passages[:pastes]]
        found[f"paste of {words} words"] = [
            _timed(Session(predictor), half, tolerance, deadline, Session(predictor)) for half in halves
        ]
        for kind, calls in found.items():
            ms = " | ".join(f"{value:.2f}" for value in np.percentile([call.ms for call in calls], [50, 90, 95, 99]))
            exact = sum(call.exact for call in calls) / len(calls)
            rows = sum(call.distributions for call in calls) / len(calls)
            right = sum(call.right for call in calls) / len(calls)
            click.echo(f"| {path} | {kind} | {len(calls):,} | {ms} | {exact:.1%} | {right:.1%} | {rows:.1f} |")


class Call(NamedTuple):
    ms: float
    exact: bool
    right: bool
    """Whether the first word is that of an exact list."""
    distributions: int
    """That had to be computed."""


def _timed(session: Session, text: str, tolerance: float, deadline: float | None, judge: Session) -> Call:
    before, began = session.lookahead.computed, time.perf_counter()
    answer = complete(session, text, tolerance=tolerance, deadline=deadline)
    ms = 1e3 * (time.perf_counter() - began)
    first = [c.word for c in answer.candidates[:1]]
    right = answer.exact or first == [c.word for c in complete(judge, text, 1, tolerance=1e-4).candidates]
    return Call(ms, answer.exact, right, session.lookahead.computed - before)


def _typed(
    predictor: Predictor[Any], passages: list[str], keys: int, tolerance: float, deadline: float | None
) -> dict[str, list[Call]]:
    """Calls by kind; the first quarter of a passage is typed and not counted, as its context is short."""
    found: defaultdict[str, list[Call]] = defaultdict(list)
    for passage in passages:
        if len(found["every key"]) >= keys:
            break
        session, judge = Session(predictor), Session(predictor)
        for end in range(1, len(passage) + 1):
            call = _timed(session, passage[:end], tolerance, deadline, judge)
            if end > len(passage) // 4:
                found["every key"].append(call)
                found["after a space" if passage[end - 1] == " " else "in a word"].append(call)
                if not call.distributions:
                    found["nothing to compute"].append(call)
    return found


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
