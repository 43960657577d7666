"""How unexpected each token, word or line of a text is: the sum that `evaluate` reports, taken apart.

N tokens of a text, V vocabulary
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.config import BOUNDARIES, UNITS
from lstmlm.corpus import Piece
from lstmlm.corpus.reading import into_documents, split_lines
from lstmlm.errors import DivergedError, UsageError
from lstmlm.ngram import LoadedNGram
from lstmlm.predictor import AnyModel, Predictor
from lstmlm.reader import Reader
from lstmlm.scoring import score_segments
from lstmlm.token_store import id_type
from lstmlm.tokenizer import Tokenizer

Model = AnyModel | Predictor[Any] | Reader
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


def surprisals(model: Model, text: str, per: str = "token", *, boundary: str = "leading") -> list[Surprisal]:
    r"""Surprisal of each token, word or line of `text`, in nats, read as `evaluate` reads a file with the text.

    The state is zero and the first input `<eos>`, whatever a session has read. The model's document rule says where
    documents end; the `<eos>` that closes one is a token without characters and belongs to the document's last line.

    A word is what stands between white space, and a line is as unexpected as its tokens with its line end together; one
    without tokens is left out. A token counts to a word if it spells any of it, be it with the space before; tokens of white
    space alone and `<eos>` count to none. So the tokens' nats add up to the lines', and to the `nll_nats` of `evaluate`.

    That a word ends is thus told by the token after it, which carries the space: `leading`. With `trailing`, the part of
    that token's surprisal which says that the word ends, -ln of the sum of p over all tokens that begin with white space and
    `<eos>`, moves to the word (Pimentel & Meister 2024, arXiv 2406.14561; Oh & Schuler 2024, arXiv 2406.10851). Then
    "the" is no longer more likely than it should be because "then" begins with it. Sums stay the same. Word models tell
    where words end in any case. It takes a step of the model for each token.

    Raises:
        UsageError: `per` or `boundary` is not one of the above.
        DataError: the text holds half of a surrogate pair.
        DivergedError: a token has no finite probability.
    """
    for name, value, allowed in (("per", per, UNITS), ("boundary", boundary, BOUNDARIES)):
        if value not in allowed:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    reader = model if isinstance(model, Reader) else Reader(model)
    tokenizer, loaded = reader.tokenizer, reader.predictor.loaded
    pieces = list(into_documents([text] if text else [], loaded.documents))
    tokens = list(_tokens(tokenizer, pieces))
    ids = [token.id for token in tokens]
    if boundary == "trailing" and tokenizer.kind != "word":
        nats_N = _with_word_ends(reader, ids, [text[token.last : token.last + 1].strip() != "" for token in tokens])
    else:
        nats_N = _nats(reader, ids)
    return _taken_apart(tokenizer, tokens, text, nats_N, per)


def taken_apart(tokenizer: Tokenizer, pieces: Sequence[Piece], nats_N: NDArray[np.float64], per: str) -> list[Surprisal]:
    """`surprisals` of a text, as documents, whose tokens are scored already (those of more text may follow in `nats_N`)."""
    text = "".join(piece.text + piece.separator for piece in pieces)
    return _taken_apart(tokenizer, list(_tokens(tokenizer, pieces)), text, nats_N, per)


def _taken_apart(
    tokenizer: Tokenizer, tokens: Sequence[_Token], text: str, nats_N: NDArray[np.float64], per: str
) -> list[Surprisal]:
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


def _nats(reader: Reader, ids: Sequence[int]) -> NDArray[np.float64]:
    """Surprisal of each token given those before it, [N]."""
    loaded = reader.predictor.loaded
    if reader.predictor.learns:
        rows = zip(_stepped(reader, ids), ids, strict=True)
        return np.array([_surprisal(probabilities_V[token], place) for place, (probabilities_V, token) in enumerate(rows)])
    ids_N = np.array(ids, id_type(loaded.tokenizer.vocabulary_size))
    if isinstance(loaded, LoadedNGram):
        return loaded.model.score(ids_N)
    return score_segments(loaded.model, [ids_N], eos=loaded.tokenizer.eos).nats_N


def _with_word_ends(reader: Reader, ids: Sequence[int], in_word_N: Sequence[bool]) -> NDArray[np.float64]:
    """As `_nats`, but that a word ends counts to its last token and not to the one after it; the sum is the same."""
    tokenizer = reader.tokenizer
    spelled = [tokenizer.spelling(token).decode(errors="replace") for token in range(tokenizer.vocabulary_size)]
    ends_word_V = np.array([string[:1].isspace() for string in spelled])
    ends_word_V[tokenizer.eos] = True
    nats_N = np.empty(len(ids))
    for place, probabilities_V in enumerate(_stepped(reader, ids)):
        nats_N[place] = _surprisal(probabilities_V[ids[place]], place)
        if place and in_word_N[place - 1] and ends_word_V[ids[place]]:
            end = _surprisal(probabilities_V[ends_word_V].sum(), place)
            nats_N[place - 1] += end
            nats_N[place] = max(0.0, nats_N[place] - end)  # below 0 by rounding alone
    return nats_N


def _surprisal(probability: float, place: int) -> float:
    if not probability > 0:  # below the least float, or nan
        raise DivergedError(f"token {place:,} of the text has no finite surprisal: its probability is {probability}")
    return -math.log(probability)


def _stepped(reader: Reader, ids: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    """Before each token, p of every token as the next one, [V]."""
    predictor = reader.predictor
    place = predictor.start
    for token in ids:
        yield predictor.distributions([place])[0]
        place = predictor.read(place, [token]) if predictor.learns else predictor.ahead([place], [token])[0]


def _tokens(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> Iterator[_Token]:
    """The tokens of a text as `Tokenizer.encode_documents` gives them, and where they stand."""
    begin = 0
    line = (0, 0)
    is_open = False
    for piece in pieces:
        encoded = tokenizer.encode_with_offsets(piece.text)
        for content, (ids, offsets) in zip(split_lines(piece.text), encoded, strict=True):
            line = (begin, begin + len(content.removesuffix("\n")))
            spans = _without_overlap(content, offsets, skip_white=tokenizer.kind == "word")
            for token, (start, end), (_, touched) in zip(ids, spans, offsets, strict=True):
                yield _Token(token, (begin + start, begin + end), begin + touched - 1, line)
            begin += len(content)
            is_open = not content.endswith("\n")
        if piece.ends_document:
            if is_open or tokenizer.kind != "word":
                yield _Token(tokenizer.eos, (begin, begin), -1, line)
            is_open = False
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
