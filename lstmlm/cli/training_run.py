"""A training run as a person sees it: what is about to happen, how far it is, how good the model became."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.cli.console import data_console, errors_console, program, token_progress
from lstmlm.corpus import source_name
from lstmlm.errors import LstmlmError
from lstmlm.evaluation import evaluate, forgetting, held_out
from lstmlm.predictor import AnyModel
from lstmlm.report.formatting import visible
from lstmlm.report.terminal import evaluation_report
from lstmlm.report.training import counts_table, forgetting_report
from lstmlm.runtime import stop_on_signals
from lstmlm.scoring import perplexity
from lstmlm.training import RunOptions, train
from lstmlm.training.events import Ended, Event, Fitted, Prepared, RolledBack, Stepped, Tokenizing, Validated, Warned
from lstmlm.training.probing import Fit
from lstmlm.training.warm_start import load_start

if TYPE_CHECKING:
    from lstmlm.token_store import TokenStore


def default_run(sources: Sequence[str]) -> Path:
    """checkpoints/<source's name>"""
    return Path("checkpoints") / (source_name(sources) if sources else "run")


def run_training(run: Path, options: RunOptions, *, resume: bool = False) -> bool:
    """Train, showing progress on stderr; then the best model's report on the test split, on stdout.

    False where the run was finished before and there was nothing to do.
    """
    console = errors_console()
    ended = False
    with stop_on_signals() as stop, _Display(console) as display:
        for event in train(run, options, resume=resume, stop=stop):
            display.show(event)
            ended = ended or isinstance(event, Ended)
    if ended:
        report_best(run, console)
    return ended


def report_best(run: Path, console: Console) -> None:
    """The figures of the run's best model on text it has not seen."""
    loaded = load_model(run)
    result = report_held_out(loaded, console)
    options = RunOptions.from_mapping(loaded.training["options"], str(loaded.path))
    if options.start is not None:
        report_forgetting(run, options, loaded, result, console)


def report_held_out(loaded: AnyModel, console: Console) -> Mapping[str, Any]:
    """Print, and return, the figures of a model on the text that was kept from it."""
    corpus, split, expected = held_out(loaded)
    console.print(visible(f"\n{loaded.path} on the {split} split:"))
    with token_progress(f"scoring {split}") as progress:
        result = evaluate(loaded, corpus, split, progress=progress, expected_sha256=expected)
    data_console().print(evaluation_report(result))
    return result


def report_forgetting(
    run: Path, options: RunOptions, loaded: LoadedModel, measured: Mapping[str, Any], console: Console
) -> None:
    """The figures of a warm-started run, before and after. The model is trained: what is missing here is only a note."""
    try:
        start = load_start(options)
    except (LstmlmError, OSError) as error:
        reasons = [str(error)]
    else:
        with token_progress("scoring before and after") as progress:
            found = forgetting(start, loaded, measured=measured, progress=progress)
        if found["texts"]:
            console.print("\nBefore and after this training:")
            data_console().print(forgetting_report(found))
        reasons = [text["reason"] for text in found["missing"]]
    for reason in reasons:
        by_hand = f"{program()} eval {run} OLDTEXT"
        console.print(visible(f"note: what was forgotten could not be measured: {reason}; by hand: {by_hand}"))


class _Display:
    """Events on stderr: a live line on a terminal, one line for each validation elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bytes_per_token, self._valid_tokens, self._scored = math.nan, 0, 0
        self._fit: Fit | None = None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("reading", total=None, figures="")

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Draw one event."""
        if isinstance(event, Tokenizing):
            figures = f"{event.tokens:,} tokens"
            self._progress.update(self._task, description=f"tokenizing {event.split}", figures=figures)
        elif isinstance(event, Fitted):
            self._fit = event.fit
        elif isinstance(event, Prepared):
            self._header(event)
            self._progress.update(self._task, description="training", total=1.0, figures="")
        elif isinstance(event, Stepped):
            speed = f"{event.tokens_per_second:,.0f} tokens/s"
            kind = "sampled loss" if event.sampled else f"perplexity {perplexity(event.loss, 1):,.1f}  loss"
            figures = f"{kind} {event.loss:.3f}  {speed}"
            self._progress.update(self._task, completed=event.done, figures=figures)
        elif isinstance(event, Validated):
            self._console.print(self._validation(event))
        elif isinstance(event, Warned):
            self._console.print(visible(f"note: {event.message}"))
        elif isinstance(event, RolledBack):
            self._console.print(visible(f"back at step {event.step} with half the learning rate: {event.symptom}"))
        elif isinstance(event, Ended):
            reason = "no more progress" if event.early else "done"
            self._console.print(
                f"{reason} after {event.seconds:,.0f} s, {event.step:,} steps; best at step {event.best_step:,}, "
                f"perplexity {perplexity(event.loss, 1):,.2f} per token"
            )

    def _choice(self, fit: Fit) -> None:
        """What was chosen and why, and what it will take."""
        for number, reason in enumerate(fit.reasons):
            self._console.print(f"{'' if number else 'fitted':<11}{reason}")
        forecast = fit.forecast
        length = f"{forecast.epochs:,.1f} passes over the text, at {forecast.tokens_per_second:,.0f} tokens/s"
        length += f", in {forecast.seconds:,.0f} s" if forecast.seconds else ""
        self._console.print(f"forecast   {length}; {forecast.memory_bytes / 1e9:.2g} GB of memory")

    def _header(self, event: Prepared) -> None:
        config, batches = event.model.config, event.batches
        self._console.print(counts_table({split: _counts(store) for split, store in event.stores.items()}))
        valid = event.stores["valid"]
        self._valid_tokens = valid.tokens.tokens
        self._bytes_per_token = valid.text.bytes / valid.tokens.tokens
        unknown = "".join(
            f", {store.tokens.tokens_unknown / store.tokens.tokens:.2%} unknown in {split}"
            for split, store in event.stores.items()
            if store.tokens.tokens_unknown
        )
        self._console.print(f"tokenizer  {event.tokenizer.kind}, {event.tokenizer.vocabulary_size:,} symbols{unknown}")
        shape = f"{config.num_layers} x {config.hidden_size} {config.cell}, {config.input}"
        shape += f" {config.embedding_size}" if config.input == "embedding" else ""
        shape += ", tied" if config.tied else ""
        shape += f", traces {' '.join(map(str, config.traces))}" if config.traces else ""
        self._console.print(f"model      {shape}: {event.model.num_parameters:,} parameters")
        if event.start is not None:
            self._console.print(visible(f"from       {event.start}"))
        if self._fit is not None:
            self._choice(self._fit)
        length = f"{event.total_steps:,} steps" if event.total_steps else "by the clock"
        self._console.print(
            f"training   {length}, {batches.windows_per_epoch:,} an epoch, of {batches.batch_size} x {batches.window} "
            f"tokens; {event.runtime.device.type}, {event.runtime.precision} ({event.runtime.reason})"
        )
        if event.resumed_at is not None:
            self._console.print(f"continuing from step {event.resumed_at:,}")
        self._console.print(visible(f"run        {event.run}"))

    def _validation(self, event: Validated) -> str:
        """A row, below the names of its columns where it is the first of so many tokens."""
        bits, mark = event.loss / math.log(2) / self._bytes_per_token, "  best" if event.best else ""
        row = (
            f"{event.done:5.0%}{event.seconds:10.1f}{event.epoch:7}{event.step:10,}{event.loss:9.4f}"
            f"{perplexity(event.loss, 1):12,.2f}{bits:11.4f}{mark}"
        )
        if event.scored == self._scored:
            return row
        self._scored = event.scored
        part = "all" if event.scored == self._valid_tokens else f"the first {event.scored:,}"
        names = f"{'':>5}{'seconds':>10}{'epoch':>7}{'step':>10}{'loss':>9}{'perplexity':>12}{'bits/byte':>11}"
        return f"validation on {part} of {self._valid_tokens:,} tokens:\n{names}\n{row}"


def _counts(store: TokenStore) -> dict[str, int]:
    text = store.text
    return {
        "tokens": store.tokens.tokens,
        "tokens_unknown": store.tokens.tokens_unknown,
        "bytes": text.bytes,
        "words": text.words,
        "lines": text.lines,
        "documents": text.documents,
    }
