"""An n-gram model on disk: a model directory of its own kind, with the same tokenizer files as a neural model's.

    MODEL/  config.json  {"format": "lstmlm-ngram", "model": {"order", "vocabulary_size"}, "tokenizer", "training"}
            tokenizer.json  ngram.safetensors  MANIFEST.json

    keys.1 ... keys.K              int64 [G]    see `model.Grams`; ascending
    discounted.1 ... discounted.K  float32 [G]
    backoff.1 ... backoff.K-1      float32 [G]  nothing follows the longest
    uniform                        float64 []

G n-grams of an order, K the order, V vocabulary
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstmlm.checkpoint import CONFIG, NGRAM_FORMAT, about_model, is_kind, open_directory, pack_tensors, read_tensors
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.ngram.model import Grams, NGramModel
from lstmlm.storage import publish
from lstmlm.tokenizer import Tokenizer

WEIGHTS = "ngram.safetensors"


@dataclass(frozen=True)
class LoadedNGram:
    """An n-gram model with its tokenizer, ready to use."""

    path: Path
    model: NGramModel
    tokenizer: Tokenizer
    documents: str
    """The document rule of its training text."""
    training: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    """Of `ngram.safetensors`."""


def is_ngram(path: str | Path) -> bool:
    """Whether a model directory holds n-grams; raises as `checkpoint.is_kind`."""
    return is_kind(path, NGRAM_FORMAT)


def save_ngram(
    path: Path, model: NGramModel, tokenizer: Tokenizer, *, documents: str, training: Mapping[str, Any] | None = None
) -> None:
    """Publish a model directory at `path`, which must not exist."""
    if path.exists():
        raise UsageError(f"{path} exists; choose another name")
    shape = {"order": model.order, "vocabulary_size": model.vocabulary_size}
    about = about_model(NGRAM_FORMAT, shape, tokenizer, documents=documents, training=training or {})
    publish(path, about | {WEIGHTS: pack_ngram(model)})


def load_ngram(path: str | Path) -> LoadedNGram:
    """Load an n-gram model directory; every byte is verified first.

    Raises:
        UsageError: `path` does not exist.
        ArtefactError: it is no n-gram model, or is damaged; the message names the file.
    """
    found = open_directory(path, NGRAM_FORMAT, WEIGHTS)
    model = read_ngram(found.path / WEIGHTS, vocabulary_size=found.tokenizer.vocabulary_size, eos=found.tokenizer.eos)
    if found.model.get("vocabulary_size") != model.vocabulary_size:
        raise found.other_vocabulary()
    if found.model.get("order") != model.order:
        raise ArtefactError(f"{found.path / WEIGHTS} has order {model.order}, which is not what {CONFIG} says")
    return LoadedNGram(found.path, model, found.tokenizer, found.documents, found.training, found.sha256)


def pack_ngram(model: NGramModel) -> bytes:
    """The content of `ngram.safetensors`."""
    tensors = {"uniform": torch.tensor(model.uniform, dtype=torch.float64)}
    for number, grams in enumerate(model.orders, 1):
        tensors[f"keys.{number}"] = torch.from_numpy(grams.keys_G)
        tensors[f"discounted.{number}"] = torch.from_numpy(grams.discounted_G)
        if number < model.order:
            tensors[f"backoff.{number}"] = torch.from_numpy(grams.backoff_G)
    return pack_tensors(tensors)


def read_ngram(path: Path, *, vocabulary_size: int, eos: int) -> NGramModel:
    """Read `ngram.safetensors`; what it claims is checked, so that no lookup can leave the arrays.

    Raises:
        ArtefactError: it is damaged, or belongs to another vocabulary.
    """
    tensors = read_tensors(path)
    order = sum(name.startswith("keys.") for name in tensors)
    orders: list[Grams] = []
    prefixes = 1
    for number in range(1, order + 1):
        keys_G = _taken(path, tensors, f"keys.{number}", torch.int64)
        discounted_G = _taken(path, tensors, f"discounted.{number}", torch.float32)
        backoff_G = _taken(path, tensors, f"backoff.{number}", torch.float32) if number < order else torch.ones(len(keys_G))
        if not len(keys_G) == len(discounted_G) == len(backoff_G):
            raise ArtefactError(f"{path}: the arrays of order {number} are not of one length")
        orders.append(Grams(keys_G.numpy(), discounted_G.numpy(), backoff_G.numpy()))
        _check(path, number, orders[-1], prefixes * (vocabulary_size + 1))
        prefixes = len(keys_G)
    uniform = tensors.pop("uniform", None)
    if not orders or uniform is None or uniform.shape or not 0 < float(uniform) <= 1 or tensors:
        raise ArtefactError(f"{path} does not hold the arrays of an n-gram model")
    if len(orders[0].keys_G) != vocabulary_size + 1:
        raise ArtefactError(f"{path} is of {len(orders[0].keys_G) - 1:,} symbols; the tokenizer has {vocabulary_size:,}")
    return NGramModel(vocabulary_size, eos, float(uniform), tuple(orders))


def _taken(path: Path, tensors: dict[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    tensor = tensors.pop(name, None)
    if tensor is None or tensor.dtype != dtype or tensor.dim() != 1:
        found = "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        raise ArtefactError(f"{path}: tensor {name} is {found}; expected one row of {str(dtype).removeprefix('torch.')}")
    return tensor


def _check(path: Path, number: int, grams: Grams, keys: int) -> None:
    """Keys rise and stay below `keys`; numbers are shares."""
    keys_G = grams.keys_G
    rising = not len(keys_G) or (keys_G[0] >= 0 and keys_G[-1] < keys and bool((np.diff(keys_G) > 0).all()))
    shares = all(bool(((share_G >= 0) & (share_G <= 1)).all()) for share_G in (grams.discounted_G, grams.backoff_G))
    if not rising or not shares:
        raise ArtefactError(f"{path}: the arrays of order {number} are not those of an n-gram model")
