"""`lstmlm train`: text in, model out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from lstmlm import config as settings
from lstmlm import recipes
from lstmlm.cli.console import program, say
from lstmlm.cli.train_options import DEFAULT_BUDGET, SOFTMAXES, build_options
from lstmlm.config import ModelConfig, TokenizerConfig, TrainConfig

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _choice(values: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice(list(values))


def _option(*names: str, default: object, help: str, **more: Any) -> Callable[[_Command], _Command]:
    """An option that is None unless given, so that `--resume` can tell; its default is shown all the same."""
    return click.option(*names, default=None, show_default=str(default), help=help, **more)


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
@_option(
    "--documents",
    default="file, or the built-in corpus's rule",
    type=_choice(settings.DOCUMENT_RULES),
    help="What ends a document.",
)
@_option("--split", default="90/5/5", metavar="A/B/C", help="Train/valid/test, for a source without splits.")
@_option("--text-field", default="text", metavar="NAME", help="Column of a table that holds the text.")
@_option(
    "--encoding-errors",
    default="strict",
    type=_choice(settings.ENCODING_ERRORS),
    help="What to do with bytes that are not UTF-8.",
)
@_option("--tokenizer", default=TokenizerConfig.kind, type=_choice(settings.TOKENIZERS), help="Units the text is cut into.")
@_option("--vocab-size", default="bpe fitted, word and char all", type=int, help="Symbols, with <eos> and <unk>.")
@_option("--min-count", default="auto", metavar="auto|N", help="Rarer words or characters are unknown.")
@_option("--normalization", default="none", type=_choice(settings.NORMALIZATIONS), help="Unicode normalization of the text.")
@_option("--lowercase/--no-lowercase", default="no-lowercase", help="Read all text in lower case.")
@_option("--cell", default=ModelConfig.cell, type=_choice(settings.CELLS), help="Recurrent cell.")
@_option("--input", default=ModelConfig.input, type=_choice(settings.INPUTS), help="What the first layer reads.")
@_option("--layers", default=_FITTED, type=int, help="Recurrent layers.")
@_option("--hidden", default=_FITTED, type=int, help="Units of a layer.")
@_option("--embedding", default=_FITTED, type=int, help="Size of a symbol's vector.")
@_option("--tied/--no-tied", default="tied, for an embedding", help="One matrix for input and output vectors.")
@_option("--residual/--no-residual", default="no-residual", help="Add a layer's input to its output.")
@_option(
    "--traces",
    default=_FITTED,
    metavar="N,N...|none",
    help="Remember what was read within about N symbols, for the output.",
)
@_option(
    "--softmax",
    default="auto",
    type=_choice(SOFTMAXES),
    help="What the output layer trains; auto: sampled for many symbols on a CPU, else full.",
)
@_option("--negatives", default=settings.NEGATIVES, type=int, help="Draws of a sampled softmax; 0: not sampled.")
@_option(
    "--dropout-embedding",
    default=ModelConfig.dropout_embedding,
    type=float,
    help="Part of the symbols left out in training.",
)
@_option("--dropout-input", default=_FITTED, type=float, help="The same of the units the first layer reads.")
@_option("--dropout-hidden", default=_FITTED, type=float, help="The same between layers.")
@_option("--dropout-weight", default=_FITTED, type=float, help="The same of the recurrent weights.")
@_option("--dropout-output", default=_FITTED, type=float, help="The same before the output.")
@_option(
    "--budget",
    default=DEFAULT_BUDGET,
    metavar="TIME",
    help="Train for 90s, 10m, 1h...; the schedule follows the clock.",
)
@_option("--epochs", default="-", type=int, help="Train for N passes over the text instead.")
@_option("--steps", default="-", type=int, help="Train for N windows instead.")
@_option("--batch-size", default=_FITTED, type=int, help="Streams side by side.")
@_option("--window", default=_FITTED, type=int, help="Steps of backpropagation.")
@_option("--vary-window/--no-vary-window", default="no-vary-window", help="Windows of varying length around --window.")
@_option("--accumulate", default=TrainConfig.accumulate, type=int, help="Parts a step is cut into, to take less memory.")
@_option("--optimizer", default=TrainConfig.optimizer, type=_choice(settings.OPTIMIZERS), help="How weights are updated.")
@_option(
    "--embedding-init",
    default=_FITTED,
    type=_choice(settings.EMBEDDING_INITS),
    help="First vectors: random, or by the neighbours in the text.",
)
@_option("--lr", default=_FITTED, type=float, help="Peak learning rate.")
@_option("--momentum", default=_FITTED, type=float, help="Of SGD and RMSprop; beta1 of Adam and AdamW.")
@_option("--beta2", default=_FITTED, type=float, help="Of Adam and AdamW; how slowly RMSprop forgets.")
@_option("--weight-decay", default=_FITTED, type=float, help="Pull of the weights towards zero.")
@_option("--clip", default=TrainConfig.clip, type=float, help="Largest norm of the gradient.")
@_option(
    "--activation-penalty", default=TrainConfig.activation_penalty, type=float, help="Price of large hidden states (AR)."
)
@_option(
    "--temporal-penalty", default=TrainConfig.temporal_penalty, type=float, help="Price of hidden states that jump (TAR)."
)
@_option(
    "--averaging",
    default=_FITTED,
    type=float,
    help="Part of the run whose weights are averaged; 0: the last ones.",
)
@_option("--schedule", default=TrainConfig.schedule, type=_choice(settings.SCHEDULES), help="Decay of the learning rate.")
@_option("--warmup", default=TrainConfig.warmup, type=float, help="Part of the run over which it rises first.")
@_option("--validate-every", default="each epoch, or 20 times in a budget", type=int, help="Steps between validations.")
@_option(
    "--patience",
    default=TrainConfig.patience,
    type=int,
    help="Validations without progress that end the run; 0: never.",
)
@_option(
    "--precision", default="auto", type=_choice(settings.PRECISIONS), help="auto: bf16 where the machine is fast in it."
)
@_option("--device", default="auto", type=_choice(settings.DEVICES), help="Where to train.")
@_option("--threads", default="torch's choice", type=int, help="CPU threads.")
@_option("--seed", default=TrainConfig.seed, type=int, help="Weights, order and dropout follow from it.")
@_option("--checkpoint-every", default=TrainConfig.checkpoint_every, metavar="TIME|N", help="Seconds (60s) or steps (500).")
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
