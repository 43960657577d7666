"""`lstmlm train`: text in, model out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lstmlm import config as settings
from lstmlm.cli.console import program, say
from lstmlm.config import ModelConfig, TokenizerConfig, TrainConfig, updated

if TYPE_CHECKING:
    from lstmlm.training import RunOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_BUDGET = "10m"


def _choice(values: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice(list(values))


def _option(*names: str, default: object, help: str, **more: Any) -> Callable[[_Command], _Command]:
    """An option that is None unless given, so that `--resume` can tell; its default is shown all the same."""
    return click.option(*names, default=None, show_default=str(default), help=help, **more)


_BY_KIND = "by tokenizer"


@click.command("train", short_help="Train a model on text.", context_settings={"max_content_width": 110})
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option(
    "-o", "--output", "run", metavar="RUN", type=Path, help="Run directory.  [default: checkpoints/<source's name>]"
)
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
@_option("--vocab-size", default="bpe 4000, word and char all", type=int, help="Symbols, with <eos> and <unk>.")
@_option("--min-count", default="auto", metavar="auto|N", help="Rarer words or characters are unknown.")
@_option("--normalization", default="none", type=_choice(settings.NORMALIZATIONS), help="Unicode normalization of the text.")
@_option("--lowercase", default=False, is_flag=True, help="Read all text in lower case.")
@_option("--cell", default=ModelConfig.cell, type=_choice(settings.CELLS), help="Recurrent cell.")
@_option("--input", default=ModelConfig.input, type=_choice(settings.INPUTS), help="What the first layer reads.")
@_option("--layers", default=_BY_KIND, type=int, help="Recurrent layers.")
@_option("--hidden", default=_BY_KIND, type=int, help="Units of a layer.")
@_option("--embedding", default=_BY_KIND, type=int, help="Size of a symbol's vector.")
@_option("--tied/--no-tied", default="tied, for an embedding", help="One matrix for input and output vectors.")
@_option("--residual/--no-residual", default="no-residual", help="Add a layer's input to its output.")
@_option("--dropout-input", default=_BY_KIND, type=float, help="Part of the input units left out in training.")
@_option("--dropout-hidden", default=_BY_KIND, type=float, help="The same between layers.")
@_option("--dropout-output", default=_BY_KIND, type=float, help="The same before the output.")
@_option(
    "--budget",
    default=DEFAULT_BUDGET,
    metavar="TIME",
    help="Train for 90s, 10m, 1h...; the schedule follows the clock.",
)
@_option("--epochs", default="-", type=int, help="Train for N passes over the text instead.")
@_option("--steps", default="-", type=int, help="Train for N windows instead.")
@_option("--batch-size", default=_BY_KIND, type=int, help="Streams side by side.")
@_option("--window", default=_BY_KIND, type=int, help="Steps of backpropagation.")
@_option("--optimizer", default=TrainConfig.optimizer, type=_choice(settings.OPTIMIZERS), help="How weights are updated.")
@_option("--lr", default=_BY_KIND, type=float, help="Peak learning rate.")
@_option("--momentum", default=TrainConfig.momentum, type=float, help="Of SGD and RMSprop; beta1 of Adam and AdamW.")
@_option("--weight-decay", default=TrainConfig.weight_decay, type=float, help="Pull of the weights towards zero.")
@_option("--clip", default=TrainConfig.clip, type=float, help="Largest norm of the gradient.")
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
def train_command(sources: tuple[str, ...], run: Path | None, resume: bool, **given: Any) -> None:
    """Train a model on SOURCE: a text file, a folder, the built-in corpus everyday, a table, or hf:OWNER/NAME.

    The best model by validation is kept in RUN/best; at the end it is evaluated once on the test split.
    """
    from lstmlm.cli.training_run import default_run, run_training
    from lstmlm.training import RunOptions, absolute_sources

    if run is None:
        run = default_run(sources)
    recorded = RunOptions.read(run) if resume and (run / "run.json").exists() else None
    if recorded is None and not sources:
        raise click.UsageError(
            f"expected a SOURCE to train on; {run} has no run to continue" if resume else "expected a SOURCE"
        )
    options = build_options(absolute_sources(sources), given, recorded)
    if run_training(run, options, resume=resume):
        say(f"\nNow type with it:  {program()} repl {run}")


def default_options(
    sources: tuple[str, ...],
    *,
    budget: float | None = None,
    kind: str = TokenizerConfig.kind,
    input: str = ModelConfig.input,
) -> RunOptions:
    """What `lstmlm train SOURCE` does with no option given."""
    from lstmlm.training import RunOptions

    return RunOptions(
        sources=sources,
        corpus=settings.CorpusConfig(),
        tokenizer=TokenizerConfig(kind=kind),
        model=settings.model_defaults(kind, input),
        training=settings.training_defaults(kind, budget or settings.parse_duration(DEFAULT_BUDGET)),
        runtime=settings.RuntimeConfig(),
    )


def build_options(sources: tuple[str, ...], given: dict[str, Any], recorded: RunOptions | None) -> RunOptions:
    """The options of a run: those of the `recorded` run, or the defaults, with everything `given` on top."""
    from lstmlm.training import RunOptions

    kind = given["tokenizer"] or (recorded.tokenizer.kind if recorded else TokenizerConfig.kind)
    base = recorded or default_options(sources, kind=kind, input=given["input"] or ModelConfig.input)
    training = base.training
    lengths = {
        "budget": None if given["budget"] is None else settings.parse_duration(given["budget"]),
        "epochs": given["epochs"],
        "steps": given["steps"],
    }
    if any(value is not None for value in lengths.values()):
        training = replace(training, **lengths)
    split = given["split"]
    return RunOptions(
        sources=sources or base.sources,
        corpus=updated(
            base.corpus,
            documents=given["documents"],
            split=None if split is None else parse_split(split),
            text_field=given["text_field"],
            encoding_errors=given["encoding_errors"],
        ),
        tokenizer=updated(
            base.tokenizer,
            kind=given["tokenizer"],
            vocabulary_size=given["vocab_size"],
            min_count=_parse_min_count(given["min_count"]),
            normalization=given["normalization"],
            lowercase=given["lowercase"],
        ),
        model=updated(
            base.model,
            cell=given["cell"],
            input=given["input"],
            num_layers=given["layers"],
            hidden_size=given["hidden"],
            embedding_size=given["embedding"],
            tied=given["tied"],
            residual=given["residual"],
            dropout_input=given["dropout_input"],
            dropout_hidden=given["dropout_hidden"],
            dropout_output=given["dropout_output"],
        ),
        training=updated(
            training,
            batch_size=given["batch_size"],
            window=given["window"],
            optimizer=given["optimizer"],
            learning_rate=given["lr"],
            momentum=given["momentum"],
            weight_decay=given["weight_decay"],
            clip=given["clip"],
            schedule=given["schedule"],
            warmup=given["warmup"],
            validate_every=given["validate_every"],
            patience=given["patience"],
            seed=given["seed"],
            checkpoint_every=given["checkpoint_every"],
        ),
        runtime=updated(base.runtime, device=given["device"], precision=given["precision"], threads=given["threads"]),
    )


def parse_split(text: str) -> tuple[int, ...]:
    """`90/5/5` as numbers."""
    from lstmlm.errors import UsageError

    try:
        return tuple(int(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"split is {text!r}; expected TRAIN/VALID/TEST, such as 90/5/5") from None


def _parse_min_count(text: str | None) -> int | None:
    from lstmlm.errors import UsageError

    if text is None or text == "auto":
        return None
    if not text.isdecimal():
        raise UsageError(f"min count is {text!r}; expected auto or a number")
    return int(text)
