"""The trainer: contiguous streams with carried state, truncated backpropagation, everything saved.

A run is a function of its options, its text and the machine's arithmetic: batches of (seed, epoch, step), dropout masks
of (seed, step), all else stands in the checkpoint. A run that was killed and continued therefore ends bit-equal to one
that was not, and `metrics.jsonl` holds only events that do not depend on when it was killed.

T time, B batch (streams), V vocabulary, H hidden, L layers, N tokens of a window
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from lstmlm.batches import UNSCORED, Batches
from lstmlm.checkpoint import find_best, model_files, newest_valid, save_step
from lstmlm.config import parse_interval
from lstmlm.errors import DivergedError, StoppedError, StorageError
from lstmlm.model import LanguageModel
from lstmlm.runtime import Runtime, StopRequest
from lstmlm.scoring import score_segments
from lstmlm.storage import EventLog, to_json, write_atomic
from lstmlm.training.events import Ended, Event, Prepared, RolledBack, Saved, Stepped, Validated, Warned
from lstmlm.training.optimization import build_optimizer, learning_rate
from lstmlm.training.options import RunOptions
from lstmlm.training.preparation import Material
from lstmlm.training.standing import Standing, diagnostics, pack_training, restore_training

_Logged = TypeVar("_Logged", Stepped, Validated, RolledBack, Ended)

REPORT_EVERY = 20
"""Steps between two `step` events."""
VALIDATIONS = 20
"""Validations of a time budget, about; steps and epochs are validated every epoch, but at most 50 times."""
MOST_SKIPPED = 3
"""Updates in a row that are left out before the run goes back to its last checkpoint."""
_ABSURD_LOSS = 10.0
"""A loss this many times that of a uniform guess counts as not finite: training that works never gets there."""


class Trainer:
    """A run in progress: model, optimizer, streams, and where it stands."""

    def __init__(self, run: Path, options: RunOptions, material: Material, runtime: Runtime, stop: StopRequest) -> None:
        self.run, self.options, self.material, self.stop = run, options, material, stop
        self.config = options.training
        self.runtime = runtime
        self.model = LanguageModel(options.model).to(runtime.device)
        store = material.stores["train"]
        self.unigram_counts_V = torch.from_numpy(store.count_symbols(options.model.vocabulary_size))
        self.batches = Batches(
            store.ids,
            batch_size=self.config.batch_size,
            window=self.config.window,
            eos=material.tokenizer.eos,
            seed=self.config.seed,
        )
        per_epoch = self.batches.windows_per_epoch
        self.total_steps = self.config.steps or (self.config.epochs or 0) * per_epoch or None
        self.validate_every = self.config.validate_every
        if self.total_steps and not self.validate_every:
            self.validate_every = per_epoch * math.ceil(self.total_steps / (50 * per_epoch))
        self.checkpoint_steps, self.checkpoint_seconds = parse_interval(self.config.checkpoint_every)
        self.saved_step = -1
        self._start_afresh()

    def _start_afresh(self) -> None:
        self.model.reset_parameters(self.config.seed, self.unigram_counts_V)
        self.optimizer = build_optimizer(self.model, self.config)
        self.state = self.model.initial_state(self.batches.batch_size)
        self.standing = Standing()

    def restore(self, checkpoint: Path) -> None:
        """Stand where `checkpoint` was made."""
        self.optimizer = build_optimizer(self.model, self.config)
        self.standing, self.state = restore_training(checkpoint, self.model, self.optimizer)
        self.saved_step = self.standing.step
        if not find_best(self.run, self.standing.best_step):
            self.standing.best_loss = None  # that model was damaged or lost: the next validation counts as better

    def open_metrics(self) -> EventLog:
        """Open `metrics.jsonl`, as long as it was at the checkpoint."""
        self.metrics = EventLog(self.run / "metrics.jsonl", self.standing.metrics_bytes)
        return self.metrics

    def prepared(self, *, resumed: bool) -> Prepared:
        return Prepared(
            run=self.run,
            stores=self.material.stores,
            overlaps=self.material.overlaps,
            tokenizer=self.material.tokenizer,
            model=self.model,
            runtime=self.runtime,
            total_steps=self.total_steps,
            batches=self.batches,
            resumed_at=self.standing.step if resumed else None,
        )

    # -- the course of the run ----------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Event]:
        """Step, report, validate, save, until the run is complete."""
        self._started = time.monotonic() - self.standing.seconds
        self._saved_seconds = self.standing.seconds
        self._step_seconds = 0.0
        finished = False
        while not finished:
            if self.stop.signal_number is not None:
                yield from self._save_and_stop(self.stop.signal_number)
            before = time.monotonic()
            loss, norm, rate = self._step()
            self._step_seconds += time.monotonic() - before
            self._tick()
            if self.standing.skipped > MOST_SKIPPED:
                yield self._roll_back(f"loss {loss:.4g}, gradient norm {norm:.4g} at step {self.standing.step}")
                continue
            if self.standing.step % REPORT_EVERY == 0 and self.standing.pending_tokens:
                yield self._log(self._report(norm, rate))
            finished = self._done() >= 1.0
            improved = early = False
            if finished or self._validation_due():
                try:
                    validated = self._validate()
                except DivergedError as error:
                    yield self._roll_back(str(error))
                    finished = False
                    continue
                yield self._log(validated)
                improved = validated.best
                early = not finished and 0 < self.config.patience <= self.standing.worse_validations
                finished = finished or early
            if finished:
                yield from self._finish(improved, early)
            else:
                yield from self._save_if_due(improved)

    def _done(self) -> float:
        """The part of the run that lies behind, 0 to 1. A time budget leaves room for the last validation."""
        if self.total_steps:
            return self.standing.step / self.total_steps
        budget = self.config.budget or math.inf
        return min(1.0, self.standing.seconds / max(budget - self.standing.validation_cost, 0.5 * budget))

    def _tick(self) -> None:
        self.standing.seconds = time.monotonic() - self._started

    def _step(self) -> tuple[float, float, float]:
        """One window forward and backward; returns loss (nats per token), gradient norm and learning rate."""
        standing, device = self.standing, self.runtime.device
        window = self.batches.at(standing.step)
        if window.starts_epoch:
            self.state = self.model.initial_state(self.batches.batch_size)
        rate = learning_rate(self.config, self._done()) * standing.learning_rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_dropout_seed(self.config.seed, standing.step))
        self.model.train()
        targets_N = window.targets_TB.flatten().to(device)
        with self.runtime.step_precision():
            hidden_TBH, state = self.model(window.inputs_TB.to(device), self.state)
            hidden_NH = hidden_TBH.flatten(0, 1)
            if window.starts_epoch:
                scored_N = targets_N != UNSCORED
                hidden_NH, targets_N = hidden_NH[scored_N], targets_N[scored_N]
            loss = self.model.loss(hidden_NH, targets_N)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        nats = float(loss.detach())
        standing.step += 1
        standing.tokens += window.targets_TB.numel()
        if math.isfinite(nats + norm) and nats < _ABSURD_LOSS * math.log(self.model.config.vocabulary_size):
            self.optimizer.step()
            self.state = tuple(part_LBH.detach() for part_LBH in state)
            standing.pending_nats += nats * len(targets_N)
            standing.pending_tokens += len(targets_N)
            standing.skipped = 0
        else:
            standing.skipped += 1
        return nats, norm, rate

    def _where(self) -> dict[str, Any]:
        standing = self.standing
        return {
            "step": standing.step,
            "epoch": standing.step // self.batches.windows_per_epoch,
            "tokens": standing.tokens,
            "seconds": standing.seconds,
            "done": self._done(),
        }

    def _report(self, norm: float, rate: float) -> Stepped:
        standing = self.standing
        report = Stepped(
            **self._where(),
            loss=standing.pending_nats / standing.pending_tokens,
            learning_rate=rate,
            tokens_per_second=standing.pending_tokens / max(self._step_seconds, 1e-9),
            gradient_norm=norm,
        )
        standing.pending_nats, standing.pending_tokens, self._step_seconds = 0.0, 0, 0.0
        return report

    def _log(self, event: _Logged) -> _Logged:
        self.metrics.append(event.record())
        return event

    # -- validation ---------------------------------------------------------------------------------------------------

    def _validation_due(self) -> bool:
        standing = self.standing
        if self.validate_every:
            return standing.step % self.validate_every == 0
        budget = self.config.budget or 0.0
        wait = max(budget / VALIDATIONS, 10 * standing.validation_cost)  # at most a tenth of the time
        return standing.seconds - standing.validated_seconds >= wait and budget - standing.seconds > wait / 2

    def _validate(self) -> Validated:
        """Score the whole validation split exactly, as `lstmlm eval` does."""
        standing, before = self.standing, time.monotonic()
        store = self.material.stores["valid"]
        scores = score_segments(self.model, store.files, eos=self.material.tokenizer.eos)
        loss = scores.nll_nats / len(store.ids)
        better = standing.best_loss is None or loss < standing.best_loss
        if better:
            standing.best_loss, standing.best_step, standing.worse_validations = loss, standing.step, 0
        else:
            standing.worse_validations += 1
        self._tick()
        standing.validated_seconds, standing.validation_cost = standing.seconds, time.monotonic() - before
        return Validated(**self._where(), loss=loss, best=better)

    # -- saving -------------------------------------------------------------------------------------------------------

    def _save_if_due(self, improved: bool) -> Iterator[Event]:
        standing = self.standing
        scheduled = self.checkpoint_steps is not None and standing.step % self.checkpoint_steps == 0
        by_clock = self.checkpoint_seconds is not None and standing.seconds - self._saved_seconds >= self.checkpoint_seconds
        if not (improved or scheduled or by_clock):
            return
        if not self._weights_are_finite():
            yield self._roll_back(f"weights are not finite at step {standing.step}")
            return
        if scheduled:  # only what does not depend on the clock goes into the metrics
            self.metrics.append(Saved(**self._where(), path=self.run).record())
        try:
            yield self._save(best=improved)
        except StorageError as error:
            if improved:
                standing.best_loss = None  # that model is not on the disk: the next validation counts as better
            yield Warned(f"a checkpoint could not be saved and the next one will be tried: {error}")
        self._saved_seconds = standing.seconds

    def _save(self, *, best: bool) -> Saved:
        standing = self.standing
        standing.metrics_bytes = self.metrics.sync()
        self._tick()
        about = {
            "options": self.options.to_mapping(),
            "text_sha256": {split: store.text.sha256 for split, store in self.material.stores.items()},
            "precision": self.runtime.precision,
            "step": standing.step,
            "tokens": standing.tokens,
            "validation_loss": standing.best_loss if best else None,
        }
        documents = self.material.corpus.config.documents or "file"
        files = model_files(self.model, self.material.tokenizer, documents=documents, training=about)
        files |= pack_training(standing, self.optimizer, self.state)
        path = save_step(self.run, standing.step, files, best=best)
        self.saved_step = standing.step
        return Saved(**self._where(), path=path)

    def _save_and_stop(self, signal_number: int) -> Iterator[Event]:
        if self.standing.step not in (0, self.saved_step):
            yield self._save(best=False)
        step = self.standing.step
        where = f"stopped at step {step:,}, saved" if step else "stopped before the first step"
        raise StoppedError(f"{where}; to continue: lstmlm train -o {self.run} --resume", signal_number)

    def _finish(self, improved: bool, early: bool) -> Iterator[Event]:
        standing = self.standing
        assert standing.best_loss is not None, "a run ends with a validation"
        ended = Ended(**self._where(), loss=standing.best_loss, best_step=standing.best_step, early=early)
        self._log(ended)
        standing.finished = True
        yield self._save(best=improved)
        yield ended

    # -- numbers that are not finite ----------------------------------------------------------------------------------

    def _weights_are_finite(self) -> bool:
        return all(bool(weight.isfinite().all()) for weight in self.model.parameters())

    def _roll_back(self, symptom: str) -> RolledBack:
        """Go back to the last checkpoint, or the beginning, with half the learning rate; the second time, give up."""
        if self.standing.rolled_back:
            path = self.run / "diagnostics.json"
            write_atomic(path, to_json(diagnostics(symptom, self.standing, self.model, self.config)))
            raise DivergedError(
                f"training diverged ({symptom}), with half the learning rate too; see {path}, use a smaller --lr"
            )
        checkpoint, _ = newest_valid(self.run)
        if checkpoint is not None:
            self.restore(checkpoint)
        else:
            self._start_afresh()
        self.metrics.close()
        self.open_metrics()
        standing = self.standing
        standing.rolled_back, standing.skipped = True, 0
        standing.learning_rate_scale *= 0.5
        self._tick()
        return self._log(RolledBack(**self._where(), symptom=symptom, learning_rate_scale=standing.learning_rate_scale))


def _dropout_seed(seed: int, step: int) -> int:
    """The random state of a step, so that it need not be saved."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
