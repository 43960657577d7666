"""What `lstmlm train` chooses by itself against settings tuned by hand, on six pairs of corpus and budget.

    python benchmarks/fitting.py -o runs/fitting --data PATH/TO/DATA [--only diary,everyday,...]

DATA holds the sets that are not in the project: `wikitext-2/`, `tiny-shakespeare/input.txt` and `classics/` (a folder of
books). Each pair is trained twice within the same budget; both models are then scored exactly on the whole validation split.
The ratio is that of the perplexities: per word (per character for characters), so that the vocabularies may differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import click
from training_runs import Run, train

from lstmlm.corpus import built_in_corpora

DIARY_BYTES = 51_200


@dataclass(frozen=True)
class Pair:
    """A corpus and a budget; what is given in both runs, and what tuning by hand found."""

    name: str
    source: str
    """Under DATA, or the name of a built-in corpus; `diary` is the beginning of everyday."""
    given: str
    tuned: str
    per: str = "words"


PAIRS = (
    Pair(
        "diary",
        "diary",
        "--budget 1m",
        "--steps 3000 --vocab-size 600 --hidden 192 --embedding 256 --batch-size 12 --window 48 --lr 1.5e-2 --momentum .8 "
        "--beta2 .997 --weight-decay .1 --dropout-input .5 --dropout-output .6 --dropout-weight .6 --traces none "
        "--patience 0",
    ),
    Pair("everyday", "everyday", "--budget 90s", "--recipe everyday-demo"),
    Pair(
        "shakespeare-bpe",
        "tiny-shakespeare/input.txt",
        "--split 90/10/0 --budget 3m",
        "--split 90/10/0 --budget 3m --vocab-size 2000 --hidden 384 --embedding 256 --batch-size 16 --window 48 --lr 1.4e-2 "
        "--dropout-input .3 --dropout-output .4 --dropout-weight .15",
    ),
    Pair(
        "shakespeare-char",
        "tiny-shakespeare/input.txt",
        "--tokenizer char --split 90/10/0 --budget 10m",
        "--recipe shakespeare-char-cpu-10m",
        "chars",
    ),
    Pair("wikitext-2", "wikitext-2", "--tokenizer word --budget 10m", "--recipe wikitext2-cpu-10m"),
    Pair(
        "books",
        "classics",
        "--budget 10m",
        "--budget 10m --vocab-size 10000 --hidden 640 --embedding 320 --batch-size 24 --window 56 --lr 7e-3 "
        "--dropout-input 0 --dropout-output .05 --negatives 2000",
    ),
)


@click.command()
@click.option("-o", "--output", "runs", type=Path, required=True, metavar="RUNS", help="Where the runs go.")
@click.option("--data", type=Path, required=True, metavar="DATA", help="Folder of the sets outside the project.")
@click.option("--only", help="Names of pairs, with commas.")
@click.option("--fitted-only", is_flag=True, help="Leave the tuned runs out.")
def main(runs: Path, data: Path, only: str | None, fitted_only: bool) -> None:
    """Print the ratio, and how near the forecasts of time and memory were, for each pair."""
    click.echo("pair                budget  train s  forecast MB  peak MB     fitted      tuned   ratio")
    for pair in PAIRS:
        if only is not None and pair.name not in only.split(","):
            continue
        source = pair.source if pair.source in built_in_corpora() else str(data / pair.source)
        if pair.source == "diary":
            source = str(runs / "diary.txt")
            runs.mkdir(parents=True, exist_ok=True)
            text = (built_in_corpora()["everyday"] / "train.txt").read_bytes()[:DIARY_BYTES]
            Path(source).write_bytes(text[: text.rindex(b"\n") + 1])
        fitted = train(runs / f"{pair.name}-fitted", (source, *pair.given.split()))
        found, tuned = fitted.perplexity(pair.per), math.nan
        if not fitted_only:
            tuned = train(runs / f"{pair.name}-tuned", (source, *pair.tuned.split())).perplexity(pair.per)
        click.echo(f"{pair.name:<18}{_cost(fitted)}{found:>11.3f}{tuned:>11.3f}{found / tuned:>8.3f}")


def _cost(run: Run) -> str:
    forecast = run.about["forecast"]
    return (
        f"{forecast['seconds']:>8.0f}{run.training_seconds:>9.1f}"
        f"{forecast['memory_bytes'] / 1e6:>13,.0f}{run.peak_bytes / 1e6:>9,.0f}"
    )


if __name__ == "__main__":
    main()
