"""Next-word metrics of several models on one text, as a Markdown table; `lstmlm/keyboard.py` defines the figures.

    python benchmarks/keyboards.py RUN NGRAM --text PATH/TO/wikitext-2 --split valid --mixture cache --mixture cache+ngram

A row for each model, and for each tuned neural model (`lstmlm tune`) one for every `--mixture`. Ghosts and milliseconds are
given before any of a word is typed, and while it is.
"""

from __future__ import annotations

from typing import Any

import click

from lstmlm.cli.console import token_progress
from lstmlm.config import SPLITS, CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.generation import Session
from lstmlm.keyboard import WORDS, documents_of, keyboard_metrics
from lstmlm.ngram import LoadedNGram
from lstmlm.predictor import load_any, open_predictor

COLUMNS = (
    *("model", "words", "top-1", "top-3", "MRR@10", "keys saved", "vocabulary limit", "limit", "ghost coverage, precision"),
    *("ghost while typing", "calibration error", "ms p50, p90, p99", "ms while typing"),
)


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--text", required=True, help="As for lstmlm eval.")
@click.option("--split", type=click.Choice(SPLITS), help="Of a TEXT that has splits.  [default: test]")
@click.option("--mixture", "mixtures", multiple=True, help="Parts joined by +: cache, dynamic, ngram.")
@click.option("--words", default=WORDS, show_default=True, help="About how many are typed; 0: all.")
@click.option("--shown", default=5, show_default=True, help="Words shown at a time.")
def main(models: tuple[str, ...], text: str, split: str | None, mixtures: tuple[str, ...], words: int, shown: int) -> None:
    """Print a row for each model and mixture."""
    click.echo(f"| {' | '.join(COLUMNS)} |\n|---{'|---:' * (len(COLUMNS) - 1)}|")
    for path in models:
        loaded = load_any(path)
        corpus = open_texts([text], CorpusConfig(documents=loaded.documents), split)
        for mixture in ("", *(() if isinstance(loaded, LoadedNGram) else mixtures)):
            predictor = open_predictor(loaded, mixture.split("+") if mixture else ())
            documents = documents_of(corpus.files("test"))
            with token_progress(f"{path} {mixture}") as progress:
                found = keyboard_metrics(Session(predictor), documents, words=words, k=shown, progress=progress)
            click.echo(row(f"{path} {mixture}".strip(), found))


def row(name: str, found: dict[str, Any]) -> str:
    """The figures of `keyboard_metrics` under `COLUMNS`."""
    accuracy, keys, ghost, ms = found["accuracy"], found["keystrokes"], found["ghost"], found["latency_ms"]
    kinds = ("next", "typing")
    cells = (
        *(name, f"{found['words']:,}", percent(accuracy["top1"]), percent(accuracy["top3"]), number(accuracy["mrr10"], 3)),
        *(percent(keys[limit], 1) for limit in ("saving", "vocabulary_limit", "limit")),
        *(f"{percent(ghost[kind]['coverage'])}, {percent(ghost[kind]['precision'])}" for kind in kinds),
        percent(found["calibration"]["ece"]),
        *(", ".join(number(ms[kind][part], 1) for part in ("p50", "p90", "p99")) for kind in kinds),
    )
    return f"| {' | '.join(cells)} |"


def percent(share: float | None, whole: float = 100) -> str:
    return "-" if share is None else f"{share * whole:.1f}%"


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
