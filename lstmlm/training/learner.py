"""One update of the weights: a window forward and backward, the gradient clipped, the optimizer's step.

T time, B batch (streams), V vocabulary, H hidden, F features, L layers, N scored tokens,
R symbols that a step touches
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from lstmlm.batches import UNSCORED, Window
from lstmlm.checkpoint import named_weights, restore_weights
from lstmlm.config import TrainConfig
from lstmlm.model import LanguageModel, State
from lstmlm.runtime import Runtime
from lstmlm.training.averaging import WeightAverage
from lstmlm.training.candidates import CandidateSampler
from lstmlm.training.optimization import build_optimizer, guarded_step, set_pace

_ABSURD_LOSS = 10.0
"""A loss this many times that of a uniform guess counts as not finite: training that works never gets there."""


@dataclass(frozen=True)
class Update:
    """What one step was like."""

    nats: float
    """Sum over the scored tokens."""
    tokens: int
    gradient_norm: float
    made: bool
    """False where a number was not finite and the weights were left alone."""


class Learner:
    """Weights, what the optimizer remembers, their average, and the state of every stream."""

    def __init__(
        self,
        model: LanguageModel,
        config: TrainConfig,
        counts_V: Tensor,
        runtime: Runtime,
        start: LanguageModel | None = None,
    ) -> None:
        """With `start`, a model of the same shape, its weights are the initial ones."""
        self.model, self.config, self._runtime, self.start = model, config, runtime, start
        self._counts_V = counts_V
        self._sampler = CandidateSampler(counts_V.to(runtime.device), config.negatives) if config.negatives else None

    def start_afresh(self, batch_size: int, vectors_VE: Tensor | None = None) -> None:
        """Initial weights, zero states, an optimizer that remembers nothing; `vectors_VE` is the embedding to begin with."""
        self.model.reset_parameters(self.config.seed, self._counts_V, vectors_VE)
        if self.start is not None:
            restore_weights(self.model, named_weights(self.start))
        self.forget()
        self.state: State = self.model.initial_state(batch_size)

    def forget(self) -> None:
        """A fresh optimizer, an average that begins at the weights as they are, and no updates to tell of."""
        self._pending: list[tuple[Tensor, int, Tensor, Tensor]] = []
        self.optimizer = build_optimizer(self.model, self.config)
        self.average = WeightAverage(self.model, self.config.averaging) if self.config.averaging else None

    def averaged(self) -> AbstractContextManager[None]:
        """Within the block the model is what it would be if training ended here: the averaged one, if there is one."""
        return self.average.applied() if self.average is not None else nullcontext()

    def update(self, window: Window, step: int, *, rate: float, momentum: float) -> None:
        """Learn from the window of `step` (0, 1, 2...); `collect` says what came of it.

        Nothing here waits for the device: where a number is not finite, the device itself leaves the weights alone.
        """
        torch.manual_seed(_step_seed(self.config.seed, step))
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        set_pace(self.optimizer, rate, momentum)
        if window.starts_epoch:
            self.state = self.model.initial_state(window.inputs_TB.shape[1])
        tokens = int((window.targets_TB != UNSCORED).sum())
        nats, norm, state = self._gradients(window, tokens)
        limit = _ABSURD_LOSS * math.log(self.model.config.vocabulary_size)
        made = torch.isfinite(nats + norm) & (nats < limit * tokens)
        guarded_step(self.optimizer, made)
        self.state = tuple(torch.where(made, new, old) for new, old in zip(state, self.state, strict=True))
        self._pending.append((nats, tokens, norm, made))
        if self.average is not None:
            self.average.update(step + 1)

    def collect(self) -> list[Update]:
        """The updates since the last call, in order; waits until the device has made them."""
        pending, self._pending = self._pending, []
        return [Update(float(nats), tokens, float(norm), bool(made)) for nats, tokens, norm, made in pending]

    def _gradients(self, window: Window, tokens: int) -> tuple[Tensor, Tensor, State]:
        """Leave the clipped gradient of the mean loss in the weights; returns nats, gradient norm and the state after."""
        device, config = self._runtime.device, self.config
        inputs_TB, targets_TB = window.inputs_TB.to(device), window.targets_TB.to(device)
        learning = self.model
        columns = symbols_R = None
        if self._sampler is not None:
            touched = self._sampler.touch(inputs_TB, targets_TB[targets_TB != UNSCORED])
            learning = self.model.excerpt(touched.symbols_R, touched.log_inclusion_R)
            columns, symbols_R = touched.candidates, touched.symbols_R
            scored_TB = targets_TB != UNSCORED
            inputs_TB = touched.place_V[inputs_TB]
            targets_TB = torch.where(scored_TB, touched.place_V[targets_TB], UNSCORED)
        nats, after = torch.zeros((), device=device), []
        for streams in _parts(inputs_TB.shape[1], config.accumulate):
            state = tuple(values_LBH[:, streams].contiguous() for values_LBH in self.state)
            targets_N = targets_TB[:, streams].flatten()
            scored_N = None
            if window.starts_epoch:
                scored_N = (window.targets_TB[:, streams].flatten() != UNSCORED).nonzero().squeeze(1).to(device)
                targets_N = targets_N[scored_N]
            with self._runtime.step_precision():
                features_TBF, state = learning(inputs_TB[:, streams].contiguous(), state)
                dropped_TBF = learning.drop_output(features_TBF)
                dropped_NF = dropped_TBF.flatten(0, 1)
                loss = learning.loss(dropped_NF if scored_N is None else dropped_NF[scored_N], targets_N, columns)
                goal = loss * (len(targets_N) / tokens) + self._penalties(features_TBF, dropped_TBF)
            goal.backward()  # type: ignore[no-untyped-call]
            nats = nats + loss.detach() * len(targets_N)
            after.append(tuple(values.detach() for values in state))
        norm = nn.utils.clip_grad_norm_(learning.parameters(), config.clip)
        if symbols_R is not None:
            self._hand_over(learning, symbols_R)
        return nats, norm, tuple(torch.cat(values, 1) for values in zip(*after, strict=True))

    def _penalties(self, features_TBF: Tensor, dropped_TBF: Tensor) -> Tensor | float:
        """AR and TAR of some of the streams, as their part of the mean over all."""
        config, streams = self.config, features_TBF.shape[1] / self.state[0].shape[1]
        hidden_TBH, dropped_TBH = (values[..., : self.model.config.hidden_size] for values in (features_TBF, dropped_TBF))
        penalty: Tensor | float = 0.0
        if config.activation_penalty:
            penalty = penalty + config.activation_penalty * streams * dropped_TBH.float().square().mean()
        if config.temporal_penalty and len(hidden_TBH) > 1:
            penalty = penalty + config.temporal_penalty * streams * hidden_TBH.float().diff(dim=0).square().mean()
        return penalty

    def _hand_over(self, part: LanguageModel, symbols_R: Tensor) -> None:
        """Turn the gradients of an excerpt's rows into sparse gradients of the whole."""
        whole = dict(self.model.named_parameters())
        for name, rows in part.named_parameters():
            if rows is not whole[name] and rows.grad is not None:
                sparse = torch.sparse_coo_tensor(
                    symbols_R[None], rows.grad, whole[name].shape, is_coalesced=True, check_invariants=False
                )
                whole[name].grad = sparse if self.config.optimizer == "adamw" else sparse.to_dense()


def _parts(streams: int, count: int) -> Iterator[slice]:
    """`count` parts of the streams, as equal as can be; fewer where there are fewer streams."""
    ends = [streams * number // count for number in range(count + 1)]
    return (slice(begin, end) for begin, end in pairwise(ends) if end > begin)


def _step_seed(seed: int, step: int) -> int:
    """The random state of a step, so that it need not be saved."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
