"""How unexpected each token, word or line of a text is: the sum that `evaluate` reports, taken apart.

N tokens of a text
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import UNITS
from lstmlm.corpus.reading import into_documents, split_lines
from lstmlm.errors import UsageError
from lstmlm.generation import Session
from lstmlm.ngram import LoadedNGram
from lstmlm.scoring import score_segments
from lstmlm.token_store import id_type
from lstmlm.tokenizer import Tokenizer

Span = tuple[int, int]
"""Characters of a text, from and to."""


@dataclass(frozen=True, slots=True)
class Surprisal:
    """A piece of a text, and -ln p(piece | all of the text before it)."""

    text: str
    start: int
    end: int
    """`text` is the characters from `start` to `end`; none, for a token that only begins a character."""
    nats: float
    tokens: int
    unknown: bool
    """Whether a token of it is the unknown symbol, which stands for every word the model does not know."""

    @property
    def bits(self) -> float:
        """The same in bits, nats / ln 2."""
        return self.nats / math.log(2)


@dataclass(frozen=True, slots=True)
class _Token:
    id: int
    span: Span
    """Without overlap: a character belongs to the token that completes it."""
    last: int
    """The last character that it spells, if only a part of it; -1 for the `<eos>` of a document."""
    line: Span
    """The line that it belongs to, without its line end."""


def surprisals(model: LoadedModel | LoadedNGram | Session, text: str, per: str = "token") -> list[Surprisal]:
    r"""Surprisal of each token, word or line of `text`, in nats, read as `evaluate` reads a file with the text.

    The state is zero and the first input `<eos>`, whatever a session has read. The model's document rule says where
    documents end; the `<eos>` that closes one is a token without characters and belongs to the document's last line.

    A word is what stands between white space; the space that a token has before it counts to its word (Oh & Schuler 2024,
    arXiv 2406.10851, discuss that choice), while tokens of white space alone and `<eos>` are no part of any. A line is as
    unexpected as its tokens with its line end together; one without tokens is left out. So the tokens' nats add up to the
    lines', and to the `nll_nats` of `evaluate`.

    Raises:
        UsageError: `per` is not token, word or line.
        DataError: the text holds half of a surrogate pair.
        DivergedError: a token has no finite probability.
    """
    if per not in UNITS:
        raise UsageError(f"per is {per!r}; expected one of {', '.join(UNITS)}")
    loaded = model.loaded if isinstance(model, Session) else model
    tokenizer = loaded.tokenizer
    tokens = list(_tokens(tokenizer, text, loaded.documents))
    nats_N = _nats(loaded, [token.id for token in tokens])
    return [
        Surprisal(
            text[start:end],
            start,
            end,
            nats=math.fsum(nats_N[places]),
            tokens=len(places),
            unknown=any(tokens[place].id == tokenizer.unk for place in places),
        )
        for (start, end), places in _units(tokens, text, per)
    ]


def _nats(loaded: LoadedModel | LoadedNGram, ids: Sequence[int]) -> NDArray[np.float64]:
    """Surprisal of each token given those before it, [N]."""
    ids_N = np.array(ids, id_type(loaded.tokenizer.vocabulary_size))
    if isinstance(loaded, LoadedNGram):
        return loaded.model.score(ids_N)
    return score_segments(loaded.model, [ids_N], eos=loaded.tokenizer.eos).nats_N


def _tokens(tokenizer: Tokenizer, text: str, documents: str) -> Iterator[_Token]:
    """The tokens of a text as `Tokenizer.encode_documents` gives them, and where they stand."""
    begin = 0
    line = (0, 0)
    for piece in into_documents([text] if text else [], documents):
        lines = split_lines(piece.text)
        for content, (ids, offsets) in zip(lines, tokenizer.encode_with_offsets(lines), strict=True):
            line = (begin, begin + len(content.removesuffix("\n")))
            spans = _without_overlap(content, offsets, skip_white=tokenizer.kind == "word")
            for token, (start, end), (_, touched) in zip(ids, spans, offsets, strict=True):
                yield _Token(token, (begin + start, begin + end), begin + touched - 1, line)
            begin += len(content)
        if piece.ends_document and (tokenizer.kind != "word" or not text[:begin].endswith("\n")):
            yield _Token(tokenizer.eos, (begin, begin), -1, line)
        begin += len(piece.separator)


def _without_overlap(line: str, offsets: Sequence[Span], *, skip_white: bool) -> Iterator[Span]:
    """Offsets such that each character belongs to the token that completes it; what none stands for, to the one before."""
    start = 0
    for (_, end), (following, _) in zip(offsets, [*offsets[1:], (len(line), len(line))], strict=True):
        end = min(end, following)
        while end < following and not line[end].isspace():
            end += 1
        while skip_white and start < end - 1 and line[start].isspace():
            start += 1
        yield start, end
        start = end


def _units(tokens: Sequence[_Token], text: str, per: str) -> Iterator[tuple[Span, list[int]]]:
    """What there is a figure for: its characters, and the places of its tokens."""
    if per == "token":
        yield from ((token.span, [place]) for place, token in enumerate(tokens))
        return
    words = [word.span() for word in re.finditer(r"\S+", text)] if per == "word" else []
    starts = [start for start, _ in words]
    found: dict[Span, list[int]] = {}
    for place, token in enumerate(tokens):
        if per == "line":
            found.setdefault(token.line, []).append(place)
        elif (number := bisect_right(starts, token.last) - 1) >= 0 and token.last < words[number][1]:
            found.setdefault(words[number], []).append(place)
    yield from found.items()
