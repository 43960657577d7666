"""Documents + tokenizer -> ids on disk: a flat little-endian file, memory-mapped, with a JSON sidecar written last.

`NAME.bin` holds uint16 ids where the vocabulary has at most 65,536 symbols, else uint32. `NAME.json` says so, with the
count, the tokenizer's fingerprint and the text's SHA-256; without it, or if it does not fit, the file does not count.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.corpus import Piece, Survey, TextCounts
from lstmlm.errors import ArtefactError, DataError
from lstmlm.storage import read_json, sha256_of, storage_errors, to_json, write_atomic
from lstmlm.tokenizer import Encoded, Tokenizer

Ids = NDArray[np.uint16] | NDArray[np.uint32]


_IDS_AT_ONCE = 1 << 22


def id_type(vocabulary_size: int) -> np.dtype[Any]:
    """The narrowest of the two types that holds ids 0 to `vocabulary_size - 1`."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")


@dataclass(frozen=True)
class TokenCounts:
    """What a text became."""

    tokens: int
    tokens_eos: int
    tokens_unknown: int


def count_tokens(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> TokenCounts:
    """Tokenize a text only to count."""
    counter = _Counter(tokenizer)
    for encoded in tokenizer.encode_documents(pieces):
        counter.add(encoded)
    return counter.counts


class _Counter:
    """Ids as an array, counted as they pass."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._dtype = id_type(tokenizer.vocabulary_size)
        self.counts = TokenCounts(0, 0, 0)

    def add(self, encoded: Encoded) -> Ids:
        ids: Ids = np.asarray(encoded.ids, dtype=self._dtype)
        unk, before = self._tokenizer.unk, self.counts
        self.counts = TokenCounts(
            tokens=before.tokens + len(ids),
            tokens_eos=before.tokens_eos + int(np.count_nonzero(ids == self._tokenizer.eos)),
            tokens_unknown=before.tokens_unknown + (0 if unk is None else int(np.count_nonzero(ids == unk))),
        )
        return ids


def read_segments(
    tokenizer: Tokenizer, files: Iterable[Iterable[Piece]], mode: str = "stream"
) -> tuple[list[Ids], TextCounts]:
    """The ids of a text, in memory, and its counts; cut at each file (`stream`), each `document`, or each `line`."""
    watcher = Survey()
    dtype = id_type(tokenizer.vocabulary_size)
    segments: list[Ids] = []
    for part in files:
        ids: list[Ids] = []
        ends: list[int] = []
        length = 0
        for encoded in tokenizer.encode_documents(watcher.watch(part)):
            ids.append(np.asarray(encoded.ids, dtype=dtype))
            found = encoded.line_ends if mode == "line" else encoded.document_ends if mode == "document" else []
            ends += [length + end for end in found]
            length += len(encoded.ids)
        pieces = np.split(np.concatenate(ids), ends) if ids else []
        segments += [piece for piece in pieces if len(piece)]
    return segments, watcher.counts


@dataclass(frozen=True)
class TokenStore:
    """The ids of one split on disk."""

    ids: Ids
    """[N], memory-mapped."""
    file_ends: list[int]
    """Where in `ids` each file of the text ends; the state of a model is not carried across."""
    tokens: TokenCounts
    text: TextCounts
    tokenizer_fingerprint: str

    @property
    def files(self) -> list[Ids]:
        """The ids of each file."""
        return np.split(self.ids, self.file_ends[:-1])  # type: ignore[return-value]  # all of one type

    def count_symbols(self, vocabulary_size: int) -> NDArray[np.int64]:
        """How often each id occurs, [V]; a few megabytes at a time."""
        counts = np.zeros(vocabulary_size, np.int64)
        for begin in range(0, len(self.ids), _IDS_AT_ONCE):
            counts += np.bincount(self.ids[begin : begin + _IDS_AT_ONCE], minlength=vocabulary_size)
        return counts


@dataclass(frozen=True)
class Progress:
    """Tokenization so far."""

    tokens: int
    text_bytes: int


def build_store(path: Path, files: Iterable[Iterable[Piece]], tokenizer: Tokenizer) -> Iterator[Progress]:
    """Write the text of `files` to `path.bin` and `path.json`, yielding progress.

    Memory stays flat, and a stop in between leaves no store.

    Raises:
        DataError: the text has not a single token.
        StorageError: the disk is full or does not let us write.
    """
    sidecar, binary = path.with_suffix(".json"), path.with_suffix(".bin")
    watcher, counter, digest = Survey(), _Counter(tokenizer), hashlib.sha256()
    file_ends: list[int] = []
    with storage_errors(binary):
        sidecar.unlink(missing_ok=True)
        with binary.open("wb") as file:
            for pieces in files:
                for encoded in tokenizer.encode_documents(watcher.watch(pieces)):
                    data = counter.add(encoded).tobytes()
                    file.write(data)
                    digest.update(data)
                    yield Progress(counter.counts.tokens, watcher.counts.bytes)
                file_ends.append(counter.counts.tokens)
            file.flush()
            os.fsync(file.fileno())
    if not counter.counts.tokens:
        raise DataError("the text is empty; expected some text")
    about = {
        "dtype": id_type(tokenizer.vocabulary_size).str,
        "tokens": asdict(counter.counts),
        "file_ends": file_ends,
        "text": asdict(watcher.counts),
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "sha256": digest.hexdigest(),
        "complete": True,
    }
    write_atomic(sidecar, to_json(about))


def open_store(path: Path, *, verify: bool = False) -> TokenStore:
    """Map a store that was built completely; with `verify`, every byte is checked first.

    Raises:
        ArtefactError: there is none, or the two files do not fit together.
    """
    about = read_json(path.with_suffix(".json"))
    binary = path.with_suffix(".bin")
    try:
        tokens = TokenCounts(**about["tokens"])
        text = TextCounts(**about["text"])
        if about["complete"] is not True or binary.stat().st_size != tokens.tokens * np.dtype(about["dtype"]).itemsize:
            raise ArtefactError(f"{binary} is not the file that its .json describes")
        if verify and sha256_of(binary) != about["sha256"]:
            raise ArtefactError(f"{binary} was altered: its SHA-256 is not the one in its .json")
        ids: Ids = np.memmap(binary, dtype=about["dtype"], mode="r")
        return TokenStore(ids, about["file_ends"], tokens, text, about["tokenizer_fingerprint"])
    except (KeyError, TypeError, OSError, ValueError) as error:
        raise ArtefactError(f"{binary} cannot be opened: {error}") from error
