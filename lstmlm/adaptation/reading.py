"""An adapted model token by token: feed it one, and get the distribution of the next.

T tokens, F features, V vocabulary, H hidden
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmlm.adaptation.cache import Memory, NeuralCache
from lstmlm.adaptation.directory import Adaptation
from lstmlm.adaptation.dynamic import DynamicEvaluation, Weights
from lstmlm.adaptation.mixture import mixed, row_named
from lstmlm.checkpoint import LoadedModel
from lstmlm.errors import DivergedError
from lstmlm.model import LanguageModel, State
from lstmlm.ngram import Context
from lstmlm.runtime import one_thread


@dataclass(frozen=True)
class Standing:
    """All that the text so far has left behind. It never changes: holding one is enough to go back to it."""

    state: State
    features_F: Tensor
    memory: Memory
    context: Context
    weights: Weights
    segment: tuple[int, ...]
    """Inputs since the weights last learned: what they learn from next."""
    segment_state: State
    """Before these."""


class AdaptedModel:
    """A mixture as a model that reads: at every place its distribution is the one that the row of a report is scored by."""

    def __init__(self, loaded: LoadedModel, adaptation: Adaptation, row: str = "cache+ngram") -> None:
        """`row` is the name of a mixture (see `mixture.py`)."""
        self.row = row_named(row)
        self.vocabulary_size = loaded.tokenizer.vocabulary_size
        self._model = loaded.model
        self._ngram = adaptation.ngram
        self._cache = NeuralCache(adaptation.cache, self.vocabulary_size)
        self._weights = adaptation.weights[row]
        self._dynamic = None
        if self.row.dynamic:
            self._dynamic = DynamicEvaluation(loaded.model, adaptation.dynamic, adaptation.gradient_rms)
        self._hidden_size = loaded.model.config.hidden_size
        trained = self._dynamic.trained if self._dynamic else ()
        state = loaded.model.initial_state(1)
        features_F, after = self._read(trained, loaded.tokenizer.eos, state)
        memory, context = self._cache.empty(self._hidden_size), self._ngram.start
        self.start = Standing(after, features_F, memory, context, trained, (loaded.tokenizer.eos,), state)
        """At the beginning of a text."""

    def feed(self, standing: Standing, token: int) -> Standing:
        """After one more token of the text."""
        memory = standing.memory
        if self.row.cache:
            memory = memory.then(standing.features_F[None, : self._hidden_size], torch.tensor([token]))
        state, weights, segment, segment_state = standing.state, standing.weights, standing.segment, standing.segment_state
        if self._dynamic and len(segment) == self._dynamic.config.segment:
            targets_T = torch.tensor([*segment[1:], token])
            learned = self._dynamic.read(weights, segment_state, torch.tensor(segment), targets_T)
            state, weights, segment, segment_state = learned.state, learned.weights, (), learned.state
        features_F, after = self._read(weights, token, state)
        return Standing(
            after,
            features_F,
            memory,
            self._ngram.advance(standing.context, token),
            weights,
            (*segment, token) if self._dynamic else (),
            segment_state,
        )

    @torch.inference_mode()
    def probabilities(self, standing: Standing) -> NDArray[np.float64]:
        """p(next token | text so far) of every token, [V]; sums to 1.

        Raises:
            DivergedError: the model's own are not finite.
        """
        parts = {}
        if self.row.neural:
            logits_V = self._now(standing.weights).logits(standing.features_F.to(self._model.device)).float().cpu()
            if not bool(torch.isfinite(logits_V).all()):
                raise DivergedError("the model has no finite probabilities here; if it learns as it reads, let it not")
            parts["model"] = logits_V.double().softmax(0).numpy()
        if self.row.cache:
            cached_V = self._cache.probabilities(standing.memory, standing.features_F[: self._hidden_size])
            parts["cache"] = np.full(self.vocabulary_size, np.nan) if cached_V is None else cached_V.numpy()
        if self.row.ngram:
            parts["ngram"] = self._ngram.probabilities(standing.context)
        return mixed(parts, self._weights)

    def _now(self, weights: Weights) -> LanguageModel:
        return self._dynamic.model(weights) if self._dynamic else self._model

    @torch.inference_mode()
    def _read(self, weights: Weights, token: int, state: State) -> tuple[Tensor, State]:
        with one_thread():
            features_TBF, after = self._now(weights)(torch.tensor([[token]], device=self._model.device), state)
        return features_TBF[0, 0].float().cpu(), after
