"""Which tokens fit a text that is being typed: the vocabulary as sorted byte strings, and where words end.

A text is cut into a context, which is encoded as it stands, and what is being typed: the characters since the last white
space, with the one space before them where the tokenizer attaches spaces to words. The cut is sufficient because no token
crosses it. `"the ca"` with BPE is `"the"` and `" ca"`; `"the "` is `"the"` and `" "`.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmlm.tokenizer import Tokenizer

INNER_MARKS = "'-.\u2019\u2010"
"""They belong to a word when a letter or digit follows: don't, well-known, 3.14, U.S."""

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


class Spelling:
    """Look-ups in a tokenizer's vocabulary by what its tokens spell."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        spelled = [(tokenizer.spelling(token), token) for token in range(tokenizer.vocabulary_size)]
        ordered = sorted(pair for pair in spelled if pair[0] and pair[1] != tokenizer.eos)
        self._strings = [string for string, _ in ordered]
        self._longest = max(map(len, self._strings), default=0)
        self._tokens = np.array([token for _, token in ordered], dtype=np.int64)
        self.roles_V: NDArray[np.uint8] = np.array([self._role(token) for _, token in spelled], dtype=np.uint8)
        self.is_word_V: NDArray[np.bool_] = np.array(
            [is_word(string.decode(errors="replace")) for string, _ in spelled], bool
        )
        """Tokens that are words by themselves: what a word model may offer."""
        self.begins_with_letter_V: NDArray[np.bool_] = np.array([_letter_first(string) for string, _ in spelled], dtype=bool)

    def extending(self, prefix: bytes) -> NDArray[np.int64]:
        """Tokens whose spelling begins with `prefix` (equal ones included)."""
        first = bisect_left(self._strings, prefix)
        last = bisect_left(self._strings, prefix + b"\xff" * 8, lo=first)  # 0xff is in no UTF-8 text
        return self._tokens[first:last]

    def within(self, text: bytes) -> list[int]:
        """Tokens whose spelling is a proper prefix of `text`."""
        found = []
        for length in range(1, min(len(text), self._longest + 1)):
            place = bisect_left(self._strings, text[:length])
            while place < len(self._strings) and self._strings[place] == text[:length]:
                found.append(int(self._tokens[place]))
                place += 1
        return found

    def cut(self, text: str) -> Typed:
        """Where completion of `text` begins (see the module's docstring)."""
        start = len(text)
        while start and not text[start - 1].isspace():
            start -= 1
        typed = text[start:]
        if self.tokenizer.kind == "word":
            return Typed(text[:start], self.tokenizer.normalize(typed).encode(), typed, typed)
        attached = self.tokenizer.kind == "bpe" and start > 0 and text[start - 1] == " "
        cut = start - 1 if attached else start
        return Typed(text[:cut], self.tokenizer.normalize(text[cut:]).encode(), typed, _word_at_end(typed))

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


def _word_at_end(typed: str) -> str:
    """What of `typed` the word being typed consists of: nothing after a closing mark, all after an opening quote."""
    start = len(typed)
    while start and (is_word_character(typed[start - 1]) or typed[start - 1] in INNER_MARKS):
        start -= 1
    return typed[start:].lstrip(INNER_MARKS)
