"""Dynamic evaluation: the weights go on learning from the text while it is read (Krause et al. 2018, "Dynamic Evaluation of
Neural Sequence Models").

After every segment of the text, each weight takes a step against the gradient of the segment's loss, divided by the root
mean square R that its gradient had on the training text; and a step back to its trained value, in proportion to R:

    w <- w - rate g / (R + e mean R)  +  min(1, decay R / mean R) (w_trained - w)

Nothing of a segment is used before it has been predicted. The vectors of the symbols stay as they are where there are many:
that they learned too gave 1% on WikiText-2 for twice the time, and nothing on everyday English (`benchmarks/RESULTS.md`).

T tokens of a segment, F features, V vocabulary
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lstmlm.config import DynamicConfig
from lstmlm.model import LanguageModel, State
from lstmlm.scoring import log_normalizer
from lstmlm.token_store import Ids

Weights = tuple[Tensor, ...]
"""All parameters that learn, in the model's order; never changed in place, so that whoever holds them can go back."""

_FLOOR = 0.1
"""e: keeps the step of a weight whose gradient was next to nothing on the training text from being without bound."""
_MANY_SYMBOLS = 1_000


@dataclass(frozen=True)
class Learned:
    """What came of reading a segment."""

    nats_T: Tensor
    """Surprisal of its tokens before anything was learned from it, float64."""
    features_TF: Tensor
    state: State
    weights: Weights


class DynamicEvaluation:
    """A model whose learning weights are the caller's; they begin as `trained`."""

    def __init__(self, model: LanguageModel, config: DynamicConfig, gradient_rms: Mapping[str, Tensor]) -> None:
        """`gradient_rms` is R for each parameter that learns (see `measure_gradients`)."""
        self.config = config
        self.hidden_size = model.config.hidden_size
        self._model, learning = _learning_copy(model, gradient_rms)
        self._learning = list(learning.values())
        self.trained: Weights = tuple(parameter.detach() for parameter in self._learning)
        rms = [gradient_rms[name].to(model.device).contiguous() for name in learning]  # one order of summing, wherever from
        means = [float(tensor.mean()) or 1.0 for tensor in rms]
        self._steps = [config.learning_rate / (tensor + _FLOOR * mean) for tensor, mean in zip(rms, means, strict=True)]
        self._pulls = [(config.decay * tensor / mean).clamp_(max=1.0) for tensor, mean in zip(rms, means, strict=True)]

    def model(self, weights: Weights) -> LanguageModel:
        """The model with these weights, until the next call."""
        for parameter, tensor in zip(self._learning, weights, strict=True):
            parameter.data = tensor
        return self._model

    @torch.inference_mode(False)
    def read(self, weights: Weights, state: State, inputs_T: Tensor, targets_T: Tensor) -> Learned:
        """Predict a segment, and learn from it."""
        self.model(weights)
        nats_T, features_TF, after, gradients = _gradients(self._model, self._learning, state, inputs_T, targets_T)
        learned = [
            torch.addcmul(now, gradient, step, value=-1).addcmul_(trained - now, pull)
            for now, gradient, trained, step, pull in zip(
                weights, gradients, self.trained, self._steps, self._pulls, strict=True
            )
        ]
        return Learned(nats_T, features_TF, after, tuple(learned))

    def read_text(self, ids: Ids, eos: int) -> Iterator[Learned]:
        """A whole text, segment by segment, from the zero state and the trained weights."""
        weights, state = self.trained, self._model.initial_state(1)
        for inputs_T, targets_T in segments(ids, eos, self.config.segment):
            learned = self.read(weights, state, inputs_T, targets_T)
            yield learned
            weights, state = learned.weights, learned.state


def segments(ids: Ids, eos: int, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of each segment; the first input is `<eos>`."""
    for begin in range(0, len(ids), length):
        targets_T = torch.from_numpy(ids[begin : begin + length].astype(np.int64))
        first = eos if begin == 0 else int(ids[begin - 1])
        yield torch.cat([torch.tensor([first]), targets_T[:-1]]), targets_T


@torch.inference_mode(False)
@torch.enable_grad()
def _gradients(
    model: LanguageModel, parameters: Sequence[Tensor], state: State, inputs_T: Tensor, targets_T: Tensor
) -> tuple[Tensor, Tensor, State, Sequence[Tensor]]:
    """A segment's surprisals (float64), features, and the state after; and the gradients of the summed surprisal."""
    # Copies: a caller's tensors may be made in inference mode, which nothing can learn from.
    inputs_T, targets_T, *parts = (given.to(model.device, copy=True) for given in (inputs_T, targets_T, *state))
    features_TBF, after = model(inputs_T[:, None], tuple(parts))
    logits_TV = model.logits(features_TBF[:, 0]).float()
    loss = torch.nn.functional.cross_entropy(logits_TV, targets_T, reduction="sum")
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    own_T = logits_TV.detach().gather(1, targets_T[:, None]).squeeze(1)
    nats_T = log_normalizer(logits_TV.detach()) - own_T.double()
    return nats_T.cpu(), features_TBF[:, 0].detach().cpu(), tuple(part.detach() for part in after), gradients


def learning_parameters(model: LanguageModel) -> list[str]:
    """The names of the parameters that learn: all but, of many symbols, those with a vector for each."""
    rows = model.config.vocabulary_size
    return [
        name
        for name, parameter in model.named_parameters()
        if rows < _MANY_SYMBOLS or parameter.dim() < 2 or rows not in parameter.shape
    ]


def _learning_copy(model: LanguageModel, names: Collection[str]) -> tuple[LanguageModel, dict[str, torch.nn.Parameter]]:
    """The model with parameters of its own over the same numbers; those in `names` are returned, and have gradients."""
    own = {
        name: torch.nn.Parameter(parameter.detach(), requires_grad=name in names)
        for name, parameter in model.named_parameters()
    }
    taken = {id(parameter): own[name] for name, parameter in model.named_parameters()}
    learning = {name: parameter for name, parameter in own.items() if name in names}
    return copy.deepcopy(model, taken).eval(), learning  # to deepcopy, what is in `taken` has been copied already


def measure_gradients(
    model: LanguageModel, ids: Ids, eos: int, *, segment: int, places: int, run: int
) -> Iterator[dict[str, Tensor]]:
    """R of every parameter that learns, on a text: `places` evenly spread, `run` segments at each. Yields it as it forms.

    R is that of sums over segments of `segment` tokens, as evaluation takes its steps.
    """
    names = learning_parameters(model)
    model, learning = _learning_copy(model, names)
    squares = {name: torch.zeros_like(parameter) for name, parameter in learning.items()}
    seen = 0
    for begin in np.linspace(0, max(0, len(ids) - run * segment), places, dtype=np.int64):
        state = model.initial_state(1)
        for inputs_T, targets_T in segments(ids[begin : begin + run * segment], eos, segment):
            _, _, state, gradients = _gradients(model, list(learning.values()), state, inputs_T, targets_T)
            for square, gradient in zip(squares.values(), gradients, strict=True):
                square.addcmul_(gradient, gradient)
            seen += 1
        yield {name: (square / seen).sqrt() for name, square in squares.items()}
