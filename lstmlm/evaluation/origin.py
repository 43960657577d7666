"""What a model was trained on, and the text that was kept from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lstmlm.config import CorpusConfig, from_mapping
from lstmlm.corpus import Corpus, open_corpus
from lstmlm.errors import ArtefactError, LstmlmError, UsageError
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


def segments_of(loaded: AnyModel, split: str, *, stored: bool = False) -> list[Ids] | None:
    """The text of a split of the model's training, in its tokens, file by file; `None` where that cannot be had any more.

    From beside the model, or read again, unless only what is `stored` will do; a text that has changed is another text.
    """
    try:
        store = open_store(loaded.path.resolve().parent / "tokens" / split)
        if store.tokenizer_fingerprint == loaded.tokenizer.fingerprint:
            return store.files
    except (ArtefactError, OSError):
        pass
    about = trained_on(loaded)
    if stored or about is None:
        return None
    try:
        corpus = open_corpus(*about)
        segments, counts = read_segments(loaded.tokenizer, corpus.files(split))
    except (LstmlmError, OSError):
        return None
    return segments if trained_sha256(loaded, split) in (None, counts.sha256) else None


def count_symbols(segments: list[Ids], vocabulary_size: int) -> NDArray[np.int64]:
    """How often each token stands in a text, [V]."""
    counts_V = np.zeros(vocabulary_size, np.int64)
    for ids in segments:
        counts_V += np.bincount(ids, minlength=vocabulary_size)
    return counts_V
