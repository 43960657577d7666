"""The trainer: contiguous streams with carried state, truncated backpropagation, everything saved.

A run is a function of its options, its text and the machine's arithmetic: batches of (seed, epoch, step), dropout masks
of (seed, step), all else stands in the checkpoint. A run that was killed and continued therefore ends bit-equal to one
that was not, and `metrics.jsonl` holds only events that do not depend on when it was killed.

V vocabulary
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from lstmlm.batches import Batches
from lstmlm.checkpoint import find_best, load_model, model_files, newest_valid, save_step
from lstmlm.durations import parse_interval
from lstmlm.errors import DivergedError, StoppedError, StorageError
from lstmlm.model import LanguageModel
from lstmlm.runtime import Runtime, StopRequest
from lstmlm.storage import EventLog, to_json, write_atomic
from lstmlm.training.events import Ended, Event, Prepared, Progressed, RolledBack, Saved, Stepped, Validated, Warned
from lstmlm.training.learner import Learner, Update
from lstmlm.training.optimization import learning_rate, momentum
from lstmlm.training.options import RunOptions
from lstmlm.training.preparation import Material
from lstmlm.training.spectral import spectral_vectors
from lstmlm.training.standing import Standing, diagnostics, pack_training, restore_training
from lstmlm.training.validation import Validator
from lstmlm.training.warm_start import load_start

_Logged = TypeVar("_Logged", Stepped, Validated, RolledBack, Ended)

REPORT_EVERY = 20
"""Steps between two `step` events."""
MOST_SKIPPED = 3
"""Updates in a row that are left out before the run goes back to its last checkpoint."""


class Trainer:
    """A run in progress: model, optimizer, streams, and where it stands."""

    def __init__(
        self,
        run: Path,
        options: RunOptions,
        material: Material,
        runtime: Runtime,
        stop: StopRequest,
        *,
        spent: float = 0.0,
        start: LanguageModel | None = None,
    ) -> None:
        """`spent` are the seconds of a time budget that are used already; `start` has the weights to begin with."""
        self.run, self.options, self.material, self.stop = run, options, material, stop
        self._spent = spent
        self.config = options.training
        self.runtime = runtime
        self.model = LanguageModel(options.model).to(runtime.device)
        store = material.stores["train"]
        counts_V = torch.from_numpy(store.count_symbols(options.model.vocabulary_size))
        self.validator = Validator(material.stores["valid"], material.tokenizer.eos)
        self.learner = Learner(self.model, self.config, counts_V, runtime, start)
        self.batches = Batches(
            store.ids,
            batch_size=self.config.batch_size,
            window=self.config.window,
            eos=material.tokenizer.eos,
            seed=self.config.seed,
            vary_window=self.config.vary_window,
        )
        per_epoch = self.batches.windows_per_epoch
        self.total_steps = self.config.steps or (self.config.epochs or 0) * per_epoch or None
        self.validate_every = self.config.validate_every
        if self.total_steps and not self.validate_every:
            self.validate_every = per_epoch * math.ceil(self.total_steps / (50 * per_epoch))
        self.checkpoint_steps, self.checkpoint_seconds = parse_interval(self.config.checkpoint_every)
        self.saved_step = -1
        self._last = Update(nats=math.nan, tokens=1, gradient_norm=math.nan, made=False)  # of a continued run not known

    def start_afresh(self) -> None:
        """Stand at the beginning. Vectors that are more than random take a part of the budget."""
        before, vectors_VE, model = time.monotonic(), None, self.options.model
        if self.config.embedding_init == "spectral":
            ids = self.material.stores["train"].ids
            vectors_VE = spectral_vectors(ids, model.vocabulary_size, model.embedding_size, self.config.seed)
        self.learner.start_afresh(self.batches.batch_size, vectors_VE)
        seconds = self._spent + time.monotonic() - before
        self.standing = Standing(seconds=seconds, fit_seconds=seconds, validated_seconds=seconds)

    def restore(self, checkpoint: Path) -> None:
        """Stand where `checkpoint` was made."""
        self.standing = restore_training(checkpoint, self.learner)
        self.saved_step = self.standing.step
        if not find_best(self.run, self.standing.best_step):
            self.standing.best_loss = None  # that model was damaged or lost: the next validation counts as better

    def open_metrics(self) -> EventLog:
        """Open `metrics.jsonl`, as long as it was at the checkpoint."""
        self.metrics = EventLog(self.run / "metrics.jsonl", self.standing.metrics_bytes)
        if self.options.start is not None and not self.standing.metrics_bytes:
            where = Progressed(**self._where()).record()
            start = {"model": self.options.start, "sha256": self.options.start_sha256}
            self.metrics.append({"event": "start", **where, **start})
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
            start=self.options.start,
        )

    # -- the course of the run ----------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Event]:
        """Step, report, validate, save, until the run is complete."""
        self._started = time.monotonic() - self.standing.seconds
        self._saved_seconds = self.standing.seconds
        self._step_seconds = 0.0
        if self.options.start is not None and self.saved_step < 0:  # training may make it worse: then it is the best
            yield self._log(self._validate())
            yield from self._save_if_due(improved=True)
        finished = False
        while not finished:
            if self.stop.signal_number is not None:
                yield from self._save_and_stop(self.stop.signal_number)
            before = time.monotonic()
            rate = self._step()
            self._step_seconds += time.monotonic() - before
            self._tick()
            if self.standing.skipped > MOST_SKIPPED:
                loss, norm = self._last.nats / self._last.tokens, self._last.gradient_norm
                yield self._roll_back(f"loss {loss:.4g}, gradient norm {norm:.4g} at step {self.standing.step}")
                continue
            if self.standing.step % REPORT_EVERY == 0 and self.standing.pending_tokens:
                yield self._log(self._report(self._last.gradient_norm, rate))
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
        """The part of the run that lies behind, 0 to 1. A time budget leaves room for the last validation.

        Of a budget so short that choosing the settings used it up, training takes another half.
        """
        if self.total_steps:
            return self.standing.step / self.total_steps
        standing, budget = self.standing, self.config.budget or math.inf
        scored = standing.validation_tokens or self.validator.total
        reserve = self.validator.reserve(scored, standing.validation_cost, self.config.budget)
        time_to_train = max(budget - standing.fit_seconds, 0.5 * budget)
        return min(1.0, (standing.seconds - standing.fit_seconds) / max(time_to_train - reserve, 0.5 * time_to_train))

    def _tick(self) -> None:
        self.standing.seconds = time.monotonic() - self._started

    def _step(self) -> float:
        """One update; returns its learning rate."""
        standing = self.standing
        window = self.batches.at(standing.step)
        done = self._done()
        rate = learning_rate(self.config, done) * standing.learning_rate_scale
        rate *= window.inputs_TB.shape[0] / self.batches.window if self.config.vary_window else 1.0
        self.learner.update(window, standing.step, rate=rate, momentum=momentum(self.config, done))
        standing.step += 1
        standing.tokens += window.targets_TB.numel()
        if not self.runtime.asynchronous or standing.step % REPORT_EVERY == 0:
            self._account()
        return rate

    def _account(self) -> None:
        """Take note of what came of the last updates; a GPU is asked only now and then, as asking means waiting for it."""
        standing = self.standing
        for update in self.learner.collect():
            self._last = update
            if update.made:
                standing.pending_nats += update.nats
                standing.pending_tokens += update.tokens
                standing.skipped = 0
            else:
                standing.skipped += 1

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
            sampled=bool(self.config.negatives),
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
        wait = self.validator.wait(budget, standing.validation_cost)
        return standing.seconds - standing.validated_seconds >= wait and budget - standing.seconds > wait / 2

    def _validate(self) -> Validated:
        standing, before = self.standing, time.monotonic()
        with self.learner.averaged():
            if not standing.validation_tokens:
                standing.validation_tokens = self.validator.affordable(self.model, self.config.budget)
                before = time.monotonic()
            loss = self.validator.score(self.model, standing.validation_tokens)
        better = standing.best_loss is None or loss < standing.best_loss
        if better:
            standing.best_loss, standing.best_step, standing.worse_validations = loss, standing.step, 0
        else:
            standing.worse_validations += 1
        self._tick()
        standing.validated_seconds, standing.validation_cost = standing.seconds, time.monotonic() - before
        return Validated(**self._where(), loss=loss, best=better, scored=standing.validation_tokens)

    def _final_loss(self) -> tuple[float, int]:
        """Nats per token of the best model, and over how many tokens: all of the split, where the budget affords it."""
        standing = self.standing
        assert standing.best_loss is not None, "a run ends with a validation"
        scored = standing.validation_tokens
        final = self.validator.final_tokens(scored, standing.validation_cost, self.config.budget)
        if final == scored:
            return standing.best_loss, scored
        if standing.best_step != standing.step:
            return self.validator.score(load_model(self.run, self.runtime.device).model, final), final
        with self.learner.averaged():
            return self.validator.score(self.model, final), final

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
        self._account()
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
            "validation_tokens": standing.validation_tokens if best else None,
        }
        documents = self.material.corpus.config.documents or "file"
        with self.learner.averaged():
            files = model_files(self.model, self.material.tokenizer, documents=documents, training=about)
        files |= pack_training(standing, self.learner)
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
        loss, scored = self._final_loss()
        self._tick()
        ended = Ended(**self._where(), loss=loss, scored=scored, best_step=standing.best_step, early=early)
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
            if self.options.start is not None and self.learner.start is None:  # continued, and its checkpoints lost since
                self.learner.start = load_start(self.options).model
            self.start_afresh()
        self.metrics.close()
        self.open_metrics()
        standing = self.standing
        standing.rolled_back, standing.skipped = True, 0
        standing.learning_rate_scale *= 0.5
        self._tick()
        return self._log(RolledBack(**self._where(), symptom=symptom, learning_rate_scale=standing.learning_rate_scale))
