"""How unexpected each token, word or line of a text is: the sum that `evaluate` reports, taken apart.

N tokens of a text, V vocabulary
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import BOUNDARIES, UNITS
from lstmlm.corpus import Piece
from lstmlm.corpus.reading import into_documents, split_lines
from lstmlm.errors import DivergedError, UsageError
from lstmlm.ngram import LoadedNGram
from lstmlm.ngram.scoring import score_with_ngrams
from lstmlm.predictor import AnyModel, Predictor, open_predictor
from lstmlm.reader import Reader
from lstmlm.scoring import Scores, empty_guesses, fill_guess, score_segments
from lstmlm.token_store import Ids, id_type
from lstmlm.tokenizer import Tokenizer

Model = AnyModel | Predictor[Any] | Reader
Progress = Callable[[int, int], None]
"""Gets tokens done, and tokens in all."""
Span = tuple[int, int]
"""Characters of a text, from and to."""
_CHARACTERS_AT_ONCE = 1 << 20
_STEPS_BETWEEN_REPORTS = 64


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a model expected where a token stands, before it saw it."""

    rank: int
    """1 where the token was the likeliest; of equals, the smaller id comes first."""
    entropy_nats: float
    """Of the next token."""
    guess: str
    """The likeliest token."""
    probability: float
    """Of the guess."""

    @property
    def entropy_bits(self) -> float:
        """The same in bits."""
        return self.entropy_nats / math.log(2)


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
    line: int = 1
    """Its line in the text."""
    expectation: Expectation | None = None
    """Of its first token: of a word of several tokens, what was expected is known of their first alone. `None` unless
    asked for."""

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
    line_number: int


def surprisals(
    model: Model,
    text: str,
    per: str = "token",
    *,
    boundary: str = "leading",
    expectations: bool = False,
    progress: Progress | None = None,
) -> list[Surprisal]:
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
    where words end in any case. White space that begins in the middle of a token, or is spelled byte by byte (no-break
    spaces often are), moves nothing. It takes a step of the model for each token.

    With `expectations`, also what was expected in the place of each piece's first token.

    Raises:
        UsageError: `per` or `boundary` is not one of the above.
        DataError: the text holds half of a surrogate pair.
        DivergedError: a token has no finite probability.
    """
    (found,) = surprisals_of(model, [text], per, boundary=boundary, expectations=expectations, progress=progress)
    return list(found)


def surprisals_of(
    model: Model,
    texts: Sequence[str],
    per: str = "token",
    *,
    boundary: str = "leading",
    expectations: bool = False,
    progress: Progress | None = None,
) -> Iterator[Iterator[Surprisal]]:
    """`surprisals` of several texts, each read from the start, scored side by side; then made one by one as asked for.

    Of N tokens, 2 to 50 bytes each stay in memory beside the texts.
    """
    for name, value, allowed in (("per", per, UNITS), ("boundary", boundary, BOUNDARIES)):
        if value not in allowed:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    predictor = predictor_of(model)
    tokenizer, documents = predictor.tokenizer, predictor.loaded.documents
    tokens = [partial(_tokens_of, tokenizer, text, documents) for text in texts]
    dtype = id_type(tokenizer.vocabulary_size)
    segments: list[Ids] = [np.fromiter((token.id for token in found()), dtype) for found in tokens]
    if boundary == "trailing" and tokenizer.kind != "word":
        in_word = [
            np.fromiter((not text[token.last : token.last + 1].isspace() and token.last >= 0 for token in found()), bool)
            for text, found in zip(texts, tokens, strict=True)
        ]
        scores = _score_step_by_step(predictor, segments, expectations, progress, in_word)
    else:
        scores = score_texts(predictor, segments, guesses=expectations, progress=progress)
    begin = 0
    for text, found, ids_N in zip(texts, tokens, segments, strict=True):
        yield _pieces(tokenizer, text, found(), per, scores, begin)
        begin += len(ids_N)


def score_texts(model: Model, segments: Sequence[Ids], *, guesses: bool = False, progress: Progress | None = None) -> Scores:
    """What a model, with or without memory, says of each token of several texts, each read from the start.

    Raises:
        DivergedError: a token has no finite surprisal.
    """
    predictor, total = predictor_of(model), sum(map(len, segments))
    if predictor.learns:
        return _score_step_by_step(predictor, segments, guesses, progress)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    loaded = predictor.loaded
    if isinstance(loaded, LoadedNGram):
        return score_with_ngrams(loaded.model, segments, guesses=guesses, progress=report)
    return score_segments(loaded.model, segments, eos=loaded.tokenizer.eos, guesses=guesses, progress=report)


def predictor_of(model: Model) -> Predictor[Any]:
    """What predicts, of a model or of a text that is being read."""
    if isinstance(model, Reader):
        return model.predictor
    return open_predictor(model) if isinstance(model, LoadedModel | LoadedNGram) else model


def _score_step_by_step(
    predictor: Predictor[Any],
    segments: Sequence[Ids],
    guesses: bool,
    progress: Progress | None,
    in_word: Sequence[NDArray[np.bool_]] | None = None,
) -> Scores:
    """From the whole distribution at each place.

    With `in_word`, that a word ends counts to its last token and not to the one after it; the sum is the same.
    """
    total = sum(map(len, segments))
    nats_N, found = np.empty(total), empty_guesses(total) if guesses else None
    ends_word_V = _ends_word(predictor.tokenizer) if in_word else np.empty(0)
    done = 0
    for number, ids_N in enumerate(segments):
        place = predictor.start
        for step, token in enumerate(map(int, ids_N)):
            probabilities_V = predictor.distributions([place])[0]
            nats_N[done] = _surprisal(probabilities_V[token], done)
            if found is not None:
                fill_guess(found, done, probabilities_V, token)
            if in_word and step and in_word[number][step - 1] and ends_word_V[token]:
                end = _surprisal(probabilities_V[ends_word_V].sum(), done)
                nats_N[done - 1] += end
                nats_N[done] = max(0.0, nats_N[done] - end)  # below 0 by rounding alone
            place = predictor.read(place, [token]) if predictor.learns else predictor.ahead([place], [token])[0]
            done += 1
            if progress is not None and (done % _STEPS_BETWEEN_REPORTS == 0 or done == total):
                progress(done, total)
    return Scores(nats_N, found)


def _ends_word(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Whether a token says that the word before it has ended, [V]."""
    spelled = [tokenizer.spelling(token).decode(errors="replace") for token in range(tokenizer.vocabulary_size)]
    ends_word_V = np.array([string[:1].isspace() for string in spelled])
    ends_word_V[tokenizer.eos] = True
    return ends_word_V


def _surprisal(probability: float, place: int) -> float:
    if not probability > 0:  # below the least float, or nan
        raise DivergedError(f"token {place:,} of the text has no finite surprisal: its probability is {probability}")
    return -math.log(probability)


def taken_apart(tokenizer: Tokenizer, pieces: Sequence[Piece], scores: Scores, per: str) -> list[Surprisal]:
    """`surprisals` of a text, as documents, whose tokens are scored already (those of more text may follow in `scores`)."""
    text = "".join(piece.text + piece.separator for piece in pieces)
    return list(_pieces(tokenizer, text, _tokens(tokenizer, pieces), per, scores, 0))


def _tokens_of(tokenizer: Tokenizer, text: str, documents: str) -> Iterator[_Token]:
    return _tokens(tokenizer, into_documents(_blocks(text), documents))


def _tokens(tokenizer: Tokenizer, pieces: Iterable[Piece]) -> Iterator[_Token]:
    """The tokens of a text as `Tokenizer.encode_documents` gives them, and where they stand."""
    begin, line, number, line_ends, is_open = 0, (0, 0), 1, 0, False
    for piece in pieces:
        encoded = tokenizer.encode_with_offsets(piece.text)
        for content, (ids, offsets) in zip(split_lines(piece.text), encoded, strict=True):
            line, number = (begin, begin + len(content.removesuffix("\n"))), 1 + line_ends
            spans = _without_overlap(content, offsets, skip_white=tokenizer.kind == "word")
            for token, (start, end), (_, touched) in zip(ids, spans, offsets, strict=True):
                yield _Token(token, (begin + start, begin + end), begin + touched - 1, line, number)
            begin += len(content)
            is_open = not content.endswith("\n")
            line_ends += not is_open
        if piece.ends_document:
            if is_open or tokenizer.kind != "word":
                yield _Token(tokenizer.eos, (begin, begin), -1, line, number)
            is_open = False
        begin += len(piece.separator)
        line_ends += piece.separator.count("\n")


def _blocks(text: str) -> Iterator[str]:
    """Whole lines, a million characters or so at a time."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + _CHARACTERS_AT_ONCE) + 1 or len(text)
        yield text[begin:end]
        begin = end


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


def _pieces(
    tokenizer: Tokenizer, text: str, tokens: Iterable[_Token], per: str, scores: Scores, begin: int
) -> Iterator[Surprisal]:
    """What there is a figure for; `begin` is the place of the text's first token in `scores`."""
    guesses = scores.guesses
    for (start, end), found in _units(enumerate(tokens, begin), text, per):
        places = [place for place, _ in found]
        expectation, first = None, places[0]
        if guesses is not None:
            guess = tokenizer.describe(int(guesses.guess_N[first]))
            entropy, probability = float(guesses.entropy_N[first]), float(guesses.confidence_N[first])
            expectation = Expectation(int(guesses.ranks_N[first]), entropy, guess, probability)
        yield Surprisal(
            text[start:end],
            start,
            end,
            nats=math.fsum(scores.nats_N[places]),
            tokens=len(places),
            unknown=any(token.id == tokenizer.unk for _, token in found),
            line=found[0][1].line_number,
            expectation=expectation,
        )


_Placed = tuple[int, _Token]


def _units(tokens: Iterable[_Placed], text: str, per: str) -> Iterator[tuple[Span, list[_Placed]]]:
    """The characters of each piece, and its tokens."""
    if per == "token":
        yield from ((placed[1].span, [placed]) for placed in tokens)
        return
    spans = _in_words(tokens, text) if per == "word" else ((placed[1].line, placed) for placed in tokens)
    for span, found in groupby(spans, itemgetter(0)):
        yield span, [placed for _, placed in found]


def _in_words(tokens: Iterable[_Placed], text: str) -> Iterator[tuple[Span, _Placed]]:
    """Each token that spells a part of a word, after the word that it counts to."""
    words = (word.span() for word in re.finditer(r"\S+", text))
    start, end = next(words, (len(text), len(text)))
    for placed in tokens:
        last = placed[1].last
        while end <= last and start < len(text):
            start, end = next(words, (len(text), len(text)))
        if start <= last:
            yield (start, end), placed
