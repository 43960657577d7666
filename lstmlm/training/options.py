"""Everything a run is a function of, besides the text itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lstmlm.checkpoint import RUN_FILE
from lstmlm.config import (
    NEGATIVES,
    CorpusConfig,
    ModelConfig,
    RuntimeConfig,
    TokenizerConfig,
    TrainConfig,
    from_mapping,
    to_mapping,
)
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.recipes import Recipe
from lstmlm.storage import read_json

FITTED = frozenset(
    {"vocabulary_size", "embedding_size", "hidden_size", "num_layers", "batch_size", "window", "learning_rate"}
    | {"dropout_input", "dropout_hidden", "dropout_weight", "dropout_output"}
    | {"embedding_init", "traces", "weight_decay", "averaging", "momentum", "beta2"}
)
"""Settings that can be left open, for `fitting.py` to choose."""
_LENGTHS = ("budget", "epochs", "steps")
_SAMPLED_FROM = 12_000
"""Symbols from which a CPU trains faster on a sampled softmax."""
_MAY_DIFFER = (("training", "checkpoint_every"), ("model", "vocabulary_size"))
"""The first may change between two parts of a run; the second is the tokenizer's and never an option."""
_BEGINNINGS = ("recipe", "recipe_sha256", "start", "start_sha256")
"""Text, or None: where a run has its settings and its first weights from."""
SHAPE = ("cell", "input", "embedding_size", "hidden_size", "num_layers", "tied", "residual", "traces", "softmax", "cutoffs")
"""Fields of `ModelConfig` that, like the tokenizer, a warm-started run has from the model it starts from."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """One config for each owner, and where the text is."""

    sources: tuple[str, ...]
    training: TrainConfig
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    """Its vocabulary size is replaced by the tokenizer's."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    fit: frozenset[str] = frozenset()
    """Names of settings, of those in `FITTED`, that are chosen for the text, the time and the machine."""
    recipe: str | None = None
    """NAME@VERSION of the recipe that these options began from."""
    recipe_sha256: str | None = None
    start: str | None = None
    """The model, or run, whose weights this run begins with. It decides the tokenizer and the fields in `SHAPE`; of these,
    one that has its default counts as left open."""
    start_sha256: str | None = None
    """Of its `model.safetensors`; `None`: whatever is found there."""

    def __post_init__(self) -> None:
        if unknown := sorted(self.fit - FITTED):
            raise UsageError(f"{unknown[0]} cannot be fitted; expected some of {', '.join(sorted(FITTED))}")
        if self.training.negatives and (self.model.softmax != "full" or self.model.input != "embedding"):
            found = f"{self.model.input} input and a softmax that is {self.model.softmax}"
            raise UsageError(f"negatives sample a full softmax, of a model with an embedding; this one has {found}")
        if self.training.embedding_init == "spectral" and self.model.input != "embedding":
            raise UsageError("spectral embedding_init needs an embedding, and one-hot input has none; leave one away")
        if self.training.embedding_init == "spectral" and self.start is not None:
            raise UsageError("spectral embedding_init does not go with --from, whose model has its vectors; leave one away")

    @classmethod
    def from_recipe(cls, recipe: Recipe, sources: Sequence[str]) -> RunOptions:
        """What the recipe says, for this text."""
        return cls(
            sources=tuple(sources),
            corpus=recipe.corpus,
            tokenizer=recipe.tokenizer,
            model=recipe.model,
            training=recipe.training,
            runtime=recipe.runtime,
            recipe=recipe.label,
            recipe_sha256=recipe.sha256,
        )

    def settled(self, vocabulary_size: int, device_type: str) -> RunOptions:
        """These options with what they left open decided, once the vocabulary and the device are known."""
        model, training = replace(self.model, vocabulary_size=vocabulary_size), self.training
        if model.softmax == "adaptive":
            model = replace(model, cutoffs=model.cluster_starts[1:])
        if training.negatives is None:
            negatives = choose_softmax(vocabulary_size, device_type, input=model.input, softmax=model.softmax)
            training = replace(training, negatives=negatives)
        return replace(self, model=model, training=training)

    def to_mapping(self) -> dict[str, Any]:
        """As it stands in `run.json` and in every checkpoint."""
        began = {"sources": list(self.sources)} | {name: getattr(self, name) for name in _BEGINNINGS}
        return began | {
            name: to_mapping(getattr(self, name)) for name in ("corpus", "tokenizer", "model", "training", "runtime")
        }

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], where: str) -> RunOptions:
        """The inverse of `to_mapping`; anything else is an `ArtefactError` that names `where`."""
        try:
            training = {"negatives": 0} | options["training"]  # before there was a sampled softmax
            began: dict[str, Any] = {name: options.get(name) for name in _BEGINNINGS}
            for name, value in began.items():
                if not isinstance(value, str | None):
                    raise TypeError(f"{name} is not text")
            return cls(
                sources=tuple(options["sources"]),
                **began,
                corpus=from_mapping(CorpusConfig, options["corpus"], where),
                tokenizer=from_mapping(TokenizerConfig, options["tokenizer"], where),
                model=from_mapping(ModelConfig, options["model"], where),
                training=from_mapping(TrainConfig, training, where),
                runtime=from_mapping(RuntimeConfig, options["runtime"], where),
            )
        except (KeyError, TypeError, UsageError) as error:
            raise ArtefactError(f"{where} is damaged: {error}") from error

    @classmethod
    def read(cls, run: Path) -> RunOptions:
        """The options of an existing run, from its `run.json`."""
        about, where = read_json(run / RUN_FILE), str(run / RUN_FILE)
        if about.get("format") != "lstmlm-run" or not isinstance(about.get("options"), dict):
            raise ArtefactError(f"{where} does not describe a run of lstmlm")
        return cls.from_mapping(about["options"], where)

    def continuing(self, recorded: RunOptions) -> RunOptions:
        """The `recorded` options, with what may change from one part of a run to the next taken from these.

        Raises:
            UsageError: naming the first other option that was given (is not None) and differs.
        """
        mine, theirs = self.to_mapping(), recorded.to_mapping()
        if mine["sources"] != theirs["sources"]:
            raise UsageError(f"this run was started with {' '.join(recorded.sources)}, not {' '.join(self.sources)}")
        if self.recipe is not None and (self.recipe, self.recipe_sha256) != (recorded.recipe, recorded.recipe_sha256):
            if self.recipe == recorded.recipe:
                raise UsageError(f"recipe {self.recipe} is not what it was when this run was started; leave --recipe away")
            started = f"recipe {recorded.recipe}" if recorded.recipe else "no recipe"
            raise UsageError(f"this run was started with {started}, not {self.recipe}; leave --recipe away to continue it")
        if not self._starts_as(recorded):
            started = recorded.start or "no other model"
            raise UsageError(f"this run was started from {started}, not {self.start}; leave --from away to continue it")
        for section in ("corpus", "tokenizer", "model", "training"):
            for name, value in theirs[section].items():
                given = mine[section][name]
                if (section, name) in _MAY_DIFFER or name in self.fit or given in (value, None):
                    continue
                if self.leaves_to_start(section, name):
                    continue
                if name in _LENGTHS:
                    name, value = next((other, theirs[section][other]) for other in _LENGTHS if theirs[section][other])
                    given = " and ".join(f"{other} {mine[section][other]}" for other in _LENGTHS if mine[section][other])
                raise UsageError(
                    f"this run was started with {name.replace('_', ' ')} {value}, not {given}; "
                    "leave the option away to continue it, or start another run with -o"
                )
        training = replace(recorded.training, checkpoint_every=self.training.checkpoint_every)
        return replace(recorded, training=training, runtime=self.runtime)

    def _starts_as(self, recorded: RunOptions) -> bool:
        """Whether `start` is not given, or the `recorded` one; the model itself need not exist any more."""
        if self.start is None or recorded.start is None:
            return self.start is None
        if self.start_sha256 is not None:
            return self.start_sha256 == recorded.start_sha256
        given = Path(os.path.realpath(self.start))
        return given in (Path(recorded.start), Path(recorded.start).parent)  # or the run that it is a step of

    def leaves_to_start(self, section: str, name: str) -> bool:
        """Whether a setting has its default, and is one that the model started from decides."""
        if self.start is None or not (section == "tokenizer" or (section == "model" and name in SHAPE)):
            return False
        config = getattr(self, section)
        return bool(getattr(config, name) == getattr(type(config), name))


def choose_softmax(vocabulary_size: int, device_type: str, *, input: str, softmax: str) -> int:
    """Draws for a sampled softmax where it is what trains fastest, else 0: `--softmax auto`."""
    able = input == "embedding" and softmax == "full"
    return NEGATIVES if able and device_type == "cpu" and vocabulary_size >= _SAMPLED_FROM else 0


def absolute_sources(sources: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Sources under names that hold from any working directory."""
    names = [os.fspath(source) for source in sources]
    return tuple(os.path.abspath(name) if os.path.exists(name) else name for name in names)
