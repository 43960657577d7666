r"""What a model is worth under a keyboard: texts are typed letter by letter, and before each letter `complete` is asked.

**Words.** A word model is asked for what stands between white space, the others for words as `completion` ends them
("well-known", "don't"; of "cat," the first three characters). `<unk>`, runs of marks (`.`, `@-@`) and runs of more than 200
characters are typed through, and are no words. The text is as the tokenizer normalizes it. A document is a text of its own;
a word is predicted from about the last 10,000 characters before it, or as many as there are. A sample is made of stretches
of lines spread evenly over the text, and its words are predicted from the same characters as in the whole.

**In vocabulary** is a word without an unknown symbol: a word model has it, a char model has its characters. With bytes and
BPE every word can be spelled, so every word is.

**Accuracy**: how often a word is among the first 1, 3, 5, 10 before any of it is typed (the top-n recall of Hard et al.
2018, arXiv 1811.03604). MRR@10 is the mean of 1/rank, 0 beyond the tenth (Voorhees 1999). **Completion accuracy** is the
same where a part of the word is typed, at every place between two of its letters, by that part's share of the word.

**Keystroke saving**: 100 (chars - keys) / chars, of all characters typed, for a user who never errs and always takes the
cheapest way (Trnka & McCoy 2008, as the two limits). A character is one key. So is choosing one of the `k` words shown,
however much of it is typed. A chosen word brings its space: one that follows is not typed, and before a mark or a line end
it goes away by itself. The limit is one key a word, each chosen before any of it is typed; the vocabulary limit is the same
for words in the vocabulary, with the others typed in full.

**Ghost**: the first word shown, where its probability is above the threshold. Coverage is how often that is so, precision
how often it then is the word (coverage and exact match of Chen et al. 2019, Gmail Smart Compose).

**Calibration**: of the words shown with 30%, 30% should be right. Shown words fall into ten bins of equal width; the
expected calibration error is the mean of |share right - mean probability| of the bins, weighted by their words (Guo et al.
2017, section 2).

**Latency**: `Completion.ms`, for lists of at least ten words.

Ghosts, calibration and latency are measured at every place of every word, as if nobody ever chose. A word that an ideal user
goes on typing is none of those just shown, so that the model would look too sure of itself. They are measured before marks
and `<unk>` too, once at each: no word shown is right there, and without these places the model would look not sure enough.

P places (a word of n letters has n, before each; what is no word has one), W words, S shown words
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.completion import Completion, complete
from lstmlm.corpus import Piece
from lstmlm.errors import UsageError
from lstmlm.evaluation import TOP
from lstmlm.generation import Session
from lstmlm.spelling import INNER_MARKS, is_word, is_word_character, word_end
from lstmlm.tokenizer import UNK

WORDS, WORDS_OF_A_REPORT = 1_000, 200
"""Typed where they were asked for, and where a whole report was."""
SHOWN = 5
THRESHOLD = 0.3
CONTEXT = 10_000
"""Characters: the 2,000 tokens that caches look back to; a neural model reads them in 0.3 s."""
_STRETCH, _LONGEST_STRETCH = 100, 400
"""Words after which a stretch ends: at a line's end, and anywhere."""
_LONGEST_RUN = 200
_RUN, _WORD_START = re.compile(r"\S+"), re.compile(r"(?<=\s)\S")
_TOLERANCE = 1e-3
"""Of a list: words that differ by less may change places. Exact lists of ten take several times as long."""
_BINS = 10
_PERCENTILES = (50, 90, 99)

Places = NDArray[np.void]
"""[P], a row for each place: letters `typed` and all `letters` of the word (0: no word), whether a `space` follows it and
whether it is `known`, its `rank` in the list (0: not in it), the list's `ms`, the probabilities `shown` (nan: fewer)."""


@dataclass(frozen=True)
class Stretch:
    """Some lines of a document."""

    document: str
    start: int
    end: int
    words: int
    others: int
    """Runs between white space without a word."""


def documents_of(files: Iterable[Iterable[Piece]]) -> Iterator[str]:
    """The text of every document of a split (`Corpus.files`)."""
    for pieces in files:
        text: list[str] = []
        for piece in pieces:
            text.append(piece.text)
            if piece.ends_document:
                yield "".join(text)
                text = []


def keyboard_metrics(
    session: Session,
    documents: Iterable[str],
    *,
    words: int = WORDS,
    k: int = SHOWN,
    threshold: float = THRESHOLD,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Type about `words` words of `documents` (0: all) with `k` of them shown at a time, and report what that was worth.

    `progress` gets (words done, words in all). A figure with nothing to divide by is `None`.

    Raises:
        UsageError: `words` is negative, `k` below 1, or the threshold no probability.
    """
    if words < 0:
        raise UsageError(f"the number of words is {words}; expected 0 (all) or more")
    if k < 1:
        raise UsageError(f"k is {k}; expected at least 1")
    if not 0 <= threshold <= 1:
        raise UsageError(f"the threshold is {threshold}; expected 0 to 1")
    tokenizer = session.tokenizer
    whole = [found for text in documents for found in stretches(tokenizer.normalize(text), tokenizer.kind)]
    chosen = sample(whole, words)
    columns = [("typed", "i4"), ("letters", "i4"), ("space", "?"), ("known", "?"), ("rank", "i4"), ("ms", "f8")]
    dtype = np.dtype([*columns, ("shown", "f8", (k,))])
    places_P = np.fromiter(_places(session, chosen, k, progress or (lambda done, total: None)), dtype)
    return {
        "k": k,
        "threshold": threshold,
        "words": sum(stretch.words for stretch in chosen),
        "words_in_text": sum(stretch.words for stretch in whole),
        "others": sum(stretch.others for stretch in chosen),
    } | _figures(places_P, sum(stretch.end - stretch.start for stretch in chosen), threshold)


def words_in(run: str, kind: str) -> Iterator[tuple[int, int]]:
    """Where the words are in `run`, which stands between white space, for a tokenizer of this kind."""
    if run == UNK or len(run) > _LONGEST_RUN:
        return
    if kind == "word":
        if is_word(run):
            yield 0, len(run)
        return
    place = 0
    while place < len(run):
        rest = run[place:]
        word = rest[: word_end(rest, 0)].rstrip(INNER_MARKS) if is_word_character(rest[0]) else ""
        if is_word(word):
            yield place, place + len(word)
        place += max(1, len(word))


def stretches(document: str, kind: str) -> Iterator[Stretch]:
    """All of a document, in stretches of about 100 words that end at line ends, if the lines are not too long."""
    start = last = words = others = 0
    for run in _RUN.finditer(document):
        enough = _STRETCH if "\n" in document[last : run.start()] else _LONGEST_STRETCH
        if words >= enough or run.start() - start >= CONTEXT:
            yield Stretch(document, start, run.start(), words, others)
            start, words, others = run.start(), 0, 0
        found = sum(1 for _ in words_in(run[0], kind))
        words, others, last = words + found, others + (not found), run.end()
    if document:
        yield Stretch(document, start, len(document), words, others)


def sample(whole: Sequence[Stretch], words: int) -> Sequence[Stretch]:
    """So many evenly spread stretches that they have about `words` words; all if there are no more, or for 0."""
    total = sum(stretch.words for stretch in whole)
    if not 0 < words < total:
        return whole
    number = max(1, round(len(whole) * words / total))
    return [whole[(2 * index + 1) * len(whole) // (2 * number)] for index in range(number)]


def context_start(document: str, start: int) -> int:
    """Where reading begins for what comes at `start`: at the beginning of a line if one is near, else of a word."""
    first = start - CONTEXT
    if first <= 0:
        return 0
    line = document.rfind("\n", max(0, first - CONTEXT), first)
    return line + 1 if line >= 0 else next(_WORD_START.finditer(document, first)).start()


def _places(
    session: Session, chosen: Sequence[Stretch], k: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[Any, ...]]:
    """The rows of `Places`, in the order of typing."""
    tokenizer, depth = session.tokenizer, max(k, *TOP)
    done, total = 0, sum(stretch.words for stretch in chosen)

    def ask(text: str, place: int, start: int, end: int, known: bool) -> tuple[Any, ...]:
        completion = complete(session, text[:place], depth, tolerance=_TOLERANCE)
        shown = [candidate.probability for candidate in completion.candidates[:k]]
        shown += [np.nan] * (k - len(shown))
        space, rank = text[end : end + 1] == " ", _rank(completion, text, end)
        return place - start, end - start, space, known, rank, completion.ms, shown

    complete(session, "", depth)  # the first one of a process, which takes its time
    for stretch in chosen:
        begin = context_start(stretch.document, stretch.start)
        text = stretch.document[begin : stretch.end]
        session.read_text(text[: stretch.start - begin])  # a keyboard would have read it while it was typed
        for run in _RUN.finditer(text, stretch.start - begin):
            words = [(run.start() + first, run.start() + last) for first, last in words_in(run[0], tokenizer.kind)]
            if not words or words[0][0] > run.start():
                yield ask(text, run.start(), run.start(), run.start(), False)
            for start, end in words:
                known = tokenizer.unk not in tokenizer.encode(text[start:end])
                for place in range(start, end):
                    yield ask(text, place, start, end, known)
                done += 1
                progress(done, total)


def _rank(completion: Completion, text: str, end: int) -> int:
    """Number of the candidate that makes the text what it is up to `end`; 0 if there is none."""
    place = len(completion.text)
    for number, candidate in enumerate(completion.candidates, 1):
        if candidate.insert == text[place - candidate.replace : end]:
            return number
    return 0


def _figures(places_P: Places, chars: int, threshold: float) -> dict[str, Any]:
    next_P, typing_P = places_P[places_P["typed"] == 0], places_P[places_P["typed"] > 0]
    next_W, words_P = next_P[next_P["letters"] > 0], places_P[places_P["letters"] > 0]
    quarter_P = 4 * typing_P["typed"] // typing_P["letters"]
    return {
        "accuracy": _accuracy(next_W),
        "accuracy_in_vocabulary": _accuracy(next_W[next_W["known"]]),
        "completion": [
            {"from": number / 4, "to": (number + 1) / 4} | _completion(typing_P[quarter_P == number]) for number in range(4)
        ],
        "keystrokes": _keystrokes(words_P, chars),
        "ghost": {"next": _ghost(next_P, threshold), "typing": _ghost(typing_P, threshold)},
        "calibration": _calibration(places_P),
        "latency_ms": {"next": _latency(next_P), "typing": _latency(typing_P)},
    }


def _share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _within(places_P: Places, k: int) -> NDArray[np.bool_]:
    found_P: NDArray[np.bool_] = (places_P["rank"] > 0) & (places_P["rank"] <= k)
    return found_P


def _accuracy(next_W: Places) -> dict[str, Any]:
    rank_W = next_W["rank"][_within(next_W, max(TOP))]
    return {
        "words": len(next_W),
        **{f"top{k}": _share(_within(next_W, k)) for k in TOP},
        "mrr10": float((1 / rank_W).sum() / len(next_W)) if len(next_W) else None,
    }


def _completion(typing_P: Places) -> dict[str, Any]:
    return {"places": len(typing_P), **{f"top{k}": _share(_within(typing_P, k)) for k in (1, 3)}}


def _keystrokes(places_P: Places, chars: int) -> dict[str, Any]:
    first_W = np.flatnonzero(places_P["typed"] == 0)
    spared_P = places_P["letters"] + places_P["space"] - places_P["typed"] - 1
    chosen_P = np.where(_within(places_P, places_P["shown"].shape[1]), spared_P, 0)
    spared = {
        "saving": int(np.maximum.reduceat(chosen_P, first_W).sum()) if len(first_W) else 0,
        "vocabulary_limit": int(spared_P[first_W][places_P["known"][first_W]].sum()),
        "limit": int(spared_P[first_W].sum()),
    }
    return {
        "chars": chars,
        "keys": chars - spared["saving"],
        **{name: 100 * keys / chars if chars else None for name, keys in spared.items()},
    }


def _ghost(places_P: Places, threshold: float) -> dict[str, Any]:
    is_shown_P = places_P["shown"][:, 0] > threshold
    return {
        "places": len(places_P),
        "shown": int(is_shown_P.sum()),
        "coverage": _share(is_shown_P),
        "precision": _share(places_P["rank"][is_shown_P] == 1),
    }


def _calibration(places_P: Places) -> dict[str, Any]:
    is_shown_PK = ~np.isnan(places_P["shown"])
    probability_S = places_P["shown"][is_shown_PK]
    right_S = (places_P["rank"][:, None] == 1 + np.arange(is_shown_PK.shape[1]))[is_shown_PK]
    bin_S = np.digitize(probability_S, np.arange(1, _BINS) / _BINS, right=True)
    bins: list[dict[str, Any]] = []
    error = 0.0
    for number in range(_BINS):
        in_bin_S = bin_S == number
        count = int(in_bin_S.sum())
        mean = float(probability_S[in_bin_S].mean()) if count else None
        right = _share(right_S[in_bin_S])
        if mean is not None and right is not None:
            error += count * abs(right - mean)
        limits = {"from": number / _BINS, "to": (number + 1) / _BINS}
        bins.append(limits | {"words": count, "probability": mean, "right": right})
    return {"words": len(bin_S), "ece": error / len(bin_S) if len(bin_S) else None, "bins": bins}


def _latency(places_P: Places) -> dict[str, Any]:
    found = np.percentile(places_P["ms"], _PERCENTILES) if len(places_P) else [None] * len(_PERCENTILES)
    return {
        "completions": len(places_P),
        **{f"p{q}": None if ms is None else round(float(ms), 3) for q, ms in zip(_PERCENTILES, found, strict=True)},
    }
