"""Whole training steps by output layer and precision, against the plain float32 step, in one run.

    python benchmarks/output_layers.py PATH/TO/wikitext-2

The plain step is what the field's example scripts do: `nn.Embedding`, `nn.LSTM`, a tied `nn.Linear`, the logits of the
whole batch, `nn.functional.cross_entropy`, a clipped gradient, dense AdamW, all in float32. It is timed first as those
scripts run it, then with freed memory kept (`runtime.keep_freed_memory`), as all that follows. The others are
`lstmlm.training.learner.Learner`, which is what `lstmlm train` runs. All learn from the same text, take turns, a few steps
at a time, and are reported by the median of their steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import click
import numpy as np
import torch
from torch import Tensor, nn

from lstmlm import Tokenizer, open_corpus
from lstmlm.batches import Batches, Window
from lstmlm.config import ModelConfig, RuntimeConfig, TokenizerConfig, TrainConfig
from lstmlm.model import LanguageModel
from lstmlm.runtime import choose_runtime, keep_freed_memory
from lstmlm.training.learner import Learner
from lstmlm.training.options import choose_softmax

ROUNDS = 3
_Step = Callable[[Window, int], float]


@dataclass
class Contender:
    """One way to make a training step."""

    name: str
    step: _Step
    seconds: list[float] = field(default_factory=list)
    loss: float = 0.0


def plain(vocabulary_size: int, embedding: int, hidden: int, layers: int, batch: int) -> _Step:
    """The example scripts' step."""
    encoder, rnn = nn.Embedding(vocabulary_size, embedding), nn.LSTM(embedding, hidden, layers, dropout=0.2)
    projection, decoder = nn.Linear(hidden, embedding, bias=False), nn.Linear(embedding, vocabulary_size)
    nn.init.uniform_(encoder.weight, -0.05, 0.05)
    decoder.weight = encoder.weight
    parameters = list(dict.fromkeys(p for part in (encoder, rnn, projection, decoder) for p in part.parameters()))
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    state = [torch.zeros(layers, batch, hidden), torch.zeros(layers, batch, hidden)]

    def step(window: Window, number: int) -> float:
        optimizer.zero_grad()
        hidden_TBH, after = rnn(nn.functional.dropout(encoder(window.inputs_TB), 0.2), tuple(state))
        logits_NV: Tensor = decoder(projection(nn.functional.dropout(hidden_TBH, 0.4))).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits_NV, window.targets_TB.flatten(), ignore_index=-1)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        state[:] = [part.detach() for part in after]
        return float(loss.detach())

    return step


def ours(model: ModelConfig, training: TrainConfig, precision: str, counts_V: Tensor) -> _Step:
    """A step of `lstmlm train`."""
    learner = Learner(LanguageModel(model), training, counts_V, choose_runtime(RuntimeConfig(precision=precision), "lstm"))
    learner.start_afresh(training.batch_size)

    def step(window: Window, number: int) -> float:
        learner.update(window, number, rate=1e-3, momentum=0.9)
        (update,) = learner.collect()
        return update.nats / update.tokens

    return step


@click.command()
@click.argument("source")
@click.option("--embedding", default=400, show_default=True)
@click.option("--hidden", default=512, show_default=True)
@click.option("--layers", default=2, show_default=True)
@click.option("--batch-size", default=40, show_default=True)
@click.option("--window", default=70, show_default=True)
@click.option("--steps", default=6, show_default=True, help="Timed steps of each in a round, after two that are not.")
def main(source: str, embedding: int, hidden: int, layers: int, batch_size: int, window: int, steps: int) -> None:
    """Print the table for the words of SOURCE."""
    corpus = open_corpus([source])
    tokenizer = Tokenizer.train(TokenizerConfig(kind="word"), corpus.pieces("train"))
    ids = np.concatenate(
        [np.asarray(part.ids) for file in corpus.files("valid") for part in tokenizer.encode_documents(file)]
    ).astype(np.uint32)
    size = tokenizer.vocabulary_size
    counts_V = torch.from_numpy(np.bincount(ids, minlength=size))
    batches = Batches(ids, batch_size=batch_size, window=window, eos=tokenizer.eos, seed=1)
    shape = {"vocabulary_size": size, "embedding_size": embedding, "hidden_size": hidden, "num_layers": layers}
    dropouts = {"dropout_input": 0.2, "dropout_hidden": 0.2, "dropout_output": 0.4}
    full = ModelConfig(**shape, **dropouts)
    adaptive = ModelConfig(**shape, **dropouts, softmax="adaptive")
    auto = choose_softmax(size, "cpu", input="embedding", softmax="full")

    def training(negatives: int) -> TrainConfig:
        return TrainConfig(steps=1, batch_size=batch_size, window=window, clip=0.5, negatives=negatives)

    fast = choose_runtime(RuntimeConfig(), "lstm").precision
    plainly = plain(size, embedding, hidden, layers, batch_size)
    first = Contender("plain, full softmax, fp32", plainly)
    contenders = [
        Contender("plain, freed memory kept", plainly),
        Contender("full, fp32", ours(full, training(0), "fp32", counts_V)),
        Contender(f"full, {fast}", ours(full, training(0), fast, counts_V)),
        Contender(f"adaptive, {fast}", ours(adaptive, training(0), fast, counts_V)),
        Contender("sampled, fp32", ours(full, training(auto), "fp32", counts_V)),
        Contender(f"sampled, {auto:,} draws, {fast} (auto)", ours(full, training(auto), fast, counts_V)),
    ]
    _time([first], batches, steps)
    keep_freed_memory()
    _time(contenders, batches, steps)
    base = statistics.median(first.seconds)
    click.echo(
        f"V {size:,}, E {embedding}, H {hidden}, L {layers}, {batch_size} x {window} tokens, {ROUNDS} x {steps} steps"
    )
    click.echo(f"{'output layer':<36}{'ms/step':>9}{'tokens/s':>10}{'ratio':>8}")
    for contender in (first, *contenders):
        median = statistics.median(contender.seconds)
        rate = batch_size * window / median
        click.echo(f"{contender.name:<36}{median * 1e3:>9.1f}{rate:>10,.0f}{base / median:>7.1f}x")


def _time(contenders: list[Contender], batches: Batches, steps: int) -> None:
    """Some rounds in turn; the first two steps of a round do not count."""
    for start in range(0, ROUNDS * (steps + 2), steps + 2):
        for contender in contenders:
            for number in range(start, start + steps + 2):
                before = time.perf_counter()
                contender.loss = contender.step(batches.at(number), number)
                if number >= start + 2:
                    contender.seconds.append(time.perf_counter() - before)


if __name__ == "__main__":
    main()
