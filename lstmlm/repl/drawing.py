"""Values -> fragments of text with a style: the bar of candidates, the status line, the colours of a text."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from lstmlm.repl.suggestions import Suggestion
from lstmlm.report.formatting import JOINERS
from lstmlm.surprisal import Surprisal

Span = tuple[int, int, str]
"""From, to, style."""

STYLE = Style.from_dict(
    {
        "ghost": "ansibrightblack",
        "number": "ansibrightblack",
        "word": "bold",
        "share": "ansigreen",
        "chosen": "reverse",
        "rest": "ansibrightblack",
        "rule": "ansibrightblack",
        "name": "bold",
        "status": "ansibrightblack",
        "on": "ansiyellow",
        "key": "bold",
        "head": "bold",
        "selected": "reverse",
        # legible on dark and on light; bold and underlined where there are no colours
        "surprise.0": "#5f8787",
        "surprise.1": "#5faf5f",
        "surprise.2": "#d7af00",
        "surprise.3": "#ff8700 bold",
        "surprise.4": "#ff5f5f bold underline",
    }
)
WITHOUT_COLOURS = Style.from_dict({"ghost": "underline"})
_BITS = (2, 5, 9, 13)
"""Where one colour of surprise ends and the next begins."""
_ELLIPSIS = "…"


def candidate_bar(suggestion: Suggestion | None, width: int, chosen: int = 0) -> StyleAndTextTuples:
    """`1 mat 31%  2 man 12%  other 41%`, as much of it as fits; candidate `chosen` (from 1) stands out."""
    if suggestion is None:
        return []
    completion = suggestion.completion
    entries: list[StyleAndTextTuples] = [
        [
            ("class:number", f"{number} "),
            ("class:word class:chosen" if number == chosen else "class:word", harmless(candidate.word)),
            ("class:share", f" {candidate.probability:.0%}"),
        ]
        for number, candidate in enumerate(completion.candidates, 1)
    ]
    return in_a_row([*entries, [("class:rest", f"other {completion.other_probability:.0%}")]], width, gap=3)


def watched_words(suggestion: Suggestion | None, width: int) -> StyleAndTextTuples:
    """The words that are watched, with their probabilities."""
    entries: list[StyleAndTextTuples] = [
        [("class:word", harmless(word)), ("class:share", f" {probability:.2%}")]
        for word, probability in (suggestion.watched if suggestion else ())
    ]
    return in_a_row([[("class:rest", "watching")], *entries], width)


def surprise_legend(width: int) -> StyleAndTextTuples:
    """What the colours of a text mean."""
    names = [f"under {_BITS[0]}", *(f"{low} to {high}" for low, high in pairwise(_BITS)), f"{_BITS[-1]} and more"]
    entries: list[StyleAndTextTuples] = [[(f"class:surprise.{level}", name)] for level, name in enumerate(names)]
    return in_a_row([[("class:rest", "bits of surprise")], *entries], width)


def surprise_spans(found: Sequence[Surprisal]) -> list[Span]:
    """Styles of the words of a text."""
    return [(word.start, word.end, f"class:surprise.{bisect_right(_BITS, word.bits)}") for word in found]


def in_a_row(entries: Sequence[StyleAndTextTuples], width: int, gap: int = 2) -> StyleAndTextTuples:
    """The first of `entries` that fit beside each other; the very first is cut rather than left out."""
    row: StyleAndTextTuples = []
    used = 0
    for entry in entries:
        size = sum(get_cwidth(text) for _, text, *_ in entry)
        if row and used + gap + size > width:
            break
        row += [("", " " * gap), *entry] if row else entry
        used += gap * bool(used) + size
    return row


@lru_cache(1 << 10)
def harmless(text: str) -> str:
    """`text` with one visible character for each that could act on a terminal, so that places stay what they are."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\t":
        return " "
    if character < " ":
        return chr(0x2400 + ord(character))  # its picture
    if character in JOINERS:
        return character
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character


def styled(text: str, begin: int, spans: Sequence[Span]) -> StyleAndTextTuples:
    """`text`, which begins at place `begin` of the whole, cut where styles change; where spans overlap the first counts."""
    end = begin + len(text)
    covering = [span for span in spans if span[0] < end and span[1] > begin]
    cuts = sorted({begin, end, *(place for span in covering for place in span[:2] if begin < place < end)})
    styles = [next((style for start, stop, style in covering if start <= low < stop), "") for low in cuts[:-1]]
    parts = [harmless(text[low - begin : high - begin]) for low, high in pairwise(cuts)]
    return list(zip(styles, parts, strict=True))
