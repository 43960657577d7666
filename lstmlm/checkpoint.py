"""A model directory and a run directory: save, load, verify, find.

    MODEL/  config.json  tokenizer.json  model.safetensors  MANIFEST.json
    RUN/    run.json  metrics.jsonl  lock  tokens/  best -> step-000001234  step-.../  corrupt-.../

A step directory is a model directory with the training state beside it (`training.json`, `training.safetensors`). No
format here can carry code. What a file claims is checked against the configuration before anything is allocated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lstmlm.config import ModelConfig, TokenizerConfig, from_mapping, to_mapping
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.model import LanguageModel
from lstmlm.storage import MANIFEST, discard, point, publish, read_json, set_aside, to_json, verify
from lstmlm.tokenizer import Tokenizer

FORMAT, NGRAM_FORMAT = "lstmlm-model", "lstmlm-ngram"
_KINDS = {FORMAT: ("an lstmlm model", "lstmlm train"), NGRAM_FORMAT: ("an n-gram model", "lstmlm ngram")}
"""What each format is, and what makes it."""
FORMAT_VERSION = 1
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
TRAINING_STATE, TRAINING_TENSORS = "training.json", "training.safetensors"
RUN_FILE, BEST = "run.json", "best"
_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
_LONGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, ready to use."""

    path: Path
    model: LanguageModel
    tokenizer: Tokenizer
    documents: str
    """The document rule of its training text."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Where it came from: sources, options, steps (free form)."""
    sha256: str = ""
    """Of `model.safetensors`."""


def about_model(
    kind: str, model: Mapping[str, Any], tokenizer: Tokenizer, *, documents: str, training: Mapping[str, Any]
) -> dict[str, bytes]:
    """`config.json` and `tokenizer.json` of a directory that holds a model of this kind (its format)."""
    config = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        "model": dict(model),
        "tokenizer": {
            **to_mapping(tokenizer.config),
            "documents": documents,
            "lossless": tokenizer.lossless,
            "eos": tokenizer.eos,
            "unk": tokenizer.unk,
        },
        "training": dict(training),
    }
    return {CONFIG: to_json(config), TOKENIZER: tokenizer.to_json()}


def model_files(
    model: LanguageModel, tokenizer: Tokenizer, *, documents: str, training: Mapping[str, Any]
) -> dict[str, bytes]:
    """The content of a model directory, file by file."""
    about = about_model(FORMAT, to_mapping(model.config), tokenizer, documents=documents, training=training)
    return about | {WEIGHTS: pack_tensors(named_weights(model))}


def save_model(
    path: Path,
    model: LanguageModel,
    tokenizer: Tokenizer,
    *,
    documents: str = "file",
    training: Mapping[str, Any] | None = None,
) -> None:
    """Publish a model directory at `path`, which must not exist."""
    if path.exists():
        raise UsageError(f"{path} exists; choose another name")
    publish(path, model_files(model, tokenizer, documents=documents, training=training or {}))


def load_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a model directory, or the best model of a run directory; every byte is verified first.

    Raises:
        UsageError: `path` does not exist.
        ArtefactError: it is not a model, or is damaged; the message names the file.
    """
    found = open_directory(path, FORMAT, WEIGHTS)
    model_config = from_mapping(ModelConfig, found.model, str(found.path / CONFIG))
    if found.tokenizer.vocabulary_size != model_config.vocabulary_size:
        raise found.other_vocabulary()
    tensors = read_tensors(found.path / WEIGHTS)
    _check_weights(found.path / WEIGHTS, tensors, model_config)
    model = LanguageModel(model_config)
    restore_weights(model, tensors)
    return LoadedModel(
        found.path, model.to(device).eval(), found.tokenizer, found.documents, found.training, sha256=found.sha256
    )


@dataclass(frozen=True)
class OpenedDirectory:
    """A model directory, every byte verified, whose weights are still to be read."""

    path: Path
    model: Mapping[str, Any]
    """What its config says about the model."""
    tokenizer: Tokenizer
    documents: str
    training: Mapping[str, Any]
    sha256: str
    """Of the file of weights."""

    def other_vocabulary(self) -> ArtefactError:
        """The error for a tokenizer that is not the model's."""
        return ArtefactError(
            f"{self.path}: {TOKENIZER} has {self.tokenizer.vocabulary_size:,} symbols, which is not what {CONFIG} says"
        )


def open_directory(path: str | Path, kind: str, weights: str) -> OpenedDirectory:
    """Verify a model directory (or a run's best) of this kind, and read all but the file of its weights.

    Raises:
        UsageError: `path` does not exist.
        ArtefactError: it is no such model, or is damaged; the message names the file.
    """
    directory = resolve_model(Path(path))
    verify(directory)
    config = read_json(directory / CONFIG)
    if config.get("format") != kind:
        what, maker = _KINDS[kind]
        raise ArtefactError(
            f"{directory / CONFIG} is not that of {what} (its format is {config.get('format')!r}); expected one from {maker}"
        )
    if config.get("format_version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{directory} has format version {config.get('format_version')!r}; this lstmlm reads version {FORMAT_VERSION}"
        )
    listed = read_json(directory / MANIFEST)["files"]
    for name in (CONFIG, TOKENIZER, weights):
        if name not in listed:
            raise ArtefactError(f"{directory / MANIFEST} does not list {name}, which every model has")
    for section in ("model", "tokenizer", "training"):
        if not isinstance(config.get(section), dict):
            raise ArtefactError(f"{directory / CONFIG} has no section {section!r}")
    about = dict(config["tokenizer"])
    derived = {name: about.pop(name, None) for name in ("documents", "lossless", "eos", "unk")}
    tokenizer = Tokenizer.load(_read(directory / TOKENIZER), from_mapping(TokenizerConfig, about, str(directory / CONFIG)))
    opened = OpenedDirectory(
        directory, config["model"], tokenizer, str(derived["documents"]), config["training"], listed[weights]["sha256"]
    )
    if tokenizer.eos != derived["eos"]:
        raise opened.other_vocabulary()
    return opened


def is_kind(path: str | Path, kind: str) -> bool:
    """Whether a model directory, or a run's best model, says that it is of this kind.

    Raises:
        UsageError: `path` does not exist.
        ArtefactError: it is not a model.
    """
    return read_json(resolve_model(Path(path)) / CONFIG).get("format") == kind


def _check_weights(path: Path, tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Names and shapes must be exactly those of `config`, all of them float32; nothing of that size is built before."""
    layers = {name.split(".")[1] for name in tensors if name.startswith("rnn.")}
    if len(layers) != config.num_layers:
        raise ArtefactError(f"{path} has {len(layers)} layers; {CONFIG} asks for num_layers {config.num_layers}")
    try:
        with torch.device("meta"):
            weights = named_weights(LanguageModel(config))
    except (RuntimeError, TypeError, OverflowError) as error:
        raise ArtefactError(f"{path.with_name(CONFIG)} describes a model too large for any file") from error
    for name in sorted({*weights, *tensors}):
        wanted, found = _kind(weights.get(name)), _kind(tensors.get(name))
        if wanted != found:
            raise ArtefactError(f"{path}: tensor {name} is {found}; {CONFIG} asks for {wanted}")


def _kind(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def resolve_model(path: Path) -> Path:
    """The model directory that `path` names: itself, or a run's best (else newest) model."""
    if path.is_file() and path.suffix in _PICKLES:
        raise ArtefactError(f"{path} may carry code, and is not loaded; expected a model directory with {WEIGHTS}")
    if not path.is_dir():
        raise UsageError(f"{path} does not exist" if not path.exists() else f"{path} is a file; expected a model directory")
    if (path / MANIFEST).exists() or (path / CONFIG).exists():
        return path
    best = path / BEST
    if best.is_symlink():
        target = best.readlink()
        if len(target.parts) != 1:
            raise ArtefactError(f"{best} does not point to a model inside {path}")
        if best.is_dir():
            return path / target
    steps = step_directories(path)
    if steps:
        return steps[0]
    if (path / RUN_FILE).exists():
        raise ArtefactError(f"{path} is a run without a model yet; let it train, or continue it with --resume")
    if any(file.suffix in _PICKLES for file in path.iterdir()):
        raise ArtefactError(f"{path} holds pickled weights, which may carry code and are not loaded; expected {WEIGHTS}")
    raise ArtefactError(f"{path} is not a model: it has no {CONFIG}")


def named_weights(model: LanguageModel) -> dict[str, Tensor]:
    """The weights under the names of the file format (`rnn.0.weight_ih` for `rnn.layers.0.weight_ih`)."""
    return {name.replace("rnn.layers.", "rnn."): weight for name, weight in model.state_dict().items()}


def restore_weights(model: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into the model, keeping how its own are laid out in memory."""
    with torch.no_grad():
        for name, weight in named_weights(model).items():
            weight.copy_(tensors[name])


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file."""
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ArtefactError: it is something else; nothing larger than the file was allocated.
    """
    data = _read(path)
    _check_safetensors(path, data)
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ArtefactError(f"{path} is damaged: {error}") from error


def _check_safetensors(path: Path, data: bytes) -> None:
    looks = {
        b"\x80": "a pickle",
        b"PK\x03\x04": "a zip archive (as torch.save writes)",
        b"version https://git-lfs": "a Git LFS pointer",
    }
    looks |= {b"<!DOCTYPE": "an HTML page", b"<html": "an HTML page"}
    for start, kind in looks.items():
        if data.startswith(start) and data[8:9] != b"{":
            raise ArtefactError(f"{path} is {kind}, not a safetensors file; it is not loaded")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
        raise ArtefactError(f"{path} is not a safetensors file: its header claims {length:,} of {len(data):,} bytes")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise ArtefactError(f"{path} has a damaged header: a JSON {type(header).__name__} instead of an object")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}") from error


def step_name(step: int) -> str:
    return f"step-{step:09d}"


def step_directories(run: Path) -> list[Path]:
    """Checkpoints of a run, the newest (by step number) first."""
    found = (path for path in run.glob("step-*") if path.is_dir() and path.name[5:].isdecimal())
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest_valid(run: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint whose manifest verifies, and the damaged ones passed over, now renamed `corrupt-*`."""
    damaged: list[Path] = []
    for directory in step_directories(run):
        try:
            verify(directory)
            return directory, damaged
        except ArtefactError:
            damaged.append(set_aside(directory))
    return None, damaged


def save_step(run: Path, step: int, files: Mapping[str, bytes], *, best: bool) -> Path:
    """Publish a checkpoint, move `best` to it if it is, then drop all but the two newest and the best."""
    directory = run / step_name(step)
    if directory.exists():  # left by an attempt that failed after its last file
        discard(directory)
    publish(directory, files)
    if best:
        point(run / BEST, directory)
    prune(run)
    return directory


def prune(run: Path) -> None:
    """Drop all checkpoints but the two newest and the best."""
    keep = {path.name for path in step_directories(run)[:2]} | {best_step(run)}
    for path in step_directories(run):
        if path.name not in keep:
            discard(path)


def find_best(run: Path, step: int) -> bool:
    """Make `best` point to the checkpoint of `step`, as it should: a crash may have come between. False if it is gone."""
    directory = run / step_name(step)
    if directory.is_dir() and best_step(run) != directory.name:
        point(run / BEST, directory)
    return directory.is_dir()


def best_step(run: Path) -> str | None:
    """The name of the step directory that `best` points to."""
    link = run / BEST
    return link.readlink().name if link.is_symlink() else None
