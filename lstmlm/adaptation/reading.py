"""An adapted model token by token: feed it one, and get the distribution of the next.

T tokens, B places, F features, V vocabulary, H hidden
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from lstmlm.model import LanguageModel, State, Stepper
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
        self.loaded = loaded
        self.vocabulary_size = loaded.tokenizer.vocabulary_size
        self._model = loaded.model
        self._ngram = adaptation.ngram
        self._cache = NeuralCache(adaptation.cache, self.vocabulary_size)
        self._weights = adaptation.weights[row]
        self._dynamic = None
        if self.row.dynamic:
            assert adaptation.dynamic is not None, "tuned"
            self._dynamic = DynamicEvaluation(loaded.model, adaptation.dynamic, adaptation.gradient_rms)
        self._stepper = None if self._dynamic else Stepper(loaded.model)
        self._hidden_size = loaded.model.config.hidden_size
        trained = self._dynamic.trained if self._dynamic else ()
        state = loaded.model.initial_state(1)
        features_BF, after = self._step(trained, [loaded.tokenizer.eos], state)
        memory, context = self._cache.empty(self._hidden_size), self._ngram.start if self._ngram else ()
        self.start = Standing(after, features_BF[0], memory, context, trained, (loaded.tokenizer.eos,), state)
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
        features_BF, after = self._step(weights, [token], state)
        return Standing(
            after,
            features_BF[0],
            memory,
            self._ngram.advance(standing.context, token) if self._ngram else (),
            weights,
            (*segment, token) if self._dynamic else (),
            segment_state,
        )

    def ahead(self, standings: Sequence[Standing], tokens: Sequence[int]) -> list[Standing]:
        """After a token that may come, for each of several places of one look ahead: nothing is remembered or learned.

        All must stem from one place of the text, whose memory and weights they keep.
        """
        state = tuple(torch.cat(parts, 1) for parts in zip(*(standing.state for standing in standings), strict=True))
        features_BF, after = self._step(standings[0].weights, tokens, state)
        return [
            replace(
                standing,
                state=tuple(part[:, row : row + 1] for part in after),
                features_F=features_BF[row],
                context=self._ngram.advance(standing.context, token) if self._ngram else (),
            )
            for row, (standing, token) in enumerate(zip(standings, tokens, strict=True))
        ]

    def probabilities(self, standing: Standing) -> NDArray[np.float64]:
        """p(next token | text so far) of every token, [V]; sums to 1.

        Raises:
            DivergedError: the model's own are not finite.
        """
        probabilities_V: NDArray[np.float64] = self.distributions([standing])[0]
        return probabilities_V

    @torch.inference_mode()
    def distributions(self, standings: Sequence[Standing]) -> NDArray[np.float64]:
        """`probabilities` of several places of one look ahead, [B, V]."""
        parts = {}
        features_BF = torch.stack([standing.features_F for standing in standings])
        if self.row.neural:
            logits_BV = self._logits(standings[0].weights, features_BF.to(self._model.device)).float().cpu()
            if not bool(torch.isfinite(logits_BV).all()):
                raise DivergedError("the model has no finite probabilities here; if it learns as it reads, let it not")
            parts["model"] = logits_BV.double().softmax(-1).numpy()
        if self.row.cache:
            cached_BV = self._cache.probabilities(standings[0].memory, features_BF[:, : self._hidden_size])
            nothing_BV = np.full((len(standings), self.vocabulary_size), np.nan)
            parts["cache"] = nothing_BV if cached_BV is None else cached_BV.numpy()
        if self.row.ngram:
            assert self._ngram is not None, "tuned"
            parts["ngram"] = np.stack([self._ngram.probabilities(standing.context) for standing in standings])
        remembered = len(standings[0].memory)
        whole = mixed({name: part.ravel() for name, part in parts.items()}, self._weights, remembered)
        return whole.reshape(len(standings), self.vocabulary_size)

    def _logits(self, weights: Weights, features_BF: Tensor) -> Tensor:
        return self._stepper.logits(features_BF) if self._stepper else self._now(weights).logits(features_BF)

    def _now(self, weights: Weights) -> LanguageModel:
        return self._dynamic.model(weights) if self._dynamic else self._model

    @torch.inference_mode()
    def _step(self, weights: Weights, tokens: Sequence[int], state: State) -> tuple[Tensor, State]:
        tokens_B = torch.tensor(tokens, device=self._model.device)
        with one_thread():
            if self._stepper:
                features_BF, after = self._stepper.step(tokens_B, state)
            else:
                features_TBF, after = self._now(weights)(tokens_B[None], state)
                features_BF = features_TBF[0]
        return features_BF.float().cpu(), after
