"""What `lstmlm tune` adds to a model directory, so that the model stays in one place with all that it needs.

adaptation.json        {"format": "lstmlm-adaptation", "cache", "dynamic", "weights": {row: {part: weight}}, "tuned_on"}
gradients.safetensors  R of every parameter (`dynamic.py`), under the parameter's name in `model.safetensors`
ngram.safetensors      the n-grams of the training text (`ngram/directory.py`)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lstmlm.adaptation.dynamic import learning_parameters
from lstmlm.adaptation.mixture import ROWS, Row
from lstmlm.checkpoint import LoadedModel, pack_tensors, read_tensors
from lstmlm.config import CacheConfig, DynamicConfig, from_mapping, to_mapping
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.ngram import NGramModel, pack_ngram, read_ngram
from lstmlm.storage import MANIFEST, amend, read_json, to_json

FILE, GRADIENTS, NGRAMS = "adaptation.json", "gradients.safetensors", "ngram.safetensors"
FORMAT, FORMAT_VERSION = "lstmlm-adaptation", 1


@dataclass(frozen=True)
class Adaptation:
    """What was tuned for a model on its validation text; `None` is what only a part of the mixtures needs, and these not."""

    cache: CacheConfig
    dynamic: DynamicConfig | None
    gradient_rms: Mapping[str, Tensor]
    """Root mean square of the gradient of each parameter that learns, on the training text."""
    ngram: NGramModel | None
    weights: Mapping[str, Mapping[str, float]]
    """By row, the weights of what it mixes."""
    tuned_on: Mapping[str, Any]
    """The text, and what was found on it (free form)."""


def save_adaptation(loaded: LoadedModel, adaptation: Adaptation) -> None:
    """Add to the model directory, or take the place of what was tuned before."""
    assert adaptation.dynamic is not None, "tuned"
    assert adaptation.ngram is not None, "tuned"
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "cache": to_mapping(adaptation.cache),
        "dynamic": to_mapping(adaptation.dynamic),
        "weights": {row: dict(weights) for row, weights in adaptation.weights.items()},
        "tuned_on": dict(adaptation.tuned_on),
    }
    files = {
        FILE: to_json(about),
        GRADIENTS: pack_tensors(adaptation.gradient_rms),
        NGRAMS: pack_ngram(adaptation.ngram),
    }
    amend(loaded.path, files)


def has_adaptation(loaded: LoadedModel) -> bool:
    """Whether `loaded` was tuned."""
    return {FILE, GRADIENTS, NGRAMS} <= set(read_json(loaded.path / MANIFEST)["files"])


def load_adaptation(loaded: LoadedModel) -> Adaptation:
    """What was tuned for `loaded`, whose directory was verified when it was loaded.

    Raises:
        UsageError: nothing was tuned yet.
        ArtefactError: what is there does not fit the model.
    """
    if not has_adaptation(loaded):
        raise UsageError(f"{loaded.path} has no parameters for this yet; find them first: lstmlm tune {loaded.path}")
    try:
        return _read(loaded)
    except ArtefactError as error:
        raise ArtefactError(f"{error}; tune again: lstmlm tune {loaded.path}") from error


def _read(loaded: LoadedModel) -> Adaptation:
    path = loaded.path / FILE
    about = read_json(path)
    if (about.get("format"), about.get("format_version")) != (FORMAT, FORMAT_VERSION):
        found = f"format {about.get('format')!r}, version {about.get('format_version')!r}"
        raise ArtefactError(f"{path} is of {found}; this lstmlm reads {FORMAT!r}, version {FORMAT_VERSION}")
    for section in ("cache", "dynamic", "weights", "tuned_on"):
        if not isinstance(about.get(section), dict):
            raise ArtefactError(f"{path} has no section {section!r}")
    weights = {row.name: _weights(about["weights"].get(row.name), row, str(path)) for row in ROWS}
    rms = read_tensors(loaded.path / GRADIENTS)
    parameters = dict(loaded.model.named_parameters())
    shapes = {name: parameters[name].shape for name in learning_parameters(loaded.model)}
    if {name: tensor.shape for name, tensor in rms.items() if tensor.dtype == torch.float32} != shapes:
        raise ArtefactError(f"{loaded.path / GRADIENTS} does not fit the model")
    if not all(bool(torch.isfinite(tensor).all()) and float(tensor.min()) >= 0 for tensor in rms.values()):
        raise ArtefactError(f"{loaded.path / GRADIENTS} holds what is no root mean square")
    tokenizer = loaded.tokenizer
    return Adaptation(
        from_mapping(CacheConfig, about["cache"], str(path)),
        from_mapping(DynamicConfig, about["dynamic"], str(path)),
        rms,
        read_ngram(loaded.path / NGRAMS, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos),
        weights,
        about["tuned_on"],
    )


def _weights(found: object, row: Row, where: str) -> dict[str, float]:
    """Shares of exactly the row's parts."""
    if not isinstance(found, dict) or set(found) != set(row.parts):
        raise ArtefactError(f"{where} has no weights of {', '.join(row.parts)} for {row.name}")
    shares = {part: found[part] for part in row.parts}
    if not all(isinstance(share, float | int) and 0 < share <= 1 for share in shares.values()):
        raise ArtefactError(f"{where} has weights for {row.name} that are not above 0 and up to 1")
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ArtefactError(f"{where} has weights for {row.name} that do not add up to 1")
    return shares
