"""The language model: ids in, hidden states and logits out, state in, state out.

T time, B batch (streams), V vocabulary, E embedding, H hidden, L layers, R symbols of an excerpt,
F features: H, or H + E with traces
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lstmlm.config import ModelConfig
from lstmlm.model.cells import State
from lstmlm.model.inputs import Embedding, fill_uniform, one_hot_product
from lstmlm.model.outputs import AdaptiveSoftmax, FullSoftmax
from lstmlm.model.recurrent import RecurrentStack, locked_dropout
from lstmlm.model.traces import Traces


class LanguageModel(nn.Module):
    """p(next id | all ids before), by a stack of recurrent layers.

    A text begins with `<eos>` as input from `initial_state`; the logits after it are those of the text's first id.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        one_hot = config.input == "one-hot"
        self.embedding = None if one_hot else Embedding(config.vocabulary_size, config.embedding_size)
        self.rnn = RecurrentStack(
            config.cell,
            config.input_size,
            config.hidden_size,
            config.num_layers,
            residual=config.residual,
            multiplied_input=one_hot,
            dropout_hidden=config.dropout_hidden,
            dropout_weight=config.dropout_weight,
        )
        self.traces = None
        if config.traces:
            self.traces = Traces(config.vocabulary_size, config.embedding_size, config.hidden_size, config.traces)
        sizes = config.vocabulary_size, config.hidden_size, config.embedding_size if config.tied else None
        adaptive = config.softmax == "adaptive"
        self.output = AdaptiveSoftmax(*sizes, config.cluster_starts) if adaptive else FullSoftmax(*sizes)

    def reset_parameters(self, seed: int, unigram_counts: Tensor | None = None, vectors_VE: Tensor | None = None) -> None:
        """Fill all weights, reproducibly; the embedding with `vectors_VE`, if there are some.

        With the training counts [V], the output bias starts at the log frequencies: the first predictions are those of
        a unigram model instead of a uniform one.
        """
        generator = torch.Generator().manual_seed(seed)
        config = self.config
        if self.embedding is not None:
            width = config.embedding_size if config.tied else config.hidden_size
            fill_uniform(self.embedding.weight, 1 / math.sqrt(width), generator)
            if vectors_VE is not None:
                with torch.no_grad():
                    self.embedding.weight.copy_(vectors_VE)
        weights_V = torch.ones(config.vocabulary_size)
        if unigram_counts is not None:
            weights_V = (unigram_counts.double() + 1) / (unigram_counts.double() + 1).sum()
        self.output.reset_parameters(weights_V, generator)
        if self.traces is not None:
            self.traces.reset_parameters(weights_V / weights_V.sum())
        for layer in self.rnn.layers:
            layer.reset_parameters(generator)

    def excerpt(self, symbols_R: Tensor, correction_R: Tensor) -> LanguageModel:
        """The same model over R of its symbols: the recurrent stack is shared, rows of embedding and output are copies.

        Its gradients therefore cost R rows, not V. `correction_R` is subtracted from the output bias.
        """
        assert self.embedding is not None, "an excerpt takes rows of the embedding"
        assert self.config.softmax == "full", "an excerpt takes rows of one output"
        part = copy.copy(self)
        part._modules = dict(self._modules)
        part.embedding, part.output = copy.copy(self.embedding), copy.copy(self.output)
        part.embedding._parameters = {"weight": nn.Parameter(self.embedding.weight.detach()[symbols_R])}
        part.output._parameters = {"bias": nn.Parameter(self.output.bias.detach()[symbols_R] - correction_R)}
        own_VH = self.output.weight
        part.output._parameters["weight"] = None if own_VH is None else nn.Parameter(own_VH.detach()[symbols_R])
        if self.traces is not None:
            part.traces = copy.copy(self.traces)
            part.traces._buffers = self.traces._buffers | {"weight": self.traces.weight[symbols_R]}
        return part

    @property
    def device(self) -> torch.device:
        return self.output.bias.device

    @property
    def num_parameters(self) -> int:
        """All trained numbers; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def initial_state(self, batch_size: int) -> State:
        """The zero state, [L, B, H] each; of traces, if there are some, [J, B, E] as the last."""
        state = self.rnn.initial_state(batch_size)
        return state if self.traces is None else (*state, self.traces.initial_state(batch_size))

    def forward(self, ids_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a window; returns its features [T, B, F] and the state after it.

        Features are the top layer's hidden states; with traces, what these add to the output follows.
        """
        config, training = self.config, self.training
        if self.embedding is None:
            dropout = config.dropout_input if training else 0.0
            return self.rnn(one_hot_product(ids_TB, self.rnn.layers[0].weight_ih, dropout), state)  # type: ignore[no-any-return]
        vectors_TBE = self.embedding(ids_TB, config.dropout_embedding if training else 0.0)
        inputs_TBE = locked_dropout(vectors_TBE, config.dropout_input, training)
        if self.traces is None:
            return self.rnn(inputs_TBE, state)  # type: ignore[no-any-return]
        hidden_TBH, after = self.rnn(inputs_TBE, state[:-1])
        added_TBE, traces_JBE = self.traces(ids_TB, vectors_TBE, hidden_TBH, state[-1])
        return torch.cat([hidden_TBH, added_TBE.to(hidden_TBH.dtype)], -1), (*after, traces_JBE)

    def drop_output(self, features_TBF: Tensor) -> Tensor:
        """The last dropout, before the output; only acts in training."""
        return locked_dropout(features_TBF, self.config.dropout_output, self.training)

    def logits(self, features_BF: Tensor) -> Tensor:
        """Unnormalized log-probabilities [..., V] of the next id, float32 unless autocast says otherwise."""
        logits_BV: Tensor = self.output(features_BF, self.tied_VE)
        return logits_BV

    def logit_blocks(self, features_NF: Tensor, columns: int) -> Iterator[Tensor]:
        """`logits`, so many symbols at a time in their order; all at once where they cannot be had apart."""
        return self.output.blocks(features_NF, self.tied_VE, columns)

    def loss(self, features_NF: Tensor, targets_N: Tensor, columns: int | None = None) -> Tensor:
        """Mean surprisal of the targets, nats: for training; figures come from `scoring`.

        `columns`: see `outputs.cross_entropy`.
        """
        return self.output.loss(features_NF, targets_N, self.tied_VE, columns)

    @property
    def tied_VE(self) -> Tensor | None:  # noqa: N802
        """The embedding matrix, where it is the output's too."""
        return self.embedding.weight if self.config.tied and self.embedding else None
