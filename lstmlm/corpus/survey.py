"""What a text amounts to (counts, hash), and how much of a held-out text also stands in the training text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lstmlm.corpus.reading import Piece

NGRAM = 13
"""Words of a shared sequence that counts as the same text (the length used for GPT-3, Brown et al. 2020, appendix C)."""
_EOS = "<eos>"
_COUNTED = ("bytes", "chars", "words", "lines", "documents", "replaced", "literal_eos", "separators")
_FEW = 1e-3
"""Of all bytes."""
_SHORTEST_LINE = 5
"""Words of the shortest line that counts: "Thank you." stands in every text."""


@dataclass(frozen=True)
class TextCounts:
    """The size of a text after the text policy; `words` are runs between white space."""

    bytes: int = 0
    chars: int = 0
    words: int = 0
    lines: int = 0
    documents: int = 0
    replaced: int = 0
    """U+FFFD characters: bytes that were not UTF-8 and read with `--encoding-errors replace`, or so written in the text."""
    literal_eos: int = 0
    """Times the text itself says `<eos>`, which a word model can only read as unknown."""
    separators: int = 0
    """UTF-8 of the blank lines that end documents and belong to none."""
    sha256: str = ""

    def notes(self, kind: str) -> list[str]:
        """What a person should know about this text before reading figures on it, with a tokenizer of `kind`."""
        found = []
        if self.replaced:
            found.append(f"{self.replaced:,} characters stand for bytes that were not UTF-8 (U+FFFD)")
        if self.literal_eos and kind == "word":
            found.append(f"the text itself says {_EOS} {self.literal_eos:,} times; it is read as unknown")
        if self.separators - self.documents > self.bytes * _FEW:  # the `<eos>` of a document stands for one
            found.append(
                f"{self.separators:,} bytes are blank lines that belong to none of the {self.documents:,} documents: no "
                "token spells them, but bits per byte count them"
            )
        return found


class Survey:
    """Counts text as it passes by; several texts can be surveyed as one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._counts = dict.fromkeys(_COUNTED, 0)

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yield the pieces on, counting each."""
        open_line = False
        counts = self._counts
        for piece in pieces:
            text = piece.text + piece.separator
            encoded = text.encode()
            self._digest.update(encoded)
            counts["bytes"] += len(encoded)
            counts["chars"] += len(text)
            counts["words"] += len(text.split())
            counts["lines"] += text.count("\n")
            counts["documents"] += piece.ends_document
            counts["separators"] += len(piece.separator.encode())
            counts["replaced"] += text.count("\ufffd")
            counts["literal_eos"] += text.count(_EOS)
            if text:
                open_line = not text.endswith("\n")
            if open_line and (piece.ends_document or piece.separator):
                counts["lines"] += 1
                open_line = False
            yield piece

    @property
    def counts(self) -> TextCounts:
        return TextCounts(**self._counts, sha256=self._digest.hexdigest())


def survey(pieces: Iterable[Piece]) -> TextCounts:
    """Read everything once and count it."""
    watcher = Survey()
    for _ in watcher.watch(pieces):
        pass
    return watcher.counts


@dataclass(frozen=True)
class Overlap:
    """Parts, from 0 to 1, of a held-out text that also stand in the training text."""

    lines: float
    """Of its lines of at least five words, those that stand there exactly."""
    ngrams: float
    """Of its sequences of 13 words, those that stand there exactly."""


def measure_overlaps(held_out: Mapping[str, Iterable[Piece]], training: Iterable[Piece]) -> dict[str, Overlap]:
    """How much of each held-out text stands in `training`, which is read once; only hashes are kept."""
    sought = {name: (_Sought(), _Sought()) for name in held_out}
    for name, pieces in held_out.items():
        lines, ngrams = sought[name]
        for piece in pieces:
            lines.add(_line_hashes(piece.text))
            ngrams.add(_ngram_hashes(piece.text))
    for piece in training:
        line_hashes, ngram_hashes = _line_hashes(piece.text), _ngram_hashes(piece.text)
        for lines, ngrams in sought.values():
            lines.look_in(line_hashes)
            ngrams.look_in(ngram_hashes)
    return {name: Overlap(lines=lines.found, ngrams=ngrams.found) for name, (lines, ngrams) in sought.items()}


class _Sought:
    """A set of hashes, with a mark for each that was found elsewhere."""

    def __init__(self) -> None:
        self._added: list[NDArray[np.int64]] = [_EMPTY]

    def add(self, hashes: NDArray[np.int64]) -> None:
        self._added.append(hashes)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.bool_]]:
        """The distinct hashes, how often each occurs, and whether it was found."""
        values, counts = np.unique(np.concatenate(self._added), return_counts=True)
        self._added.clear()
        return values, counts, np.zeros(len(values), bool)

    def look_in(self, hashes: NDArray[np.int64]) -> None:
        values, _, seen = self._sorted
        if len(values) and len(hashes):
            places = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
            seen[places[values[places] == hashes]] = True

    @property
    def found(self) -> float:
        """The part found, from 0 to 1, each hash counted as often as it occurs."""
        _, counts, seen = self._sorted
        return float(counts[seen].sum() / max(1, counts.sum()))


_EMPTY: NDArray[np.int64] = np.zeros(0, np.int64)


def _line_hashes(text: str) -> NDArray[np.int64]:
    return np.fromiter((hash(line) for line in text.split("\n") if len(line.split()) >= _SHORTEST_LINE), np.int64)


def _ngram_hashes(text: str) -> NDArray[np.int64]:
    """One hash for each sequence of 13 words: a polynomial in the words' own hashes, modulo 2^64."""
    words = np.fromiter(map(hash, text.split()), np.int64)
    count = len(words) - NGRAM + 1
    if count <= 0:
        return _EMPTY
    total = np.zeros(count, np.int64)
    for place in range(NGRAM):
        total = total * np.int64(6364136223846793005) + words[place : place + count]  # Knuth's MMIX multiplier
    return total
