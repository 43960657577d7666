"""From sources to a run directory: tokenizer, ids on disk, `run.json`; and the same run found again to continue it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lstmlm.checkpoint import CONFIG, RUN_FILE, TOKENIZER
from lstmlm.config import TokenizerConfig
from lstmlm.corpus import Corpus, Overlap, Piece, measure_overlaps, open_corpus, survey
from lstmlm.errors import ArtefactError, DataError, UsageError
from lstmlm.runtime import StopRequest, versions
from lstmlm.storage import make_directory, read_json, to_json, write_atomic
from lstmlm.token_store import TokenStore, build_store, open_store
from lstmlm.tokenizer import Tokenizer
from lstmlm.training.events import Tokenizing
from lstmlm.training.fitting import fitted_vocabulary_size
from lstmlm.training.options import RunOptions

_NOTICED_OVERLAP = 0.01


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


def prepare(
    run: Path, options: RunOptions, checkpoint: Path | None, stop: StopRequest, tokenizer: Tokenizer | None = None
) -> Iterator[Tokenizing | Material]:
    """Yield progress, and last the `Material` of a run, reusing what is complete and unchanged on disk.

    A `tokenizer` that is given is not trained anew. With a `checkpoint`, its tokenizer is taken and the text must be the
    one it was trained on.

    Raises:
        UsageError: the text is another one than that of the checkpoint.
    """
    corpus = open_corpus(options.sources, options.corpus)
    if "valid" not in corpus.splits:
        raise DataError(f"{corpus.name} has no validation text; expected a valid.* file, or a --split such as 90/5/5")
    if checkpoint is None and tokenizer is None:
        tokenizer = make_tokenizer(options.tokenizer, corpus, stop, fit="vocabulary_size" in options.fit)
    elif checkpoint is not None:
        about = read_json(checkpoint / CONFIG)
        tokenizer = Tokenizer.load((checkpoint / TOKENIZER).read_bytes(), options.tokenizer)
        for split, sha256 in about["training"]["text_sha256"].items():
            if split not in corpus.splits or survey(_until_stopped(corpus.pieces(split), stop)).sha256 != sha256:
                raise UsageError(
                    f"the {split} text of {corpus.name} has changed since this run was started; start a new one"
                )
    assert tokenizer is not None, "given, or the checkpoint's, or trained"
    make_directory(run / "tokens")
    stores = {}
    for split in corpus.splits:
        path = run / "tokens" / split
        store = _complete_store(path, tokenizer) if checkpoint is not None else None
        if store is None:
            files = (_until_stopped(file, stop) for file in corpus.files(split))
            for progress in build_store(path, files, tokenizer):
                yield Tokenizing(split, progress.tokens, progress.text_bytes)
            store = open_store(path)
        stores[split] = store
    if checkpoint is None:
        held_out = {split: _until_stopped(corpus.pieces(split), stop) for split in corpus.splits if split != "train"}
        overlaps = measure_overlaps(held_out, _until_stopped(corpus.pieces("train"), stop))
    else:
        overlaps = {split: Overlap(**found) for split, found in read_json(run / RUN_FILE)["overlap"].items()}
    yield Material(corpus, tokenizer, stores, overlaps)


def make_tokenizer(config: TokenizerConfig, corpus: Corpus, stop: StopRequest, *, fit: bool) -> Tokenizer:
    """A vocabulary of the training split; with `fit`, a BPE of a size that goes with its length."""
    if fit and config.kind == "bpe":
        text = survey(_until_stopped(corpus.pieces("train"), stop))
        config = replace(config, vocabulary_size=fitted_vocabulary_size(text.bytes))
    return Tokenizer.train(config, _until_stopped(corpus.pieces("train"), stop))


def _until_stopped(pieces: Iterable[Piece], stop: StopRequest) -> Iterator[Piece]:
    for piece in pieces:
        stop.check()
        yield piece


def _complete_store(path: Path, tokenizer: Tokenizer) -> TokenStore | None:
    try:
        store = open_store(path, verify=True)
    except ArtefactError:
        return None
    return store if store.tokenizer_fingerprint == tokenizer.fingerprint else None


def write_run_file(
    run: Path, settled: RunOptions, material: Material, precision: str, forecast: Mapping[str, Any] | None
) -> None:
    """`run.json`: options, the text with its hashes and counts, what a fit expects, versions."""
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
        "forecast": forecast,
        "versions": versions(),
    }
    write_atomic(run / RUN_FILE, to_json(about))
