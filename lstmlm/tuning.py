"""Finding the parameters of a model's memory on its validation text: cache, dynamic evaluation, weights of the mixtures.

In steps of events, as training: the caller draws them. Nothing of the test text is read.

N tokens of a text, T of a block, H hidden
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lstmlm.adaptation.cache import NeuralCache
from lstmlm.adaptation.directory import Adaptation
from lstmlm.adaptation.dynamic import DynamicEvaluation, measure_gradients
from lstmlm.adaptation.mixture import ROWS, Probabilities, fitted_weights, mixed
from lstmlm.adaptation.rows import Reading, Readings, parts_of, read_cache, read_dynamic, read_parts, read_static, remembered
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import CacheConfig, DynamicConfig
from lstmlm.corpus import open_corpus
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation import trained_on, trained_sha256
from lstmlm.ngram import train_ngram
from lstmlm.scoring import perplexity, score_segments
from lstmlm.token_store import Ids, read_segments

_TOKENS = 60_000
"""Of the validation text, for what is quick to try."""
_DYNAMIC_TOKENS = 10_000
"""The same for dynamic evaluation, which reads the text anew for every value that is tried."""
_SEGMENT = 20
_PLACES, _RUN = 40, 5
"""Where gradients are measured on the training text, and segments at each."""
_WINDOW, _RATE, _DECAY = 2_000, 1e-3, 5e-3
"""Where the search begins."""
_LEAST_GAIN = 2e-4
"""Of a perplexity, for the search to go on the same way."""


@dataclass(frozen=True)
class Doing:
    """What takes a moment now."""

    what: str


@dataclass(frozen=True)
class Tried:
    """A setting, and the perplexity per token that it gives to the part of the validation text that it is tuned on."""

    row: str
    setting: Mapping[str, float]
    perplexity: float


@dataclass(frozen=True)
class Tuned:
    """The end."""

    adaptation: Adaptation
    seconds: float


Event = Doing | Tried | Tuned


def tune(loaded: LoadedModel, *, order: int = 5) -> Iterator[Event]:
    """Find the parameters of all mixtures for a model, on the validation text it was trained beside.

    Raises:
        UsageError: the model does not know what it was trained on, or that does not exist any more.
        DataError: that text has changed, or cannot be read.
    """
    began = time.monotonic()
    yield Doing("reading")
    train, valid, sha256 = _texts(loaded)
    tokenizer, model = loaded.tokenizer, loaded.model
    yield Doing("counting n-grams")
    ngram = train_ngram(train, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=order)
    texts, short = _beginning(valid, _TOKENS), _beginning(valid, _DYNAMIC_TOKENS)
    yield Doing("scoring")
    model_N = np.exp(-score_segments(model, texts, eos=tokenizer.eos).nats_N)
    yield Tried("model", {"tokens": len(model_N)}, _perplexity(model_N))
    yield Doing("tuning the cache")
    cache = yield from _tune_cache(loaded, texts, model_N)
    yield Doing("measuring gradients")
    whole: Ids = np.concatenate(train)  # type: ignore[assignment]  # all of one type
    *_, rms = measure_gradients(model, whole, tokenizer.eos, segment=_SEGMENT, places=_PLACES, run=_RUN)
    yield Doing("tuning dynamic evaluation")
    short_N = np.exp(-score_segments(model, short, eos=tokenizer.eos).nats_N)
    yield (beginning := Tried("model", {"tokens": len(short_N)}, _perplexity(short_N)))
    dynamic = yield from _tune_dynamic(loaded, rms, short)
    tuned_on = {"split": "valid", "sha256": sha256, "tokens": len(model_N), "tokens_dynamic": sum(map(len, short))}
    found = Adaptation(cache, dynamic, rms, ngram, {}, tuned_on)
    yield Doing("weighing mixtures")
    weights = {}
    for dynamically, part in ((False, texts), (True, short)):
        if dynamically:
            yield beginning
        rows = [row for row in ROWS if row.dynamic == dynamically]
        readings: Readings = {"model": Reading(model_N, 0.0)} | read_parts(model, tokenizer.eos, found, part, rows)
        for row in rows:
            chosen = parts_of(row, readings)
            parts = {name: reading.probabilities_N for name, reading in chosen.items()}
            held_N = chosen["cache"].remembered_N if row.cache else 0
            weights[row.name] = fitted_weights(parts, held_N)
            yield Tried(row.name, weights[row.name], _perplexity(mixed(parts, weights[row.name], held_N)))
    yield Tuned(replace(found, weights=weights), time.monotonic() - began)


def _texts(loaded: LoadedModel) -> tuple[list[Ids], list[Ids], str]:
    """Training and validation text in the model's tokens, which must be those of its training; the latter's SHA-256."""
    about = trained_on(loaded)
    if about is None:
        raise UsageError(f"{loaded.path} does not know what it was trained on; tune a model that lstmlm train has made")
    corpus = open_corpus(*about)
    found = {}
    for split in ("train", "valid"):
        found[split], counts = read_segments(loaded.tokenizer, corpus.files(split))
        if trained_sha256(loaded, split) not in (None, counts.sha256):
            raise DataError(f"the {split} text of {corpus.name} has changed since this model was trained; train another one")
    return found["train"], found["valid"], counts.sha256


def _beginning(texts: Sequence[Ids], tokens: int) -> list[Ids]:
    """The beginnings of some texts, so many tokens in all, shared fairly."""
    found: list[Ids] = []
    for number, ids in enumerate(sorted(texts, key=len)):
        found.append(ids[: (tokens - sum(map(len, found))) // (len(texts) - number)])
    return [ids for ids in found if len(ids)]


def _perplexity(probabilities_N: Probabilities) -> float:
    return perplexity(-float(np.log(probabilities_N).sum()), len(probabilities_N))


def _tune_cache(loaded: LoadedModel, texts: Sequence[Ids], model_N: Probabilities) -> Generator[Event, None, CacheConfig]:
    """The sharpness for a window of two thousand, then the window."""
    model = loaded.model
    blocks = [list(read_static(model, ids, loaded.tokenizer.eos)) for ids in texts]
    length = float(torch.cat([hidden_TH.square().sum(1) for text in blocks for hidden_TH, _ in text]).mean())

    def measure(window: int, sharpness: float) -> Tried:
        cache = NeuralCache(CacheConfig(window=window, sharpness=sharpness), model.config.vocabulary_size)
        cached = [part for text in blocks for part in read_cache(cache, text, model.config.hidden_size)]
        parts = {"model": model_N, "cache": np.concatenate(cached)}
        held_N = remembered(texts, window)
        found = _perplexity(mixed(parts, fitted_weights(parts, held_N), held_N))
        return Tried("cache", {"window": window, "sharpness": sharpness}, found)

    yield (first := measure(_WINDOW, 12 / length))
    best = yield from _best(first, 1.5, lambda value: measure(_WINDOW, value), "sharpness")
    sharpness = best.setting["sharpness"]
    best = yield from _best(best, 2.0, lambda value: measure(max(1, round(value)), sharpness), "window")
    return CacheConfig(window=round(best.setting["window"]), sharpness=sharpness)


def _tune_dynamic(
    loaded: LoadedModel, rms: Mapping[str, Tensor], texts: Sequence[Ids]
) -> Generator[Event, None, DynamicConfig]:
    """The rate, then the pull back to the trained weights."""

    def measure(learning_rate: float, decay: float) -> Tried:
        config = DynamicConfig(segment=_SEGMENT, learning_rate=learning_rate, decay=decay)
        dynamic = DynamicEvaluation(loaded.model, config, rms)
        nats_N = torch.cat([nats_T for ids in texts for _, _, nats_T in read_dynamic(dynamic, ids, loaded.tokenizer.eos)])
        nats = float(nats_N.sum())
        found = math.inf if math.isnan(nats) else perplexity(nats, len(nats_N))
        return Tried("dynamic", {"learning_rate": learning_rate, "decay": decay}, found)

    yield (first := measure(_RATE, _DECAY))
    best = yield from _best(first, 2.0, lambda value: measure(value, _DECAY), "learning_rate")
    rate = best.setting["learning_rate"]
    best = yield from _best(best, 2.0, lambda value: measure(rate, value), "decay")
    return DynamicConfig(segment=_SEGMENT, learning_rate=rate, decay=best.setting["decay"])


def _best(first: Tried, factor: float, measure: Callable[[float], Tried], name: str) -> Generator[Event, None, Tried]:
    """The best of powers of a factor times the first setting, upwards or downwards as long as it gets better."""
    best = first
    for step in (factor, 1 / factor):
        while True:
            tried = measure(best.setting[name] * step)
            yield tried
            if not tried.perplexity < best.perplexity * (1 - _LEAST_GAIN):
                break
            best = tried
        if best is not first:
            break
    return best
