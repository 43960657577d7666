"""The course of a run: begin one, or find where an earlier one stopped; prepare its material; let the trainer work."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from lstmlm.checkpoint import CONFIG, RUN_FILE, TRAINING_STATE, find_best, newest_valid, prune
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.runtime import StopRequest, choose_runtime, keep_freed_memory
from lstmlm.storage import TEMPORARY, clean_temporary, lock, make_directory, read_json, refuse_if_locked
from lstmlm.training.events import Event, Fitted, Warned
from lstmlm.training.options import RunOptions
from lstmlm.training.preparation import Material, prepare, write_run_file
from lstmlm.training.probing import fit
from lstmlm.training.trainer import Trainer
from lstmlm.training.warm_start import load_start, notes, refuse_contradiction, warm_started

_OUR_NAMES = ("lock", "tokens", "best", "metrics.jsonl", "diagnostics.json")
_OUR_PREFIXES = ("step-", "corrupt-", TEMPORARY)


def train(run: str | Path, options: RunOptions, *, resume: bool = False, stop: StopRequest | None = None) -> Iterator[Event]:
    """Train a model into the run directory `run`, yielding events; iterate to the end to let it happen.

    Raises:
        UsageError: `run` exists (and `resume` is false), or `resume` meets other options or another text; the model to
            start from does not exist, or has another tokenizer or shape than the options ask for.
        BusyError: another process trains into `run`.
        ArtefactError: `run` has checkpoints, of which none is whole; the model to start from is damaged.
        DivergedError: numbers left the finite range, with half the learning rate too.
        StoppedError: `stop` was requested; a checkpoint was saved.
        StorageError: the run directory cannot be made, or the last checkpoint cannot be written.
    """
    run = Path(run)
    if run.exists() and not resume:
        refuse_if_locked(run)
        raise UsageError(f"{run} exists; continue it with --resume, or choose another directory with -o")
    fresh = not run.exists()
    if not (run / RUN_FILE).exists():
        _refuse_foreign(run)
        choose_runtime(options.runtime, options.model.cell)  # what this machine cannot do is said before anything is done
    make_directory(run)
    with lock(run) as sign, ExitStack() as stack:
        clean_temporary(run)
        clean_temporary(run / "tokens")
        if (run / RUN_FILE).exists():
            options = options.continuing(RunOptions.read(run))
        checkpoint = yield from _find_checkpoint(run, resume)
        if checkpoint is not None and _is_finished(run, checkpoint):
            yield Warned(f"{run} is finished, there is nothing left to do")
            return
        sign()
        try:
            yield from _course(run, options, checkpoint, stop or StopRequest(), stack)
        except Exception:
            if fresh and not (run / RUN_FILE).exists():  # training never began: the name stays free
                shutil.rmtree(run, ignore_errors=True)
            raise


def _refuse_foreign(run: Path) -> None:
    """Raise `UsageError` where `run` holds files of somebody else: temporary ones among them would be deleted.

    A run has its lock before it has anything else.
    """
    if run.is_dir():
        begun = (run / "lock").exists()
        for path in sorted(run.iterdir()):
            if not begun or (path.name not in _OUR_NAMES and not path.name.startswith(_OUR_PREFIXES)):
                raise UsageError(f"{run} is not a run: it holds {path.name}; choose another directory with -o")


def _find_checkpoint(run: Path, resume: bool) -> Generator[Warned, None, Path | None]:
    had_checkpoints = any(run.glob("*step-*"))  # also those set aside as damaged by an earlier attempt
    checkpoint, damaged = newest_valid(run)
    if checkpoint is None and had_checkpoints:
        names = ", ".join(sorted(path.name for path in run.glob("corrupt-*")))
        raise ArtefactError(f"{run} has no whole checkpoint, all are damaged ({names}); start a new run with -o")
    for path in damaged:
        yield Warned(f"a damaged checkpoint was set aside as {path}; continuing from {checkpoint}")
    if resume and checkpoint is None:
        yield Warned(f"{run} has no checkpoint yet; starting from the beginning")
    return checkpoint


def _is_finished(run: Path, checkpoint: Path) -> bool:
    standing = read_json(checkpoint / TRAINING_STATE)
    if standing.get("finished"):
        find_best(run, standing["best_step"])  # a kill may have come between the last save and what follows it
        prune(run)
    return bool(standing.get("finished"))


def _course(run: Path, options: RunOptions, checkpoint: Path | None, stop: StopRequest, stack: ExitStack) -> Iterator[Event]:
    """Prepare the material, make the steps."""
    start = None
    if checkpoint is not None:
        options = _as_checkpointed(run, options, checkpoint)
    elif options.start is not None:
        start = load_start(options)
        refuse_contradiction(options, start)
        options = warm_started(options, start)
    runtime = choose_runtime(options.runtime, options.model.cell)
    keep_freed_memory()
    material = None
    for progress in prepare(run, options, checkpoint, stop, start.tokenizer if start else None):
        if isinstance(progress, Material):
            material = progress
        else:
            yield progress
    assert material is not None, "prepare ends with the material"
    warnings = [*notes(options, material), *material.warnings]
    options = replace(options, corpus=material.corpus.config, tokenizer=material.tokenizer.config)
    options = options.settled(material.tokenizer.vocabulary_size, runtime.device.type)
    spent, forecast = 0.0, None
    if options.fit:
        fitted = fit(options, material, runtime)
        options, spent, forecast = fitted.options, fitted.seconds, asdict(fitted.forecast)
        yield Fitted(fitted)
    trainer = Trainer(run, options, material, runtime, stop, spent=spent, start=start.model if start else None)
    if checkpoint is None:
        write_run_file(run, options, material, runtime.precision, forecast)
        trainer.start_afresh()
    else:
        trainer.restore(checkpoint)
    trainer.open_metrics()
    stack.callback(lambda: trainer.metrics.close())  # a rollback opens them anew
    yield from map(Warned, warnings)
    yield trainer.prepared(resumed=checkpoint is not None)
    yield from trainer.steps()


def _as_checkpointed(run: Path, options: RunOptions, checkpoint: Path) -> RunOptions:
    """The options, which must be those of the (verified) checkpoint, with its precision.

    Raises:
        ArtefactError: `run.json` says something else than the checkpoint.
        UsageError: another precision was asked for, or this machine does not have the checkpoint's.
    """
    about, where = read_json(checkpoint / CONFIG)["training"], str(checkpoint / CONFIG)
    try:
        exactly = replace(options, start=None, start_sha256=None)  # a start would leave settings open
        exactly.continuing(RunOptions.from_mapping(about["options"], where))
    except UsageError as error:
        raise ArtefactError(f"{run / RUN_FILE} was altered: {error}") from error
    if options.runtime.precision not in ("auto", about["precision"]):
        raise UsageError(f"this run was started with precision {about['precision']}, not {options.runtime.precision}")
    return replace(options, runtime=replace(options.runtime, precision=about["precision"]))
