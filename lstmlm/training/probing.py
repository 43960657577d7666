"""How much work the machine affords: speed and memory, measured on a few steps of the text itself.

With that, the rules of `fitting.py` choose the settings of a run, and its time and memory are forecast.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from dataclasses import dataclass, replace

import torch

from lstmlm.batches import Batches
from lstmlm.model import LanguageModel
from lstmlm.runtime import Runtime
from lstmlm.training.fitting import REFERENCE_SPEED, REFERENCE_WIDTH, REFERENCE_WORK, reasons, regularized, shaped
from lstmlm.training.learner import Learner
from lstmlm.training.options import RunOptions
from lstmlm.training.preparation import Material
from lstmlm.training.spectral import spectral_memory

_PROBE = 0.015
"""Part of the budget for each of the two measurements of speed, at most..."""
_LONGEST_PROBE = 2.0
"""...these seconds."""
_WARM_UP = 2
"""Steps that are not counted: the first ones choose kernels and fill the allocator."""
_CHECKPOINT_COPIES = 5
"""Memory of a checkpoint being written, in sizes of the weights: these and what the optimizer remembers, packed."""


@dataclass(frozen=True)
class Forecast:
    """What a fitted run will take."""

    epochs: float
    seconds: float | None
    """Of training; reading the text before it and the report after it come on top. `None` without a time budget."""
    tokens_per_second: float
    memory_bytes: int
    """The most that the process will hold."""


@dataclass(frozen=True)
class Fit:
    """Settings that were chosen, and why."""

    options: RunOptions
    reasons: tuple[str, ...]
    forecast: Forecast
    seconds: float
    """That choosing took: part of the budget."""


def fit(options: RunOptions, material: Material, runtime: Runtime) -> Fit:
    """Choose every setting in `options.fit`, and forecast the run; all else must be settled.

    A run given in steps or epochs is fitted as if on the machine of the measurements: the same command gives the same run
    everywhere.
    """
    started = time.monotonic()
    tokens, budget = len(material.stores["train"].ids), options.training.budget
    probe = 0.0 if budget is None else min(_LONGEST_PROBE, _PROBE * budget)
    reference = shaped(options, tokens, REFERENCE_WORK)
    if budget is None:
        work = _total_tokens(reference, tokens) / REFERENCE_SPEED
    else:
        reference = replace(reference, model=replace(reference.model, hidden_size=REFERENCE_WIDTH, num_layers=1))
        work = budget * measure_speed(reference, material, runtime, probe) / REFERENCE_SPEED
    options = shaped(options, tokens, work)
    speed = measure_speed(options, material, runtime, probe)
    epochs = (_total_tokens(options, tokens) if budget is None else budget * speed) / tokens
    options = replace(regularized(options, epochs), fit=frozenset())
    forecast = Forecast(epochs, budget, speed, peak_memory() + _memory_to_come(options, tokens))
    return Fit(options, tuple(reasons(options, epochs)), forecast, time.monotonic() - started)


def _total_tokens(options: RunOptions, tokens: int) -> float:
    training = options.training
    if training.steps is not None:
        return training.steps * min(tokens, training.batch_size * training.window)
    return (training.epochs or 0) * tokens


def _memory_to_come(options: RunOptions, tokens: int) -> int:
    """Bytes that a run takes besides what its steps do: for its first vectors, and later for its checkpoints."""
    model = options.model
    with torch.device("meta"):
        checkpoint = _CHECKPOINT_COPIES * 4 * LanguageModel(model).num_parameters
    if options.training.embedding_init != "spectral":
        return checkpoint
    return max(checkpoint, spectral_memory(tokens, model.vocabulary_size, model.embedding_size))


def measure_speed(options: RunOptions, material: Material, runtime: Runtime, seconds: float) -> float:
    """Tokens a second of a model of these (settled) options, trained for about `seconds` and thrown away.

    The median over the steps counts, so that a moment in which the machine was busy does not.
    """
    store, training = material.stores["train"], replace(options.training, averaging=0.0)
    model = LanguageModel(options.model).to(runtime.device)
    counts_V = torch.from_numpy(store.count_symbols(options.model.vocabulary_size))
    learner = Learner(model, training, counts_V, runtime)
    batches = Batches(
        store.ids, batch_size=training.batch_size, window=training.window, eos=material.tokenizer.eos, seed=training.seed
    )
    learner.start_afresh(batches.batch_size)
    times: list[float] = []
    end, step = time.monotonic() + seconds, 0
    while step < _WARM_UP + 3 or time.monotonic() < end:
        before = time.monotonic()
        learner.update(batches.at(step % batches.windows_per_epoch), step, rate=1e-4, momentum=training.momentum)
        learner.collect()
        times.append(time.monotonic() - before)
        step += 1
    return batches.batch_size * batches.window / statistics.median(times[_WARM_UP:])


def peak_memory() -> int:
    """The most memory this process ever held, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
