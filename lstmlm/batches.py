"""Ids -> contiguous time-major windows, one reading head per stream.

The corpus is a circle of N ids. An epoch starts at a place of it (the first at the beginning, the others at a random one)
and cuts it into B streams of equal length, which are read side by side, window by window, with the recurrent state carried
along (Mikolov et al. 2010). Where each id goes is a pure function of (seed, epoch, position): resuming needs no replay.

A stream begins as every text does: from a zero state, with `<eos>` as input. Where it was cut out of the middle of a text,
its first id is read but not scored, so that this start keeps its meaning: what follows is the beginning of a text.

T time, B batch (streams)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lstmlm.token_store import Ids

UNSCORED = -1


@dataclass(frozen=True)
class Window:
    """What one training step reads."""

    inputs_TB: Tensor
    """int64; the first one of an epoch is `<eos>` in every stream."""
    targets_TB: Tensor
    """int64; `UNSCORED` where an epoch begins in the middle of a text."""
    starts_epoch: bool
    """The state must be zero here."""


class Batches:
    """Windows of `window` steps over `batch_size` streams (fewer of both where the corpus is small).

    With `vary_window` their borders move by up to a quarter of a window, at random, so that no id always stands at the end
    of what backpropagation sees.
    """

    def __init__(self, ids: Ids, *, batch_size: int, window: int, eos: int, seed: int, vary_window: bool = False) -> None:
        self._ids = ids
        self._eos = eos
        self._seed = seed
        self.window = min(window, len(ids))
        self._jitter = self.window // 4 if vary_window else 0
        self.batch_size = max(1, min(batch_size, len(ids) // self.window))
        self.stream_length = len(ids) // self.batch_size
        """Ids of a stream; the N modulo B ids left over are others in every epoch."""

    @property
    def windows_per_epoch(self) -> int:
        return -(-self.stream_length // self.window)

    def offset(self, epoch: int) -> int:
        """Where in the circle `epoch` begins; the first epoch begins at the beginning."""
        if epoch == 0:
            return 0
        return int(np.random.default_rng((self._seed, epoch)).integers(len(self._ids)))

    def _border(self, epoch: int, index: int) -> int:
        """Where window `index` of a stream begins; with varying windows, up to a quarter of one off its place."""
        if 0 < index < self.windows_per_epoch and self._jitter:
            rng = np.random.default_rng((self._seed, epoch, index))
            return min(index * self.window + int(rng.integers(-self._jitter, self._jitter + 1)), self.stream_length - 1)
        return min(index * self.window, self.stream_length)

    def at(self, step: int) -> Window:
        """The window of global step 0, 1, 2..."""
        epoch, index = divmod(step, self.windows_per_epoch)
        begin, end = self._border(epoch, index), self._border(epoch, index + 1)
        length = end - begin
        # one id more than targets: the one before the window is its first input
        places_TB = np.arange(begin - 1, end)[:, None] + self.stream_length * np.arange(self.batch_size)
        wrapped_TB = (places_TB + self.offset(epoch)) % len(self._ids)
        read_TB = torch.from_numpy(self._ids[wrapped_TB].astype(np.int64))
        inputs_TB, targets_TB = read_TB[:-1], read_TB[1:].clone()
        if index == 0 and length > 1:
            targets_TB[0, inputs_TB[0] != self._eos] = UNSCORED
        if index == 0:
            inputs_TB[0] = self._eos
        return Window(inputs_TB, targets_TB, starts_epoch=index == 0)
