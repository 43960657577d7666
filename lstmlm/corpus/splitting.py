"""Splits for a source that has none: whole documents where there are several, else a cut at line ends.

Both ways depend on nothing but the text and the weights, so every run and every machine gets the same splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lstmlm.config import SPLITS
from lstmlm.corpus.reading import Piece, split_lines
from lstmlm.errors import DataError

Read = Callable[[], Iterator[Piece]]


@dataclass(frozen=True)
class SplitPlan:
    """Which part of a source each split is."""

    owners: bytes = b""
    """For several documents: the index in `SPLITS` of each document's split."""
    ends: tuple[int, ...] = ()
    """For a single document: the character at which each split ends."""

    def has(self, split: str) -> bool:
        """Whether `split` holds any text."""
        index = SPLITS.index(split)
        if self.owners:
            return index in self.owners
        return self.ends[index] > (0, *self.ends)[index]

    def part(self, read: Read, split: str) -> Iterator[Piece]:
        """The pieces of `split`, in order."""
        index = SPLITS.index(split)
        if self.owners:
            return _documents_of(read, self.owners, index)
        return _characters_of(read, (0, *self.ends)[index], self.ends[index])


def plan_split(read: Read, weights: tuple[int, ...], where: str) -> SplitPlan:
    """Read the source and decide.

    Raises:
        DataError: no text at all, or a single document that has no line end to cut at.
    """
    characters = documents = 0
    for piece in read():
        characters += len(piece.text)
        documents += piece.ends_document
    if not characters:
        raise DataError(f"{where} is empty; expected some text")
    if documents > 1:
        return SplitPlan(owners=assign_documents(documents, weights))
    return SplitPlan(ends=_line_cuts(read, characters, weights, where))


def assign_documents(count: int, weights: tuple[int, ...]) -> bytes:
    """The split of each of `count` documents, spread evenly over the source (smooth weighted round-robin).

    With very few documents the last ones become validation and test, as far as they reach.
    """
    credit = [0] * len(weights)
    owners = bytearray(count)
    for document in range(count):
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        owner = max(range(len(weights)), key=credit.__getitem__)
        credit[owner] -= sum(weights)
        owners[document] = owner
    wanted = [index for index, weight in enumerate(weights) if weight]
    if any(index not in owners for index in wanted):
        held_out = [index for index in wanted if index][: count - 1]
        owners[:] = bytes(count - len(held_out)) + bytes(held_out)
    return bytes(owners)


def _line_cuts(read: Read, characters: int, weights: tuple[int, ...], where: str) -> tuple[int, ...]:
    """The line ends nearest to the wished positions; validation always gets at least a line."""
    wished = [characters * sum(weights[: index + 1]) / sum(weights) for index in (0, 1)]
    train_end = valid_end = position = 0
    for piece in read():
        for line in split_lines(piece.text):
            position += len(line)
            if not line.endswith("\n") or position >= characters:
                continue
            if not train_end or abs(position - wished[0]) < abs(train_end - wished[0]):
                train_end, valid_end = position, characters
            elif weights[2] and abs(position - wished[1]) < abs(valid_end - wished[1]):
                valid_end = position
    if not train_end:
        raise DataError(
            f"{where} is a single line, so no validation part can be cut off; expected several lines or documents"
        )
    return train_end, valid_end, characters


def _documents_of(read: Read, owners: bytes, wanted: int) -> Iterator[Piece]:
    document = 0
    for piece in read():
        if owners[min(document, len(owners) - 1)] == wanted:
            yield piece
        document += piece.ends_document


def _characters_of(read: Read, start: int, end: int) -> Iterator[Piece]:
    position = 0
    for piece in read():
        low, high = max(start - position, 0), min(end - position, len(piece.text))
        position += len(piece.text)
        # a separator goes with the text before it, the first one with the beginning
        separator = piece.separator if start < position <= end or position == start == 0 else ""
        if low < high or separator:
            yield Piece(piece.text[low:high] if low < high else "", separator=separator)
        if position > end:
            break
    if end > start:
        yield Piece("", ends_document=True)
