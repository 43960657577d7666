"""What a model was trained on, and the text that was kept from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lstmlm.config import CorpusConfig, from_mapping
from lstmlm.corpus import Corpus, open_corpus
from lstmlm.errors import ArtefactError, DataError, UsageError
from lstmlm.predictor import AnyModel
from lstmlm.token_store import Ids, open_store, read_segments


def trained_on(loaded: AnyModel) -> tuple[tuple[str, ...], CorpusConfig] | None:
    """The sources that a model was trained on, and how they were read; `None` where it does not know.

    Raises:
        ArtefactError: what it says about them cannot be meant.
    """
    about = loaded.training.get("options")
    if not about:
        return None
    try:
        return tuple(about["sources"]), from_mapping(CorpusConfig, about["corpus"], str(loaded.path))
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{loaded.path} is damaged: {error}") from error


def trained_sha256(loaded: AnyModel, split: str) -> str | None:
    """The SHA-256 that a split had when the model was trained, if it knows."""
    hashes = loaded.training.get("text_sha256")
    return hashes.get(split) if isinstance(hashes, dict) else None


def held_out(loaded: AnyModel) -> tuple[Corpus, str, str | None]:
    """The text that training kept from the model: where it is, its split (test, else valid), its SHA-256 then.

    Raises:
        UsageError: the model does not know what it was trained on, or that does not exist any more.
        DataError: it cannot be read.
    """
    about = trained_on(loaded)
    if about is None:
        raise UsageError(f"{loaded.path} does not know what it was trained on")
    corpus = open_corpus(*about)
    split = "test" if "test" in corpus.splits else "valid"
    return corpus, split, trained_sha256(loaded, split)


def training_segments(loaded: AnyModel) -> list[Ids]:
    """The training text in the model's tokens, file by file: from beside the model, or read again.

    Raises:
        UsageError: the model does not know what it was trained on, or that does not exist any more.
        DataError: it cannot be read, or has changed.
    """
    try:
        store = open_store(loaded.path.resolve().parent / "tokens" / "train")
        if store.tokenizer_fingerprint == loaded.tokenizer.fingerprint:
            return store.files
    except (ArtefactError, OSError):
        pass
    about = trained_on(loaded)
    if about is None:
        raise UsageError(f"{loaded.path} does not know what it was trained on; leave its training text out of the report")
    corpus = open_corpus(*about)
    segments, counts = read_segments(loaded.tokenizer, corpus.files("train"))
    if trained_sha256(loaded, "train") not in (None, counts.sha256):
        raise DataError(f"the train text of {corpus.name} has changed since this model was trained")
    return segments


def count_symbols(segments: list[Ids], vocabulary_size: int) -> NDArray[np.int64]:
    """How often each token stands in a text, [V]."""
    counts_V = np.zeros(vocabulary_size, np.int64)
    for ids in segments:
        counts_V += np.bincount(ids, minlength=vocabulary_size)
    return counts_V
