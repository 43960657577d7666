"""A trained model one step at a time, for few rows: what completes words as they are typed.

A step of one row spends its time on fetching weights. torch's fused LSTM lays them out anew at every call, which is worth
it for a window and not for a step, and its plain product is slow for few rows. Here they are laid out once. Milliseconds on
one thread of a 2-core machine, two layers of 512, 8,000 symbols (`benchmarks/RESULTS.md`):

    rows                                 1      8     16
    recurrent layers, fused            6.0    6.0    6.2
    recurrent layers, laid out once    0.5    1.0    1.8
    output, plain product              1.4    2.7    3.9
    output, laid out once              0.3    0.9    1.6

The layout is a second copy of the weights in memory. What is not on a CPU and in float32, layers that are no
LSTM's and an adaptive softmax take the model's own way.

B rows, L layers, E embedding, H hidden, G gates x H, F features, V vocabulary, I and O: in and out of a product
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstmlm.model.cells import State, lstm_state
from lstmlm.model.language_model import LanguageModel
from lstmlm.model.outputs import AdaptiveSoftmax

_ROWS = 8
"""For which the layout is chosen."""


class Product:
    """x W^T + b for few rows."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor) -> None:
        self._weight_OI, self._bias_O = weight_OI.detach(), bias_O.detach()
        operations = torch.ops.mkldnn  # oneDNN's, which torch's compiler uses
        self._laid_out = None
        if torch.backends.mkldnn.is_available() and hasattr(operations, "_linear_pointwise"):  # type: ignore[no-untyped-call]
            self._laid_out = operations._reorder_linear_weight(self._weight_OI.contiguous(), _ROWS)

    def __call__(self, values_BI: Tensor) -> Tensor:
        if self._laid_out is None:
            return nn.functional.linear(values_BI, self._weight_OI, self._bias_O)
        product_BO: Tensor = torch.ops.mkldnn._linear_pointwise(values_BI, self._laid_out, self._bias_O, "none", [], "")
        return product_BO


class Stepper:
    """Steps of a model whose weights no longer change."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        config = model.config
        plain = model.device.type == "cpu" and model.output.bias.dtype == torch.float32 and config.input == "embedding"
        self._layers: list[Product] | None = None
        if plain and config.cell == "lstm":
            self._layers = [
                Product(torch.cat([layer.weight_ih, layer.weight_hh], 1), layer.bias_ih + layer.bias_hh)
                for layer in model.rnn.layers
            ]
        self._output: Product | None = None
        if plain and not isinstance(model.output, AdaptiveSoftmax):
            _, weight_VE = model.output.factors(torch.zeros(1, self._features), model.tied_VE)
            self._output = Product(weight_VE, model.output.bias)

    @property
    def _features(self) -> int:
        config = self._model.config
        return config.hidden_size + (config.embedding_size if config.traces else 0)

    def step(self, ids_B: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of B texts: their features [B, F] and the state after; see `LanguageModel.forward`."""
        model = self._model
        if self._layers is None:
            features_TBF, after = model(ids_B[None], state)
            return features_TBF[0], after
        assert model.embedding is not None, "its layers are laid out"
        vectors_BE = model.embedding(ids_B[None])[0]
        values_BI, hidden, cells = vectors_BE, [], []
        for index, product in enumerate(self._layers):
            hidden_BH, cell_BH = lstm_state(product(torch.cat([values_BI, state[0][index]], 1)), state[1][index])
            hidden.append(hidden_BH)
            cells.append(cell_BH)
            values_BI = values_BI + hidden_BH if model.config.residual and index > 0 else hidden_BH
        after = torch.stack(hidden), torch.stack(cells)
        if model.traces is None:
            return values_BI, after
        added_TBE, traces_JBE = model.traces(ids_B[None], vectors_BE[None], values_BI[None], state[-1])
        return torch.cat([values_BI, added_TBE[0]], -1), (*after, traces_JBE)

    def logits(self, features_BF: Tensor) -> Tensor:
        """Unnormalized log-probabilities of the next id, float32 [B, V]."""
        if self._output is None:
            return self._model.logits(features_BF).float()
        scored_BE, _ = self._model.output.factors(features_BF, self._model.tied_VE)
        return self._output(scored_BE)
