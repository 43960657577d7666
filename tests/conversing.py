"""A model whose probabilities are known, to converse with."""

from __future__ import annotations

from pathlib import Path

import building
import torch

from lstmlm.adaptation import save_adaptation
from lstmlm.checkpoint import LoadedModel, load_model, save_model

UNIGRAM = {"the": 0.4, "cat": 0.24, "can": 0.16, "dog": 0.1, "<eos>": 0.06, "<unk>": 0.04}
BIGRAMS = {
    "the": {"cat": 0.5, "can": 0.4, "dog": 0.1},
    "cat": {"sat": 0.9, "can": 0.1},
    "sat": {"on": 0.8, "<eos>": 0.2},
    "on": {"the": 0.95, "<unk>": 0.05},
}
"""What follows these words; what follows others has the probabilities of `UNIGRAM`."""


def bigram_model(path: Path, bigrams: dict[str, dict[str, float]] = BIGRAMS) -> LoadedModel:
    """A word model at `path` with exactly these probabilities: its hidden state says which word was the last one."""
    tokenizer = building.tokenizer("word", "the cat can dog sat on\n", min_count=1)
    size = tokenizer.vocabulary_size
    token_of = {tokenizer.describe(token): token for token in range(size)}
    model = building.model(size, embedding_size=size, hidden_size=size, tied=False)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        layer = model.rnn.layers[0]
        model.embedding.weight.copy_(torch.eye(size))
        for gate, bias in enumerate((50.0, -50.0, 0.0, 50.0)):  # input, forget, cell, output
            layer.bias_ih[gate * size : (gate + 1) * size] = bias
        layer.weight_ih[2 * size : 3 * size] = 50 * torch.eye(size)
        for last, token in token_of.items():
            probabilities_V = torch.full((size,), 1e-12)
            for word, probability in bigrams.get(last, UNIGRAM).items():
                probabilities_V[token_of[word]] = probability
            model.output.weight[:, token] = probabilities_V.log() / torch.tanh(torch.tensor(1.0))
    save_model(path, model, tokenizer)
    loaded = load_model(path)
    save_adaptation(loaded, building.adaptation(loaded))
    return loaded
