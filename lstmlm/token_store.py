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
from lstmlm.corpus.reading import split_lines
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


@dataclass(frozen=True)
class ReadText:
    """A text in memory: its N ids, where its files, documents and lines end in them, and the size of each line."""

    ids_N: Ids
    file_ends_F: NDArray[np.int64]
    """One past the last id of each, those without ids left out; the same for documents and lines. A file ends both."""
    document_ends_D: NDArray[np.int64]
    line_ends_L: NDArray[np.int64]
    line_bytes_L: NDArray[np.int64]
    """UTF-8 of each line, with its line end and blank lines after it that belong to no document."""
    line_words_L: NDArray[np.int64]
    counts: TextCounts

    def segments(self, mode: str) -> list[Ids]:
        """The ids cut at each file (`stream`), each `document`, or each `line`."""
        ends = {"stream": self.file_ends_F, "document": self.document_ends_D, "line": self.line_ends_L}[mode]
        found: list[Ids] = np.split(self.ids_N, ends[:-1])  # type: ignore[assignment]  # all of one type
        return [piece for piece in found if len(piece)]


class _Lines:
    """The sizes of lines, as the tokenizer counts lines, while a text passes by."""

    def __init__(self, kind: str) -> None:
        self.bytes: list[int] = []
        self.words: list[int] = []
        self._kind = kind
        self._size = self._words = 0
        """Of a line that has not ended, and of what stands before the first."""

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        is_open = has_lines = False
        for piece in pieces:
            for line in split_lines(piece.text):
                self._size += len(line.encode())
                self._words += len(line.split())
                is_open, has_lines = not line.endswith("\n"), True
                if not is_open:
                    self._close()
            if piece.ends_document:
                if is_open or (not has_lines and self._kind != "word"):  # an empty document is an `<eos>` alone
                    self._close()
                is_open = has_lines = False
            if self.bytes and not is_open:
                self.bytes[-1] += len(piece.separator.encode())
            else:
                self._size += len(piece.separator.encode())
            yield piece
        if is_open:
            self._close()

    def _close(self) -> None:
        self.bytes.append(self._size)
        self.words.append(self._words)
        self._size = self._words = 0


def read_text(tokenizer: Tokenizer, files: Iterable[Iterable[Piece]]) -> ReadText:
    """All of a text, in memory: 2 or 4 bytes a token."""
    watcher, lines = Survey(), _Lines(tokenizer.kind)
    dtype = id_type(tokenizer.vocabulary_size)
    ids: list[Ids] = []
    ends: dict[str, list[int]] = {"file": [], "document": [], "line": []}
    length = 0
    for part in files:
        for encoded in tokenizer.encode_documents(lines.watch(watcher.watch(part))):
            ids.append(np.asarray(encoded.ids, dtype=dtype))
            ends["line"] += [length + end for end in encoded.line_ends]
            ends["document"] += [length + end for end in encoded.document_ends]
            length += len(encoded.ids)
        ends["file"].append(length)
    file_ends_F, document_ends_D, line_ends_L = (
        np.setdiff1d(np.array([*found, *ends["file"]], np.int64), 0) for found in ends.values()
    )
    return ReadText(
        np.concatenate([np.empty(0, dtype), *ids]),
        file_ends_F,
        document_ends_D,
        line_ends_L,
        np.array(lines.bytes, np.int64),
        np.array(lines.words, np.int64),
        watcher.counts,
    )


def read_segments(
    tokenizer: Tokenizer, files: Iterable[Iterable[Piece]], mode: str = "stream"
) -> tuple[list[Ids], TextCounts]:
    """The ids of a text, in memory, cut as `ReadText.segments` says, and its counts."""
    found = read_text(tokenizer, files)
    return found.segments(mode), found.counts


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
