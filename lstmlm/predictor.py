"""One interface over all that predicts the next token: a neural model, n-grams, and a model with memory.

A predictor reads a text token by token. Where it stands after some of it is a place: an immutable value of the predictor's
own, so that whoever holds one can go back to it, and go on from it in several ways at once. Going on is of two kinds: `read`
is for what the text really says, from which a model with memory learns; `ahead` is for what it might say.

B places, V vocabulary, F features
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmlm.adaptation import Adaptation, AdaptedModel, Standing, has_adaptation, load_adaptation
from lstmlm.adaptation.mixture import PARTS, ROWS
from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.config import CacheConfig
from lstmlm.errors import DivergedError, UsageError
from lstmlm.model import State, Stepper
from lstmlm.ngram import Context, LoadedNGram, is_ngram, load_ngram
from lstmlm.runtime import one_thread
from lstmlm.tokenizer import Tokenizer

AnyModel = LoadedModel | LoadedNGram
_PlaceT = TypeVar("_PlaceT")

_UNTUNED_SHARPNESS, _UNTUNED_SHARE = 0.3, 0.1
"""Of a cache whose parameters were not tuned for the model: typical of what `lstmlm tune` finds."""


class Predictor(Protocol[_PlaceT]):
    """What completion, generation and surprisal need of a model."""

    loaded: AnyModel
    tokenizer: Tokenizer
    start: _PlaceT
    """Before a text's first token."""
    learns: bool
    """Whether `read` leaves more behind than `ahead`."""
    kept: int
    """Places of a text that may be held without harm to memory."""

    def read(self, place: _PlaceT, ids: Sequence[int]) -> _PlaceT:
        """The place after more tokens of the text."""
        ...

    def ahead(self, places: Sequence[_PlaceT], tokens: Sequence[int]) -> list[_PlaceT]:
        """The place after one more token, for each of several that stem from one place of the text."""
        ...

    def distributions(self, places: Sequence[_PlaceT]) -> NDArray[np.float64]:
        """p(next token) of every token, [B, V]; each row sums to 1. The places stem from one of the text."""
        ...


@dataclass(frozen=True)
class NeuralPlace:
    """What a recurrent model remembers: the state of one text, and the features its next token is predicted from."""

    state: State
    features_F: Tensor


class NeuralPredictor:
    """A model as it was trained."""

    learns = False
    kept = 4_096

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded: AnyModel = loaded
        self.tokenizer = loaded.tokenizer
        self._model = loaded.model
        self._stepper = Stepper(loaded.model)
        self.start = self.read(NeuralPlace(loaded.model.initial_state(1), torch.empty(0)), [loaded.tokenizer.eos])

    @torch.inference_mode()
    def read(self, place: NeuralPlace, ids: Sequence[int]) -> NeuralPlace:
        with one_thread():
            features_TBF, after = self._model(torch.tensor(ids, device=self._model.device)[:, None], place.state)
        return NeuralPlace(after, features_TBF[-1, 0])

    @torch.inference_mode()
    def ahead(self, places: Sequence[NeuralPlace], tokens: Sequence[int]) -> list[NeuralPlace]:
        state = tuple(torch.cat(parts, 1) for parts in zip(*(place.state for place in places), strict=True))
        with one_thread():
            features_BF, after = self._stepper.step(torch.tensor(tokens, device=self._model.device), state)
        # Each its own memory: a place that is kept holds no others.
        return [
            NeuralPlace(tuple(part[:, row : row + 1].clone() for part in after), features_BF[row].clone())
            for row in range(len(places))
        ]

    @torch.inference_mode()
    def distributions(self, places: Sequence[NeuralPlace]) -> NDArray[np.float64]:
        with one_thread():
            logits_BV = self._stepper.logits(torch.stack([place.features_F for place in places])).cpu()
            if not bool(torch.isfinite(logits_BV).all()):
                raise DivergedError("the model has no finite probabilities here; train it again")
            found: NDArray[np.float64] = logits_BV.double().softmax(-1).numpy()
        return found


class NGramPredictor:
    """N-grams; a place is their context."""

    learns = False
    kept = 4_096

    def __init__(self, loaded: LoadedNGram) -> None:
        self.loaded: AnyModel = loaded
        self.tokenizer = loaded.tokenizer
        self._model = loaded.model
        self.start = loaded.model.start

    def read(self, place: Context, ids: Sequence[int]) -> Context:
        for token in ids:
            place = self._model.advance(place, token)
        return place

    def ahead(self, places: Sequence[Context], tokens: Sequence[int]) -> list[Context]:
        return [self._model.advance(place, token) for place, token in zip(places, tokens, strict=True)]

    def distributions(self, places: Sequence[Context]) -> NDArray[np.float64]:
        return np.stack([self._model.probabilities(place) for place in places])


class AdaptedPredictor:
    """A model with memory. What is looked ahead at is not remembered: memory and weights stay those of the text."""

    learns = True

    def __init__(self, adapted: AdaptedModel) -> None:
        self.loaded: AnyModel = adapted.loaded
        self.tokenizer = adapted.loaded.tokenizer
        self.start = adapted.start
        self._adapted = adapted
        self.kept = 32 if adapted.row.dynamic else 512  # every other place may hold weights of its own

    def read(self, place: Standing, ids: Sequence[int]) -> Standing:
        for token in ids:
            place = self._adapted.feed(place, token)
        return place

    def ahead(self, places: Sequence[Standing], tokens: Sequence[int]) -> list[Standing]:
        return self._adapted.ahead(places, tokens)

    def distributions(self, places: Sequence[Standing]) -> NDArray[np.float64]:
        return self._adapted.distributions(places)


def load_any(path: str | Path) -> AnyModel:
    """A neural model or n-grams, whichever the directory holds."""
    return load_ngram(path) if is_ngram(path) else load_model(path)


def open_predictor(loaded: AnyModel, parts: Collection[str] = ()) -> Predictor[Any]:
    """A model, or its mixture with some of `cache`, `dynamic` and `ngram`, as `lstmlm tune` fitted it.

    Raises:
        UsageError: an unknown part, n-grams that should adapt, or a model that was not tuned.
    """
    unknown = set(parts) - set(PARTS)
    if isinstance(parts, str) or unknown:
        raise UsageError(f"what adapts is {parts!r}; expected some of {', '.join(PARTS)}")
    if isinstance(loaded, LoadedNGram):
        if parts:
            raise UsageError(f"{loaded.path} is an n-gram model, which does not adapt; expected a neural one")
        return NGramPredictor(loaded)
    if not parts:
        return NeuralPredictor(loaded)
    row = next(row for row in ROWS if row.neural and all((part in parts) == row.needs(part) for part in PARTS))
    return AdaptedPredictor(AdaptedModel(loaded, load_adaptation(loaded), row.name))


def live_predictor(loaded: AnyModel, window: int, *, dynamic: bool = False) -> Predictor[Any]:
    """A model that remembers the last `window` tokens of the text it reads (0: none), and goes on learning if `dynamic`.

    With what `lstmlm tune` found, where there is something; a cache does without, too.

    Raises:
        UsageError: n-grams, or learning by a model that was not tuned.
    """
    if not window and not dynamic:
        return open_predictor(loaded)
    if isinstance(loaded, LoadedNGram):
        return open_predictor(loaded, ("cache",))
    row = "+".join(part for part, wanted in (("cache", window), ("dynamic", dynamic)) if wanted)
    if has_adaptation(loaded) or dynamic:
        tuned = load_adaptation(loaded)
        cache = replace(tuned.cache, window=window) if window else tuned.cache
        return AdaptedPredictor(AdaptedModel(loaded, replace(tuned, cache=cache), row))
    weights = {row: {"model": 1 - _UNTUNED_SHARE, "cache": _UNTUNED_SHARE}}
    cache = CacheConfig(window=window, sharpness=_UNTUNED_SHARPNESS)
    return AdaptedPredictor(AdaptedModel(loaded, Adaptation(cache, None, {}, None, weights, {}), row))
