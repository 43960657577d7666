"""Predictors that say anything, and the words that may come next by brute force over all that they may say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import building
import numpy as np

from lstmlm.tokenizer import Tokenizer

SAID = {
    "char": ["a", "b", " ", "-", "."],
    "byte": ["a", "b", " ", "-", "\u201c"],
    "bpe": ["a", "b", " ", "-", "ab", " a", " ab", "\n"],
}
"""What the toys can say, byte by byte where it is no token."""
LONGEST = 4
"""Tokens until a toy's word has to end."""


def toy_tokenizer(kind: str) -> Tokenizer:
    source = {"char": "ab ab a-b .", "byte": "x", "bpe": " ab ab ab ab a" * 9}[kind]
    return building.tokenizer(kind, source, **({"vocabulary_size": 259} if kind == "bpe" else {}))


class Toy:
    """A predictor in double precision: what it says depends on all it has read, and no word is long."""

    learns, kept = False, 100

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.tokenizer = toy_tokenizer(kind)
        self.start: tuple[int, ...] = (seed,)
        wanted = {bytes([byte]) for text in SAID[kind] for byte in text.encode()} | {text.encode() for text in SAID[kind]}
        tokens = range(self.tokenizer.vocabulary_size)
        control = [token for token in (self.tokenizer.eos, self.tokenizer.unk) if token is not None]
        self.said = np.array([token for token in tokens if self.tokenizer.spelling(token) in wanted or token in control])
        self.ends = [t for t in self.said if self.tokenizer.spelling(t)[:1] in (b"", b" ", b"\n")]

    def read(self, place: tuple[int, ...], ids: Sequence[int]) -> tuple[int, ...]:
        return (*place, *map(int, ids))

    def ahead(self, places: Sequence[tuple[int, ...]], tokens: Sequence[int]) -> list[tuple[int, ...]]:
        return [(*place, int(token)) for place, token in zip(places, tokens, strict=True)]

    def distributions(self, places: Sequence[tuple[int, ...]]) -> np.ndarray:
        return np.stack([self._distribution(place) for place in places])

    def _distribution(self, place: tuple[int, ...]) -> np.ndarray:
        found = np.zeros(self.tokenizer.vocabulary_size)
        generator = np.random.default_rng([token + 1 for token in place])
        in_word = next((n for n, token in enumerate(reversed(place[1:])) if token in self.ends), len(place) - 1)
        spoken = self.said if in_word < LONGEST else self.ends
        found[spoken] = generator.exponential(size=len(spoken)) ** 2
        return found / found.sum()


def brute_force(predictor: Any, context: str, pending: bytes, start: int) -> dict[str, float]:
    """p(word | context, what follows begins with pending), by all that may follow; the word begins at byte `start`."""
    tokenizer = predictor.tokenizer
    control = {tokenizer.eos: "\u2403".encode(), tokenizer.unk: "\u2047".encode()}  # one ends a word, one makes it unknown
    words: defaultdict[str, float] = defaultdict(float)
    total = 0.0
    open_ways = [(predictor.read(predictor.start, tokenizer.encode(context)), b"", 1.0)]
    while open_ways:
        place, spelled, share = open_ways.pop()
        found_V = predictor.distributions([place])[0]
        for token in np.flatnonzero(found_V > 0):
            longer = spelled + control.get(int(token), tokenizer.spelling(int(token)))
            if not longer.startswith(pending[: len(longer)]):
                continue
            mass = share * float(found_V[token])
            total += mass if len(spelled) < len(pending) <= len(longer) else 0.0
            text = longer[start:].decode(errors="replace")
            match = re.match(r"(?:[ab]|[-.](?=[ab]))*", text)
            assert match is not None
            rest = text[match.end() :]
            if len(longer) < len(pending) or rest in ("", "-", ".", "\ufffd", "-\ufffd", ".\ufffd"):
                if mass > 1e-15:
                    open_ways.append((predictor.ahead([place], [token])[0], longer, mass))
            elif not re.match("[-.]?[\ufffd\u2047]", rest):  # a character that is damaged makes a word unknown, too
                words[match[0]] += mass
    return {word: share / (total if pending else 1.0) for word, share in words.items() if word}
