"""`lstmlm train` as a whole process: figures on held-out text, time, speed and peak memory, beside what was forecast.

    python benchmarks/training_runs.py -o runs/demo --seeds 3 -- everyday --recipe everyday-demo
    python benchmarks/training_runs.py -o runs/words -- PATH/TO/wikitext-2 --recipe wikitext2-cpu-10m

What follows `--` are the arguments of `lstmlm train`. One run a seed, in RUNS/seed-N; a table of the runs, their medians,
and the validation figure against the seconds.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    about: dict[str, Any]
    """Its run.json."""
    events: list[dict[str, Any]]
    seconds: float
    """Of the process, with reading the text before training and the report after it."""
    peak_bytes: int
    validation: dict[str, Any]
    """`lstmlm eval --split valid --json -`: the best model on the whole split."""

    def last(self, event: str) -> dict[str, Any]:
        return next(found for found in reversed(self.events) if found["event"] == event)

    @property
    def training_seconds(self) -> float:
        return float(self.last("end")["seconds"])

    def perplexity(self, per: str) -> float:
        """exp(nats / tokens, words or chars) on the validation split."""
        count = self.validation["tokens"] if per == "tokens" else self.validation["text"][per]
        return math.exp(self.validation["nll_nats"] / count)


def train(run: Path, arguments: tuple[str, ...]) -> Run:
    """Run `lstmlm train` in a process of its own."""
    before = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "lstmlm", "train", *arguments, "-o", str(run)], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"the run ended with exit code {os.waitstatus_to_exitcode(status)}")
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    about = json.loads((run / "run.json").read_text())
    seconds, peak = time.monotonic() - before, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    evaluation = [sys.executable, "-m", "lstmlm", "eval", str(run), "--split", "valid", "--json", "-"]
    validation = json.loads(subprocess.run(evaluation, check=True, capture_output=True).stdout)
    return Run(about, events, seconds, peak, validation)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-o", "--output", "runs", type=Path, required=True, metavar="RUNS", help="Where the runs go.")
@click.option("--seeds", default=1, show_default=True, help="Seeds 1 to N.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(runs: Path, seeds: int, arguments: tuple[str, ...]) -> None:
    """Train with each seed and print the figures."""
    results = [train(runs / f"seed-{seed}", (*arguments, "--seed", str(seed))) for seed in range(1, seeds + 1)]
    click.echo(f"lstmlm train {' '.join(arguments)}")
    click.echo(
        f"{'seed':<8}{'nats':>8}{'perplexity':>12}{'bits/byte':>11}{'steps':>8}{'train s':>9}{'all s':>8}{'peak MB':>9}"
    )
    for seed, result in enumerate(results, 1):
        click.echo(_row(str(seed), [result]))
    if seeds > 1:
        click.echo(_row("median", results))
    forecast = results[0].about["forecast"]
    if forecast is not None:
        click.echo(
            f"forecast of seed 1: {forecast['seconds'] or math.nan:,.0f} s, {forecast['epochs']:.1f} epochs, "
            f"{forecast['memory_bytes'] / 1e6:,.0f} MB"
        )
    click.echo("seconds, nats per token (of the tokens scored), seed 1:")
    for event in results[0].events:
        if event["event"] == "validation":
            click.echo(f"{event['seconds']:>8.0f}{event['loss']:>9.4f}  ({event['scored']:,})")


def _row(name: str, results: list[Run]) -> str:
    def middle(figure: Callable[[Run], float]) -> float:
        return statistics.median(map(figure, results))

    token, bits = (
        middle(lambda result: result.perplexity("tokens")),
        middle(lambda result: result.validation["bits_per_byte"]),
    )
    steps, training = middle(lambda result: result.last("end")["step"]), middle(lambda result: result.training_seconds)
    whole, peak = middle(lambda result: result.seconds), middle(lambda result: result.peak_bytes)
    figures = f"{name:<8}{math.log(token):>8.4f}{token:>12.2f}{bits:>11.4f}{steps:>8,.0f}"
    return f"{figures}{training:>9.1f}{whole:>8.1f}{peak / 1e6:>9,.0f}"


if __name__ == "__main__":
    main()
