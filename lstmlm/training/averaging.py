"""Averaged weights: the mean over the last steps is a better model than the last step (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_EVERY = 8
"""Steps between two updates, where the horizon is longer: a mean over hundreds of steps needs no more, and costs little."""


class WeightAverage:
    """An exponential mean of all weights with a horizon of `part` of the steps made so far.

    As the horizon grows with the run, the length of the run need not be known, and the start is forgotten by itself.
    """

    def __init__(self, model: nn.Module, part: float) -> None:
        self._model = model
        self._part = part
        self._means = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    def update(self, step: int) -> None:
        """Take in the weights after step 1, 2, 3..."""
        horizon = self._part * step
        every = _EVERY if horizon > _EVERY else 1
        if step % every:
            return
        share = min(1.0, every / max(1.0, horizon))
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                self._means[name].lerp_(weight, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, weight in self._model.named_parameters():
            weight.data, self._means[name] = self._means[name], weight.data
