"""Validation in training: the exact score of the validation split, or of as much of its beginning as the budget affords."""

from __future__ import annotations

import time

from lstmlm.model import LanguageModel
from lstmlm.scoring import score_segments
from lstmlm.token_store import TokenStore

VALIDATIONS = 20
"""Validations of a time budget, about; steps and epochs are validated every epoch, but at most 50 times."""
_SHARE = 0.06
"""Part of a time budget that validations may take together..."""
_SHARE_OF_ONE = 0.015
"""...and one of them..."""
_SHARE_OF_LAST = 0.08
"""...and the last one, of the best model."""
_TRIAL_TOKENS = 4096


class Validator:
    """Scores models on the same leading `tokens` of a split, so that their figures compare."""

    def __init__(self, store: TokenStore, eos: int) -> None:
        self._store = store
        self._eos = eos
        self.total = len(store.ids)

    def affordable(self, model: LanguageModel, budget: float | None) -> int:
        """How many tokens can be scored in the time that a validation may take; all, without a time budget."""
        if budget is None or self.total <= _TRIAL_TOKENS:
            return self.total
        before = time.monotonic()
        self.score(model, _TRIAL_TOKENS)
        rate = _TRIAL_TOKENS / (time.monotonic() - before)
        return min(self.total, max(_TRIAL_TOKENS, int(rate * _SHARE_OF_ONE * budget)))

    def score(self, model: LanguageModel, tokens: int) -> float:
        """Nats per token over the first `tokens`, as `lstmlm eval` scores them.

        Raises:
            DivergedError: a token's surprisal is not finite.
        """
        segments, left = [], tokens
        for ids in self._store.files:
            segments.append(ids[:left])
            left -= len(segments[-1])
            if left == 0:
                break
        return score_segments(model, segments, eos=self._eos).nll_nats / tokens

    def final_tokens(self, tokens: int, cost: float, budget: float | None) -> int:
        """How many are scored at the end, where `tokens` took `cost` seconds: all, unless the budget does not afford it."""
        affordable = budget is None or cost * self.total / tokens <= _SHARE_OF_LAST * budget
        return self.total if affordable else tokens

    def reserve(self, tokens: int, cost: float, budget: float | None) -> float:
        """Seconds to keep for the end: one more validation, then the rest of the final score."""
        final = self.final_tokens(tokens, cost, budget)
        return cost if final == tokens else cost * (1 + final / tokens)

    @staticmethod
    def wait(budget: float, cost: float) -> float:
        """Seconds between two validations under a time budget."""
        return max(budget / VALIDATIONS, cost / _SHARE)
