"""The language model: ids in, hidden states and logits out, state in, state out.

T time, B batch (streams), V vocabulary, E embedding, H hidden, L layers
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lstmlm.config import ModelConfig
from lstmlm.model.cells import State
from lstmlm.model.inputs import Embedding, one_hot_product
from lstmlm.model.outputs import FullSoftmax
from lstmlm.model.recurrent import RecurrentStack, fill_uniform, locked_dropout


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
        )
        tied_size = config.embedding_size if config.tied else None
        self.output = FullSoftmax(config.vocabulary_size, config.hidden_size, tied_size)

    def reset_parameters(self, seed: int, unigram_counts: Tensor | None = None) -> None:
        """Fill all weights, reproducibly.

        With the training counts [V], the output bias starts at the log frequencies: the first predictions are those of
        a unigram model instead of a uniform one.
        """
        generator = torch.Generator().manual_seed(seed)
        width = self.output.weight.shape[1] if self.output.weight is not None else self.config.embedding_size
        with torch.no_grad():
            for weight in (self.embedding.weight if self.embedding else None, self.output.weight):
                if weight is not None:
                    fill_uniform(weight, 1 / math.sqrt(width), generator)
            if self.output.projection is not None:
                fill_uniform(self.output.projection.weight, 1 / math.sqrt(self.config.hidden_size), generator)
            self.output.bias.zero_()
            if unigram_counts is not None:
                frequencies = (unigram_counts.double() + 1) / (unigram_counts.double() + 1).sum()
                self.output.bias.copy_(frequencies.log())
        for layer in self.rnn.layers:
            layer.reset_parameters(generator)

    @property
    def device(self) -> torch.device:
        return self.output.bias.device

    @property
    def num_parameters(self) -> int:
        """All trained numbers; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def initial_state(self, batch_size: int) -> State:
        """The zero state, [L, B, H] each."""
        return self.rnn.initial_state(batch_size)

    def forward(self, ids_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a window; returns the top layer's hidden states [T, B, H] and the state after it."""
        if self.embedding is not None:
            inputs_TBI = locked_dropout(self.embedding(ids_TB), self.config.dropout_input, self.training)
        else:
            dropout = self.config.dropout_input if self.training else 0.0
            inputs_TBI = one_hot_product(ids_TB, self.rnn.layers[0].weight_ih, dropout)
        hidden_TBH, state = self.rnn(inputs_TBI, state)
        return locked_dropout(hidden_TBH, self.config.dropout_output, self.training), state

    def logits(self, hidden_BH: Tensor) -> Tensor:
        """Unnormalized log-probabilities [..., V] of the next id, float32 unless autocast says otherwise."""
        logits_BV: Tensor = self.output(hidden_BH, self._tied_VE)
        return logits_BV

    def loss(self, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
        """Mean surprisal of the targets, nats: for training; figures come from `scoring`."""
        return self.output.loss(hidden_NH, targets_N, self._tied_VE)

    @property
    def _tied_VE(self) -> Tensor | None:  # noqa: N802
        return self.embedding.weight if self.config.tied and self.embedding else None
