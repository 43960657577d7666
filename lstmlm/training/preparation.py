"""From sources to a run directory: tokenizer, ids on disk, `run.json`; and the same run found again to continue it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lstmlm.checkpoint import CONFIG, RUN_FILE, TOKENIZER
from lstmlm.config import (
    CorpusConfig,
    ModelConfig,
    RuntimeConfig,
    TokenizerConfig,
    TrainConfig,
    from_mapping,
    to_mapping,
)
from lstmlm.corpus import Corpus, Overlap, measure_overlap, open_corpus, survey
from lstmlm.errors import ArtefactError, DataError, UsageError
from lstmlm.runtime import StopRequest, versions
from lstmlm.storage import make_directory, read_json, to_json, write_atomic
from lstmlm.token_store import TokenStore, build_store, open_store
from lstmlm.tokenizer import Tokenizer
from lstmlm.training.events import Tokenizing

_NOTICED_OVERLAP = 0.01


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Everything a run is a function of, besides the text itself."""

    sources: tuple[str, ...]
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    model: ModelConfig
    training: TrainConfig
    runtime: RuntimeConfig

    def to_mapping(self) -> dict[str, Any]:
        return {"sources": list(self.sources)} | {
            name: to_mapping(getattr(self, name)) for name in ("corpus", "tokenizer", "model", "training", "runtime")
        }

    @classmethod
    def read(cls, run: Path) -> RunOptions:
        """The options of an existing run, from its `run.json`."""
        about, where = read_json(run / RUN_FILE), str(run / RUN_FILE)
        if about.get("format") != "lstmlm-run" or not isinstance(about.get("options"), dict):
            raise ArtefactError(f"{where} does not describe a run of lstmlm")
        options = about["options"]
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
                if name != "checkpoint_every" and mine[section][name] not in (value, None):
                    raise UsageError(
                        f"this run was started with {name} {value}, not {mine[section][name]}; "
                        "leave the option away to continue it, or start another run with -o"
                    )
        training = replace(recorded.training, checkpoint_every=self.training.checkpoint_every)
        return replace(recorded, training=training, runtime=self.runtime)


def absolute_sources(sources: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Sources under names that hold from any working directory."""
    names = [os.fspath(source) for source in sources]
    return tuple(os.path.abspath(name) if os.path.exists(name) else name for name in names)


@dataclass(frozen=True)
class Material:
    """What training reads."""

    corpus: Corpus
    tokenizer: Tokenizer
    stores: dict[str, TokenStore]
    overlaps: dict[str, Overlap]

    @property
    def warnings(self) -> list[str]:
        """What a person should know about this text."""
        found = []
        for split, store in self.stores.items():
            found += [f"{split}: {note}" for note in store.text.notes(self.tokenizer.kind)]
        for split, overlap in self.overlaps.items():
            if max(overlap.lines, overlap.ngrams) >= _NOTICED_OVERLAP:
                found.append(
                    f"{overlap.lines:.1%} of the {split} split's lines (of five words or more) and {overlap.ngrams:.1%} "
                    "of its 13-word sequences also stand in the training text: figures on it flatter the model"
                )
        if "test" not in self.stores:
            found.append("this corpus has no test split: figures on the validation split, which chose the model, flatter it")
        return found


def prepare(run: Path, options: RunOptions, checkpoint: Path | None, stop: StopRequest) -> Iterator[Tokenizing | Material]:
    """Yield progress, and last the `Material` of a run, reusing what is complete and unchanged on disk.

    With a `checkpoint`, its tokenizer is taken and the text must be the one it was trained on.

    Raises:
        UsageError: the text is another one than that of the checkpoint.
    """
    corpus = open_corpus(options.sources, options.corpus)
    if "valid" not in corpus.splits:
        raise DataError(f"{corpus.name} has no validation text; expected a valid.* file, or a --split such as 90/5/5")
    if checkpoint is None:
        tokenizer = Tokenizer.train(options.tokenizer, _until_stopped(corpus, "train", stop))
    else:
        about = read_json(checkpoint / CONFIG)
        tokenizer = Tokenizer.load((checkpoint / TOKENIZER).read_bytes(), options.tokenizer)
        for split, sha256 in about["training"]["text_sha256"].items():
            if split not in corpus.splits or survey(corpus.pieces(split)).sha256 != sha256:
                raise UsageError(
                    f"the {split} text of {corpus.name} has changed since this run was started; start a new one"
                )
    make_directory(run / "tokens")
    stores = {}
    for split in corpus.splits:
        path = run / "tokens" / split
        store = _complete_store(path, tokenizer) if checkpoint is not None else None
        if store is None:
            for progress in build_store(path, _until_stopped(corpus, split, stop), tokenizer):
                yield Tokenizing(split, progress.tokens, progress.text_bytes)
            store = open_store(path)
        stores[split] = store
    if checkpoint is None:
        held_out = [split for split in corpus.splits if split != "train"]
        overlaps = {
            split: measure_overlap(corpus.pieces(split), _until_stopped(corpus, "train", stop)) for split in held_out
        }
    else:
        overlaps = {split: Overlap(**found) for split, found in read_json(run / RUN_FILE)["overlap"].items()}
    yield Material(corpus, tokenizer, stores, overlaps)


def _until_stopped(corpus: Corpus, split: str, stop: StopRequest) -> Iterator[Any]:
    for piece in corpus.pieces(split):
        stop.check()
        yield piece


def _complete_store(path: Path, tokenizer: Tokenizer) -> TokenStore | None:
    try:
        store = open_store(path, verify=True)
    except ArtefactError:
        return None
    return store if store.tokenizer_fingerprint == tokenizer.fingerprint else None


def write_run_file(run: Path, options: RunOptions, material: Material, precision: str) -> None:
    """`run.json`: options, the text with its hashes and counts, versions."""
    settled = replace(options, corpus=material.corpus.config)
    about = {
        "format": "lstmlm-run",
        "format_version": 1,
        "options": settled.to_mapping(),
        "precision": precision,
        "vocabulary_size": material.tokenizer.vocabulary_size,
        "tokenizer_fingerprint": material.tokenizer.fingerprint,
        "splits": {
            split: {"text": asdict(store.text), "tokens": asdict(store.tokens)} for split, store in material.stores.items()
        },
        "overlap": {split: asdict(overlap) for split, overlap in material.overlaps.items()},
        "versions": versions(),
    }
    write_atomic(run / RUN_FILE, to_json(about))
