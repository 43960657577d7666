"""`lstmlm train`: text in, model out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lstmlm import config as settings
from lstmlm import recipes
from lstmlm.cli.console import program, say
from lstmlm.cli.text_options import choice, option, text_options
from lstmlm.cli.train_options import DEFAULT_BUDGET, SOFTMAXES, build_options
from lstmlm.config import ModelConfig, TrainConfig

_FITTED = "fitted"


@click.command("train", short_help="Train a model on text.", context_settings={"max_content_width": 110})
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option(
    "-o", "--output", "run", metavar="RUN", type=Path, help="Run directory.  [default: checkpoints/<source's name>]"
)
@click.option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help=f"Settings to start from instead of the defaults: {', '.join(recipes.names())}.",
)
@click.option("--from", "start", metavar="MODEL", help="Begin with this trained model: its tokenizer, shape and weights.")
@text_options
@option("--cell", default=ModelConfig.cell, type=choice(settings.CELLS), help="Recurrent cell.")
@option("--input", default=ModelConfig.input, type=choice(settings.INPUTS), help="What the first layer reads.")
@option("--layers", default=_FITTED, type=int, help="Recurrent layers.")
@option("--hidden", default=_FITTED, type=int, help="Units of a layer.")
@option("--embedding", default=_FITTED, type=int, help="Size of a symbol's vector.")
@option("--tied/--no-tied", default="tied, for an embedding", help="One matrix for input and output vectors.")
@option("--residual/--no-residual", default="no-residual", help="Add a layer's input to its output.")
@option(
    "--traces",
    default=_FITTED,
    metavar="N,N...|none",
    help="Remember what was read within about N symbols, for the output.",
)
@option(
    "--softmax",
    default="auto",
    type=choice(SOFTMAXES),
    help="What the output layer trains; auto: sampled for many symbols on a CPU, else full.",
)
@option("--negatives", default=settings.NEGATIVES, type=int, help="Draws of a sampled softmax; 0: not sampled.")
@option(
    "--dropout-embedding",
    default=ModelConfig.dropout_embedding,
    type=float,
    help="Part of the symbols left out in training.",
)
@option("--dropout-input", default=_FITTED, type=float, help="The same of the units the first layer reads.")
@option("--dropout-hidden", default=_FITTED, type=float, help="The same between layers.")
@option("--dropout-weight", default=_FITTED, type=float, help="The same of the recurrent weights.")
@option("--dropout-output", default=_FITTED, type=float, help="The same before the output.")
@option(
    "--budget",
    default=DEFAULT_BUDGET,
    metavar="TIME",
    help="Train for 90s, 10m, 1h...; the schedule follows the clock.",
)
@option("--epochs", default="-", type=int, help="Train for N passes over the text instead.")
@option("--steps", default="-", type=int, help="Train for N windows instead.")
@option("--batch-size", default=_FITTED, type=int, help="Streams side by side.")
@option("--window", default=_FITTED, type=int, help="Steps of backpropagation.")
@option("--vary-window/--no-vary-window", default="no-vary-window", help="Windows of varying length around --window.")
@option("--accumulate", default=TrainConfig.accumulate, type=int, help="Parts a step is cut into, to take less memory.")
@option("--optimizer", default=TrainConfig.optimizer, type=choice(settings.OPTIMIZERS), help="How weights are updated.")
@option(
    "--embedding-init",
    default=_FITTED,
    type=choice(settings.EMBEDDING_INITS),
    help="First vectors: random, or by the neighbours in the text.",
)
@option("--lr", default=_FITTED, type=float, help="Peak learning rate.")
@option("--momentum", default=_FITTED, type=float, help="Of SGD and RMSprop; beta1 of Adam and AdamW.")
@option("--beta2", default=_FITTED, type=float, help="Of Adam and AdamW; how slowly RMSprop forgets.")
@option("--weight-decay", default=_FITTED, type=float, help="Pull of the weights towards zero.")
@option("--clip", default=TrainConfig.clip, type=float, help="Largest norm of the gradient.")
@option(
    "--activation-penalty", default=TrainConfig.activation_penalty, type=float, help="Price of large hidden states (AR)."
)
@option(
    "--temporal-penalty", default=TrainConfig.temporal_penalty, type=float, help="Price of hidden states that jump (TAR)."
)
@option(
    "--averaging",
    default=_FITTED,
    type=float,
    help="Part of the run whose weights are averaged; 0: the last ones.",
)
@option("--schedule", default=TrainConfig.schedule, type=choice(settings.SCHEDULES), help="Decay of the learning rate.")
@option("--warmup", default=TrainConfig.warmup, type=float, help="Part of the run over which it rises first.")
@option("--validate-every", default="each epoch, or 20 times in a budget", type=int, help="Steps between validations.")
@option(
    "--patience",
    default=TrainConfig.patience,
    type=int,
    help="Validations without progress that end the run; 0: never.",
)
@option("--precision", default="auto", type=choice(settings.PRECISIONS), help="auto: bf16 where the machine is fast in it.")
@option("--device", default="auto", type=choice(settings.DEVICES), help="Where to train.")
@option("--threads", default="torch's choice", type=int, help="CPU threads.")
@option("--seed", default=TrainConfig.seed, type=int, help="Weights, order and dropout follow from it.")
@option("--checkpoint-every", default=TrainConfig.checkpoint_every, metavar="TIME|N", help="Seconds (60s) or steps (500).")
@click.option("--resume", is_flag=True, help="Continue the run in RUN; options come from it.")
def train_command(
    sources: tuple[str, ...], run: Path | None, recipe: str | None, start: str | None, resume: bool, **given: Any
) -> None:
    """Train a model on SOURCE: a text file, a folder, the built-in corpus everyday, a table, or hf:OWNER/NAME.

    The best model by validation is kept in RUN/best; at the end it is evaluated once on the test split. A recipe takes
    the place of the defaults, and an option that of its value; `lstmlm recipes` says what is in which. With --from, the
    held-out texts of both trainings are scored by both models at the end: what was learned, and what was forgotten.
    """
    from lstmlm.checkpoint import load_model
    from lstmlm.cli.training_run import default_run, run_training
    from lstmlm.training import RunOptions, absolute_sources

    if run is None:
        run = default_run(sources)
    chosen = recipes.load(recipe) if recipe is not None else None
    recorded = RunOptions.read(run) if resume and (run / "run.json").exists() else None
    if recorded is None and not sources:
        meant = f"; recipe {chosen.name} is for {chosen.data}" if chosen else ""
        raise click.UsageError(
            f"expected a SOURCE to train on; {run} has no run to continue" if resume else f"expected a SOURCE{meant}"
        )
    if recorded is not None or start is None:
        options = build_options(absolute_sources(sources), given, recorded, chosen)
        if recorded is not None and start is not None:  # it is only compared, and need not exist any more
            options.continuing(recorded)  # what was typed counts, though with a start some of it would count as left open
            options = replace(options, start=os.path.abspath(start))
    else:
        options = build_options(absolute_sources(sources), given, None, chosen, load_model(start))
    if run_training(run, options, resume=resume):
        say(f"\nNow type with it:  {program()} repl {run}")
