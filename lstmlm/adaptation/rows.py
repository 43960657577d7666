"""Whole texts under the rows of a report (`mixture.ROWS`): every part reads a text once, and rows mix what the parts say.

T tokens of a block, N tokens of a text, F features, H hidden
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lstmlm.adaptation.cache import NeuralCache
from lstmlm.adaptation.directory import Adaptation
from lstmlm.adaptation.dynamic import DynamicEvaluation, segments
from lstmlm.adaptation.mixture import Probabilities, Remembered, Row, mixed
from lstmlm.config import to_mapping
from lstmlm.errors import DivergedError
from lstmlm.model import LanguageModel
from lstmlm.runtime import one_thread
from lstmlm.token_store import Ids

_Block = TypeVar("_Block", bound="tuple[Tensor, ...]")
_BLOCK = 256
"""Tokens that look into the cache in one product."""
_DYNAMIC_COST = 6
"""Readings that take as long as dynamic evaluation (1 x 512, V = 33,278: 3,778 tokens/s and 656)."""
_MOST_NATS = 700.0
"""Beyond, a probability is 0 to a float64."""


@dataclass(frozen=True)
class Reading:
    """p of every token of a text, from one part, [N]; and the seconds it took."""

    probabilities_N: Probabilities
    seconds: float
    remembered_N: Remembered = 0
    """How many tokens a cache held before each."""


Readings = dict[str, Reading]
"""By part: `model`, `cache`, `ngram`; under dynamic evaluation `dynamic` and `cache of dynamic`."""


def read_parts(
    model: LanguageModel,
    eos: int,
    adaptation: Adaptation,
    texts: Sequence[Ids],
    rows: Sequence[Row],
    progress: Callable[[int], None] = lambda done: None,
) -> Readings:
    """What the parts of `rows` but the model itself say of some texts, each from a state, memory and weights of its own.

    `progress` is called with the number of tokens read, which in the end are those of all `passes`.

    Raises:
        DivergedError: dynamic evaluation made a token impossible.
    """
    found: Readings = {}
    counter = _Counter(progress)
    if any(row.cache and not row.dynamic for row in rows):
        began = time.monotonic()
        cache = NeuralCache(adaptation.cache, model.config.vocabulary_size)
        parts = [
            part
            for ids in texts
            for part in read_cache(cache, counter.watch(read_static(model, ids, eos)), model.config.hidden_size)
        ]
        found["cache"] = Reading(_joined(parts), time.monotonic() - began, remembered(texts, adaptation.cache.window))
    if any(row.dynamic for row in rows):
        found |= _read_dynamic(model, eos, adaptation, texts, any(row.cache and row.dynamic for row in rows), counter)
    if any(row.ngram for row in rows):
        began = time.monotonic()
        assert adaptation.ngram is not None, "tuned"
        nats = [adaptation.ngram.score(ids) for ids in texts]
        found["ngram"] = Reading(np.exp(-_joined(nats)), time.monotonic() - began)
    return found


def passes(rows: Sequence[Row]) -> int:
    """How long `read_parts` takes, in readings of the texts with the model."""
    return any(row.cache and not row.dynamic for row in rows) + _DYNAMIC_COST * any(row.dynamic for row in rows)


def _read_dynamic(
    model: LanguageModel, eos: int, adaptation: Adaptation, texts: Sequence[Ids], cached: bool, counter: _Counter
) -> Readings:
    assert adaptation.dynamic is not None, "tuned"
    dynamic = DynamicEvaluation(model, adaptation.dynamic, adaptation.gradient_rms)
    cache = NeuralCache(adaptation.cache, model.config.vocabulary_size)
    began, in_cache = time.monotonic(), 0.0
    nats: list[Probabilities] = []
    found_in_cache: list[Probabilities] = []
    for ids in texts:
        memory = cache.empty(model.config.hidden_size)
        for hidden_TH, tokens_T, nats_T in counter.watch(read_dynamic(dynamic, ids, eos), _DYNAMIC_COST):
            if not bool((nats_T < _MOST_NATS).all()):  # also where it is nan
                raise DivergedError("dynamic evaluation diverged on this text; leave --dynamic away")
            nats.append(nats_T.numpy())
            if cached:
                before = time.monotonic()
                found_T, memory = cache.score(memory, hidden_TH, tokens_T)
                found_in_cache.append(found_T.numpy())
                in_cache += time.monotonic() - before
    found = {"dynamic": Reading(np.exp(-_joined(nats)), time.monotonic() - began - in_cache)}
    if cached:
        held_N = remembered(texts, adaptation.cache.window)
        found["cache of dynamic"] = Reading(_joined(found_in_cache), in_cache, held_N)
    return found


class _Counter:
    """Counts tokens as blocks pass."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._done = progress, 0

    def watch(self, blocks: Iterable[_Block], cost: int = 1) -> Iterator[_Block]:
        for block in blocks:
            yield block
            self._done += cost * len(block[0])
            self._progress(self._done)


def remembered(texts: Sequence[Ids], window: int) -> Remembered:
    """How many tokens a cache holds before each token of some texts, [N]."""
    return np.concatenate([np.empty(0, np.int64), *(np.minimum(np.arange(len(ids)), window) for ids in texts)])


def _joined(parts: Sequence[Probabilities]) -> Probabilities:
    return np.concatenate(parts) if parts else np.empty(0)


def parts_of(row: Row, readings: Readings) -> dict[str, Reading]:
    """What `row` mixes, under the names that its weights have."""
    own = {"model": "dynamic", "cache": "cache of dynamic"} if row.dynamic else {}
    return {part: readings[own.get(part, part)] for part in row.parts}


def mix_row(row: Row, readings: Readings, adaptation: Adaptation) -> Reading:
    """What a row gives to each token, and the seconds of all its parts."""
    parts = parts_of(row, readings)
    held_N = parts["cache"].remembered_N if row.cache else 0
    given = {name: part.probabilities_N for name, part in parts.items()}
    return Reading(mixed(given, adaptation.weights[row.name], held_N), sum(part.seconds for part in parts.values()))


def describe(row: Row, adaptation: Adaptation) -> dict[str, Any]:
    """All parameters that were tuned for a row."""
    about: dict[str, Any] = {}
    if row.cache:
        about["cache"] = to_mapping(adaptation.cache)
    if row.dynamic:
        about["dynamic"] = to_mapping(adaptation.dynamic)
    if row.ngram and adaptation.ngram is not None:
        about["ngram"] = {"order": adaptation.ngram.order}
    return about | {"weights": dict(adaptation.weights[row.name])}


@torch.inference_mode()
def read_static(model: LanguageModel, ids: Ids, eos: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states [T, H] and the tokens [T] predicted from them, block by block; no logits are made."""
    state = model.initial_state(1)
    for inputs_T, targets_T in segments(ids, eos, _BLOCK):
        with one_thread():
            features_TBF, state = model(inputs_T[:, None].to(model.device), state)
        yield features_TBF[:, 0, : model.config.hidden_size].float().cpu(), targets_T


@torch.inference_mode()
def read_cache(cache: NeuralCache, blocks: Iterable[tuple[Tensor, Tensor]], hidden_size: int) -> Iterator[Probabilities]:
    """What the cache gives to each token, block by block; nan to the first."""
    memory = cache.empty(hidden_size)
    for hidden_TH, tokens_T in blocks:
        found_T, memory = cache.score(memory, hidden_TH, tokens_T)
        yield found_T.numpy()


def read_dynamic(dynamic: DynamicEvaluation, ids: Ids, eos: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Hidden states [T, H], tokens [T] and their surprisals [T] under dynamic evaluation, in blocks."""
    hidden: list[Tensor] = []
    nats: list[Tensor] = []
    done = held = 0
    for learned in dynamic.read_text(ids, eos):
        hidden.append(learned.features_TF[:, : dynamic.hidden_size])
        nats.append(learned.nats_T)
        held += len(learned.nats_T)
        if held >= _BLOCK or done + held == len(ids):
            yield torch.cat(hidden), torch.from_numpy(ids[done : done + held].astype(np.int64)), torch.cat(nats)
            done, held, hidden, nats = done + held, 0, [], []
