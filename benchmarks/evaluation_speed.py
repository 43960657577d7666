"""How fast evaluation is, beside what the machine can do: the exact output product, and a whole scoring pass.

    python benchmarks/evaluation_speed.py [--vocabulary 33278] [--embedding 400] [--hidden 512] [--layers 2] [--tokens 20000]

A model with random weights scores random tokens in one stream, as `lstmlm eval` does. The machine's own rate is that of the
best of several square float32 products of 1,024 to 4,096 rows. All rates are medians, taken in turn in one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
import torch

from lstmlm.config import ModelConfig
from lstmlm.model import LanguageModel
from lstmlm.runtime import keep_freed_memory, set_threads
from lstmlm.scoring import COLUMNS, ROWS, score_segments


@click.command()
@click.option("--vocabulary", default=33_278, show_default=True)
@click.option("--embedding", default=400, show_default=True)
@click.option("--hidden", default=512, show_default=True)
@click.option("--layers", default=2, show_default=True)
@click.option("--tokens", default=20_000, show_default=True, help="Of the scoring pass.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", type=int)
def main(vocabulary: int, embedding: int, hidden: int, layers: int, tokens: int, rounds: int, threads: int | None) -> None:
    """Print rates in GFLOP/s, their ratio, and tokens a second."""
    set_threads(threads)
    keep_freed_memory()
    config = ModelConfig(
        vocabulary_size=vocabulary, embedding_size=embedding, hidden_size=hidden, num_layers=layers, tied=True
    )
    model = LanguageModel(config).eval()
    model.reset_parameters(1)
    features_NF = torch.randn(ROWS, hidden)
    work = 2.0 * ROWS * (hidden * embedding * (hidden != embedding) + embedding * vocabulary)
    squares = {size: torch.randn(size, size) for size in (1_024, 2_048, 4_096)}
    rates: dict[str, list[float]] = {"machine": [], "output": []}
    with torch.inference_mode():
        for _ in range(rounds):
            rates["machine"].append(max(2.0 * size**3 / _seconds(lambda m=m: m @ m) for size, m in squares.items()))
            rates["output"].append(work / min(_seconds(lambda: _multiply(model, features_NF)) for _ in range(4)))
    machine, output = (float(np.median(rates[name])) / 1e9 for name in ("machine", "output"))
    click.echo(f"machine          {machine:7.1f} GFLOP/s, the best of square products, {torch.get_num_threads()} threads")
    click.echo(
        f"output product   {output:7.1f} GFLOP/s, {ROWS} tokens and {COLUMNS} symbols at once: {output / machine:.0%} of it"
    )
    ids = np.random.default_rng(1).integers(1, vocabulary, tokens).astype(np.uint16)
    for guesses in (False, True):
        began = time.perf_counter()
        score_segments(model, [ids], eos=0, guesses=guesses)
        seconds = time.perf_counter() - began
        what = "with ranks, guesses, entropies" if guesses else "surprisals alone"
        click.echo(f"one stream       {tokens / seconds:7,.0f} tokens/s, {what}")


def _multiply(model: LanguageModel, features_NF: torch.Tensor) -> None:
    """The logits as scoring makes them."""
    for _ in model.logit_blocks(features_NF, COLUMNS):
        pass


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
