"""The course of a run: begin one, or find where an earlier one stopped; prepare its material; let the trainer work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from lstmlm.checkpoint import RUN_FILE, TRAINING_STATE, find_best, newest_valid, prune
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.runtime import StopRequest
from lstmlm.storage import clean_temporary, lock, make_directory, read_json, refuse_if_locked
from lstmlm.training.events import Event, Warned
from lstmlm.training.preparation import Material, RunOptions, prepare, write_run_file
from lstmlm.training.trainer import Trainer


def train(run: Path, options: RunOptions, *, resume: bool = False, stop: StopRequest | None = None) -> Iterator[Event]:
    """Train a model into the run directory `run`, yielding events; iterate to the end to let it happen.

    Raises:
        UsageError: `run` exists (and `resume` is false), or `resume` meets other options or another text.
        BusyError: another process trains into `run`.
        ArtefactError: `run` has checkpoints, of which none is whole.
        DivergedError: numbers left the finite range, with half the learning rate too.
        StoppedError: `stop` was requested; a checkpoint was saved.
        StorageError: the run directory cannot be made, or the last checkpoint cannot be written.
    """
    if run.exists() and not resume:
        refuse_if_locked(run)
        raise UsageError(f"{run} exists; continue it with --resume, or choose another directory with -o")
    fresh = not run.exists()
    make_directory(run)
    with lock(run), ExitStack() as stack:
        clean_temporary(run)
        clean_temporary(run / "tokens")
        if (run / RUN_FILE).exists():
            options = options.continuing(RunOptions.read(run))
        try:
            yield from _course(run, options, resume, stop or StopRequest(), stack)
        except Exception:
            if fresh and not (run / RUN_FILE).exists():  # training never began: the name stays free
                shutil.rmtree(run, ignore_errors=True)
            raise


def _course(run: Path, options: RunOptions, resume: bool, stop: StopRequest, stack: ExitStack) -> Iterator[Event]:
    """Find the checkpoint, prepare the material, make the steps."""
    had_checkpoints = any(run.glob("*step-*"))  # also those set aside as damaged by an earlier attempt
    checkpoint, damaged = newest_valid(run)
    if checkpoint is None and had_checkpoints:
        names = ", ".join(sorted(path.name for path in run.glob("corrupt-*")))
        raise ArtefactError(f"{run} has no whole checkpoint, all are damaged ({names}); start a new run with -o")
    for path in damaged:
        yield Warned(f"a damaged checkpoint was set aside as {path}; continuing from {checkpoint}")
    if resume and checkpoint is None:
        yield Warned(f"{run} has no checkpoint yet; starting from the beginning")
    standing = {} if checkpoint is None else read_json(checkpoint / TRAINING_STATE)
    if standing.get("finished"):
        find_best(run, standing["best_step"])  # a kill may have come between the last save and what follows it
        prune(run)
        yield Warned(f"{run} is finished, there is nothing left to do")
        return
    material = None
    for progress in prepare(run, options, checkpoint, stop):
        if isinstance(progress, Material):
            material = progress
        else:
            yield progress
    assert material is not None, "prepare ends with the material"
    trainer = Trainer(run, options, material, stop)
    if checkpoint is None:
        write_run_file(run, options, material, trainer.runtime.precision)
    else:
        trainer.restore(checkpoint)
    trainer.open_metrics()
    stack.callback(lambda: trainer.metrics.close())  # a rollback opens them anew
    yield from map(Warned, material.warnings)
    yield trainer.prepared(resumed=checkpoint is not None)
    yield from trainer.steps()
