"""Everything a run is a function of, besides the text itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lstmlm.checkpoint import RUN_FILE
from lstmlm.config import (
    CorpusConfig,
    ModelConfig,
    RuntimeConfig,
    TokenizerConfig,
    TrainConfig,
    from_mapping,
    to_mapping,
)
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.storage import read_json

_LENGTHS = ("budget", "epochs", "steps")
_MAY_DIFFER = (("training", "checkpoint_every"), ("model", "vocabulary_size"))
"""The first may change between two parts of a run; the second is the tokenizer's and never an option."""


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

    def to_mapping(self) -> dict[str, Any]:
        """As it stands in `run.json` and in every checkpoint."""
        return {"sources": list(self.sources)} | {
            name: to_mapping(getattr(self, name)) for name in ("corpus", "tokenizer", "model", "training", "runtime")
        }

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any], where: str) -> RunOptions:
        """The inverse of `to_mapping`; anything else is an `ArtefactError` that names `where`."""
        try:
            return cls(
                sources=tuple(options["sources"]),
                corpus=from_mapping(CorpusConfig, options["corpus"], where),
                tokenizer=from_mapping(TokenizerConfig, options["tokenizer"], where),
                model=from_mapping(ModelConfig, options["model"], where),
                training=from_mapping(TrainConfig, options["training"], where),
                runtime=from_mapping(RuntimeConfig, options["runtime"], where),
            )
        except (KeyError, TypeError) as error:
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
        for section in ("corpus", "tokenizer", "model", "training"):
            for name, value in theirs[section].items():
                given = mine[section][name]
                if (section, name) in _MAY_DIFFER or given in (value, None):
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


def absolute_sources(sources: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Sources under names that hold from any working directory."""
    names = [os.fspath(source) for source in sources]
    return tuple(os.path.abspath(name) if os.path.exists(name) else name for name in names)
