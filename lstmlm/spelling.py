"""Which tokens fit a text that is being typed: the vocabulary as sorted byte strings, and where words end.

A text is cut into a context, which is encoded as it stands, and what is being typed: the characters since the last white
space, with the one space before them where the tokenizer attaches spaces to words. The cut is sufficient because no token
crosses it. `"the ca"` with BPE is `"the"` and `" ca"`; `"the "` is `"the"` and `" "`.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lstmlm.tokenizer import Tokenizer

INNER_MARKS = "'-.\u2019\u2010"
"""They belong to a word when a letter or digit follows: don't, well-known, 3.14, U.S."""

_MOST_REMEMBERED = 10_000

# What a token does to a word that has no open mark at its end.
CONTINUES, OPEN_MARK, ENDS, NEVER = 0, 1, 2, 3


@dataclass(frozen=True)
class Typed:
    """A text, cut where completion begins."""

    context: str
    """Encoded as it stands."""
    pending: bytes
    """UTF-8 that the next tokens must spell first."""
    typed: str
    """What follows the last white space."""
    word: str
    """The end of `typed` that is part of a word (`typed` without an opening quote, say)."""
    known: str
    """What of `word` the context holds already."""


@dataclass(frozen=True)
class After:
    """What the tokens do to a word."""

    on: NDArray[np.int64]
    """Places of those with which it may go on."""
    ends_S: NDArray[np.bool_]
    """Those that end it; all others make it unknown."""


class Spelling:
    """Look-ups in a tokenizer's vocabulary by what its tokens spell. S: places in the sorted vocabulary, and `<eos>`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        spelled = [(tokenizer.spelling(token), token) for token in range(tokenizer.vocabulary_size)]
        ordered = sorted(pair for pair in spelled if pair[0] and pair[1] != tokenizer.eos)
        self.strings = [string for string, _ in ordered]
        self._longest = max(map(len, self.strings), default=0)
        self.tokens_S: NDArray[np.int64] = np.array([*(token for _, token in ordered), tokenizer.eos], dtype=np.int64)
        """All tokens that spell something, by their strings; `<eos>` stands behind them."""
        self._places = {int(token): place for place, token in enumerate(self.tokens_S)}
        roles_S = np.array([self._role(int(token)) for token in self.tokens_S], dtype=np.uint8)
        letter_S = np.array([*map(_letter_first, self.strings), False], dtype=bool)
        self.is_word_S: NDArray[np.bool_] = np.array(
            [*(is_word(string.decode(errors="replace")) for string in self.strings), False], bool
        )
        """Tokens that are words by themselves: what a word model may offer."""
        inside_S = np.array([*(0x80 <= string[0] < 0xC0 for string in self.strings), False], dtype=bool)
        on_S = ((roles_S == CONTINUES) | (roles_S == OPEN_MARK)) & ~inside_S
        self.after_word = After(np.flatnonzero(on_S), roles_S == ENDS)
        after_mark_S = on_S & letter_S & (roles_S == CONTINUES)
        self.after_mark = After(np.flatnonzero(after_mark_S), ~after_mark_S & ~inside_S)
        self.inside_character = After(np.flatnonzero(inside_S), np.zeros(len(inside_S), dtype=bool))
        """What goes on with a part of a character; all else makes it a damaged one, which no word has."""
        self._undecided: dict[bytes, list[int]] = {}
        self.undecided(b"")  # now, for it takes a moment
        self._part_S, self._parts_before, self._levels = _nested([*map(_part_of_word, self.strings), None])

    def place(self, token: int) -> int | None:
        """Where a token stands in the sorted vocabulary; `None` if it spells nothing."""
        return self._places.get(token)

    def extending(self, prefix: bytes) -> slice:
        """The tokens whose spelling begins with `prefix` (equal ones included)."""
        first = bisect_left(self.strings, prefix)
        return slice(first, bisect_left(self.strings, prefix + b"\xff" * 8, lo=first))  # 0xff is in no UTF-8 text

    def within(self, text: bytes) -> list[int]:
        """The tokens whose spelling is a proper prefix of `text`."""
        found = []
        for length in range(1, min(len(text), self._longest + 1)):
            place = bisect_left(self.strings, text[:length])
            while place < len(self.strings) and self.strings[place] == text[:length]:
                found.append(place)
                place += 1
        return found

    def usual(self, text: bytes) -> list[int]:
        """The tokens with which the tokenizer itself writes a text; none where it cannot."""
        places = [self.place(token) for token in self.tokenizer.encode(text.decode())] if text else []
        found = [place for place in places if place is not None and place < len(self.strings)]
        return found if b"".join(self.strings[place] for place in found) == text else []

    def undecided(self, rest: bytes) -> list[int]:
        """The tokens after which a word may still go on with just `rest`: they spell a part of it, or all of it and then
        nothing that makes a word longer.
        """
        if rest not in self._undecided:
            beyond = range(*self.extending(rest).indices(len(self.strings))) if rest else self.after_word.on.tolist()
            ending = [place for place in beyond if adds_nothing(self.strings[place][len(rest) :])]
            if len(self._undecided) >= _MOST_REMEMBERED:
                self._undecided.clear()
            self._undecided[rest] = self.within(rest) + ending
        return self._undecided[rest]

    def undecided_after(self, tail: bytes) -> list[int]:
        """The same, after a word and a tail that may end it: an open mark, or a part of a character."""
        key = b"\xff" + tail  # 0xff is in no UTF-8 text
        if key not in self._undecided:
            on = self.inside_character.on if tail[-1] >= 0x80 else self.after_mark.on
            self._undecided[key] = [place for place in on.tolist() if adds_nothing(tail + self.strings[place])]
        return self._undecided[key]

    def heaviest_chain(self, share_S: NDArray[np.float64]) -> tuple[float, int]:
        """Given a share of each token, an upper bound of what any one word gets of it, as the beginning of its spelling.

        A word gets at most the shares of those that spell a part of it, and of those that end it, in all their ways. So the
        tokens are counted by the part of a word that they spell, and to each such part is added what it begins with. The
        second value is the place of the token that has most of it.
        """
        chain = np.bincount(self._part_S, share_S, len(self._parts_before) + 1)
        for level in self._levels:
            chain[level] += chain[self._parts_before[level]]
        part = int(chain[:-1].argmax())
        inside = np.zeros(len(chain), dtype=bool)
        inside[[0, part]] = True
        while part:
            part = int(self._parts_before[part])
            inside[part] = True
        return float(chain[:-1].max()), int(np.where(inside[self._part_S], share_S, -1.0).argmax())

    def cut(self, text: str) -> Typed:
        """Where completion of `text` begins (see the module's docstring)."""
        start = len(text)
        while start and not text[start - 1].isspace():
            start -= 1
        typed = text[start:]
        if self.tokenizer.kind == "word":
            return Typed(text[:start], self.tokenizer.normalize(typed).encode(), typed, typed, "")
        word = _word_at_end(typed)
        if self.tokenizer.kind != "bpe":  # there is one way to spell it
            return Typed(text, b"", typed, word, word)
        attached = start > 0 and self.tokenizer.normalize(text[start - 1]) == " "
        cut = start - 1 if attached else start
        return Typed(text[:cut], self.tokenizer.normalize(text[cut:]).encode(), typed, word, "")

    def _role(self, token: int) -> int:
        if token == self.tokenizer.eos:
            return ENDS
        if token == self.tokenizer.unk:
            return NEVER
        string = self.tokenizer.spelling(token)
        try:
            text = string.decode()
        except UnicodeDecodeError:  # a part of a character: taken for part of a letter
            return CONTINUES
        if text[0] in INNER_MARKS:
            return OPEN_MARK if len(text) == 1 else CONTINUES if is_word_character(text[1]) else ENDS
        return CONTINUES if is_word_character(text[0]) else ENDS


@lru_cache(maxsize=4)
def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """The look-ups of a tokenizer, which take a second to make for a large vocabulary."""
    return Spelling(tokenizer)


def is_word_character(character: str) -> bool:
    """Letters, digits, and the marks that go with letters."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def word_end(text: str, start: int) -> int:
    """Where the word at the beginning of `text` ends, if not before `start`; a mark at the very end is left open.

    U+FFFD at the end is a character that is not complete yet.
    """
    for place in range(start, len(text)):
        character, rest = text[place], text[place + 1 :]
        if character in INNER_MARKS and (not rest or is_word_character(rest[0]) or rest == "\ufffd"):
            continue
        if not is_word_character(character) and (rest or character != "\ufffd"):
            return place
    return len(text)


def is_word(text: str) -> bool:
    """Whether `text` may be offered as a word: it has a letter or digit, and no damaged character."""
    return any(map(str.isalnum, text)) and "\ufffd" not in text


def _letter_first(string: bytes) -> bool:
    text = string.decode(errors="ignore")
    return not text or is_word_character(text[0])


def _part_of_word(string: bytes) -> bytes | None:
    """What a token spells of a word, without what ends it, or may turn out to; `None` if no word can come of it."""
    text = string.decode(errors="replace")
    start = next((place for place, character in enumerate(text) if is_word_character(character)), len(text))
    if start == len(text) and text.strip(" ") not in ("", "\ufffd", *INNER_MARKS):
        return None
    part = text[: word_end(text, start)] if start < len(text) else ""
    while part and (part[-1] in INNER_MARKS or part[-1] == "\ufffd"):
        part = part[:-1]
    return part.encode() if string.startswith(part.encode()) else b""


def _nested(parts_S: list[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Number the parts: the number of each token's, that of the longest part each begins with, and all numbers by depth.

    Tokens that are part of no word have the last number.
    """
    parts = sorted({b"", *(part for part in parts_S if part is not None)})
    number: dict[bytes | None, int] = {part: index for index, part in enumerate(parts)}
    number[None] = len(parts)
    before, depths, above = [0] * len(parts), [0] * len(parts), [b""]
    for index, part in enumerate(parts[1:], 1):
        while not part.startswith(above[-1]):
            above.pop()
        before[index], depths[index] = number[above[-1]], len(above)
        above.append(part)
    levels = [np.flatnonzero(np.array(depths) == depth) for depth in range(1, max(depths) + 1)]
    return np.array([number[part] for part in parts_S]), np.array(before), levels


def adds_nothing(string: bytes) -> bool:
    """Whether a word may be over before `string`: it is no letter, nor a mark with one after it, as far as one can tell."""
    text = string.decode(errors="replace")
    if text[:1] in INNER_MARKS:
        return not any(map(is_word_character, text[1:2]))
    return _may_end_word(string) if text == "\ufffd" else word_end(text, 0) == 0


@lru_cache(maxsize=1_000)
def _may_end_word(part: bytes) -> bool:
    """Whether a part of a character can become one that is in no word."""
    if part[0] >= 0xF0:  # too many to look at; few of them are letters
        return part[0] <= 0xF4
    for byte in range(0x80, 0xC0):
        longer = part + bytes([byte])
        text = longer.decode(errors="replace")
        if _may_end_word(longer) if len(longer) < 3 and part[0] >= 0xE0 else "\ufffd" not in text and word_end(text, 0) == 0:
            return True
    return False


def _word_at_end(typed: str) -> str:
    """What of `typed` the word being typed consists of: nothing after a closing mark, all after an opening quote."""
    start = len(typed)
    while start and (is_word_character(typed[start - 1]) or typed[start - 1] in INNER_MARKS):
        start -= 1
    return typed[start:].lstrip(INNER_MARKS)
