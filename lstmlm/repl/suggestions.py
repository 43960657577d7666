"""What is offered at a place in a text: words, a ghost of what may follow, probabilities of words that are watched.

V vocabulary
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lstmlm.completion import Candidate, Completion, complete
from lstmlm.durations import Stop, never
from lstmlm.generation import Session
from lstmlm.repl.own_words import with_own_words
from lstmlm.spelling import is_word_character

_OPENING = "\"'([{\u201c\u2018\u00ab"
"""Marks that begin a word."""
_LEAST_SHOWN = 0.005
_LEAST_SHARE = 0.01
"""Of a capital among all that was typed; below it no word of it would be seen."""
_WATCHED_AMONG = 40
"""A watched word is looked for among so many that begin like it."""


@dataclass(frozen=True)
class Offering:
    """What a person wants to be offered."""

    k: int = 5
    banned: frozenset[str] = frozenset()
    smart_case: bool = True
    """Lower case that was typed stands for a capital, too."""
    ghost: float = 0.3
    """Probability from which on a ghost is shown."""
    ghost_words: int = 3
    """The most words of a ghost."""
    own_words: bool = False
    """Words of the text itself are offered, too."""
    watched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ghost:
    """Words that may follow: `words` in place of the `replace` characters before the cursor that they begin with."""

    words: tuple[str, ...]
    replace: int = 0

    @property
    def shown(self) -> str:
        """What is to be seen after the cursor."""
        return "".join(self.words)[self.replace :]

    def typed(self, text: str) -> Ghost | None:
        """What is left when a person types its beginning (or nothing); `None` for another, or when nothing is left."""
        if not self.shown.startswith(text) or len(self.shown) == len(text):
            return None
        words, replaced = self.words, self.replace + len(text)
        while replaced >= len(words[0]):
            words, replaced = words[1:], replaced - len(words[0])
        return Ghost(words, replaced)

    def after_first(self) -> Ghost | None:
        """What is left when the first word was accepted."""
        return Ghost(self.words[1:]) if len(self.words) > 1 else None


@dataclass(frozen=True)
class Suggestion:
    """What is offered after `completion.text`."""

    completion: Completion
    ghost: Ghost | None = None
    watched: tuple[tuple[str, float], ...] = ()
    """Words, each with p(it comes next | text)."""
    tokens: int = 0
    """Of the text before the word being typed."""
    finished: bool = True
    """Whether there was time for all of it; asked again, the search goes on."""

    def ghost_of(self, number: int) -> Ghost | None:
        """Candidate `number` (from 1) as a ghost, without a word after it."""
        candidates = self.completion.candidates
        if not 1 <= number <= len(candidates):
            return None
        chosen = candidates[number - 1]
        ghost = Ghost((insertion(self.completion.text, chosen),), chosen.replace)
        return ghost if ghost.shown else None


def suggest(session: Session, text: str, offering: Offering, stop: Stop) -> Suggestion:
    """All that is offered after `text`; what has no time any more when `stop` says so is left out, the words last."""
    completion = _worth_showing(words(session, text, offering, stop))
    tokens = len(session.ids)
    watched = tuple((word, probability(session, text, word, stop)) for word in offering.watched)
    ghost = None
    if completion.candidates and (sure := completion.candidates[0].probability) >= offering.ghost:
        first = completion.candidates[0]
        found = [insertion(text, first)]
        typed = len(found[0]) == first.replace  # all of it, so that it is no part of what is shown
        written = text[: len(text) - first.replace] + found[0]
        while len(found) - typed < offering.ghost_words and not stop():
            sure *= _space_follows(session, written)
            following = words(session, written + " ", replace(offering, k=1), stop).candidates
            if not following or (sure := sure * following[0].probability) < offering.ghost:
                break
            found.append(" " + following[0].insert)
            written += found[-1]
        ghost = Ghost(tuple(found), first.replace)
        ghost = ghost.after_first() if typed else ghost
    return Suggestion(completion, ghost, watched, tokens)


def words(session: Session, text: str, offering: Offering, stop: Stop = never) -> Completion:
    """The likeliest next words that are not banned; with smart case, also those that begin with a capital instead."""
    began = time.perf_counter()
    typed = session.spelling.cut(text).word
    stem = text[: len(text) - len(typed)]
    capital = _capital(session, typed) if offering.smart_case else ""
    variants = [text, stem + capital] if capital else [text]
    masses = [spelled(session, variant, stop) for variant in variants] if capital or offering.own_words else [1.0]
    total = math.fsum(masses)
    shares = [mass / total for mass in masses] if total else [1.0]
    found = [
        (_unbanned(session, variant, offering, stop), share)
        for variant, share in zip(variants, shares, strict=False)
        if share > _LEAST_SHARE
    ]
    completion = _merged(text, found, offering.k) if capital else found[0][0]
    if offering.own_words:
        completion = with_own_words(
            completion,
            typed,
            total / spelled(session, stem, stop) if typed else 1.0,
            k=offering.k,
            any_case=bool(capital),
            banned=offering.banned,
        )
    return replace(completion, ms=round(1e3 * (time.perf_counter() - began), 3))


def _capital(session: Session, typed: str) -> str:
    """The word being typed with a capital; empty if it needs none, or the model knows no capitals."""
    capital = typed[:1].upper() + typed[1:]
    normalize = session.tokenizer.normalize
    return capital if typed.islower() and len(capital) == len(typed) and normalize(capital) != normalize(typed) else ""


def _merged(text: str, found: Sequence[tuple[Completion, float]], k: int) -> Completion:
    """Completions of texts that differ in a capital as one of `text`, each with its share."""
    candidates = [
        replace(candidate, probability=share * candidate.probability)
        for completion, share in found
        for candidate in completion.candidates
    ]
    best = sorted(candidates, key=lambda candidate: (-candidate.probability, candidate.word))[:k]
    bound = math.fsum(share * completion.mass_bound for completion, share in found)
    return _of(replace(found[0][0], text=text, exact=False, mass_bound=bound), best)


def _worth_showing(completion: Completion) -> Completion:
    """Without words that would be shown with 0%: they are seldom words at all."""
    shown = [candidate for candidate in completion.candidates if candidate.probability >= _LEAST_SHOWN]
    return _of(completion, shown or completion.candidates[:1])


def _of(completion: Completion, candidates: list[Candidate]) -> Completion:
    other = max(0.0, 1.0 - math.fsum(candidate.probability for candidate in candidates))
    return replace(completion, candidates=candidates, other_probability=other)


def _unbanned(session: Session, text: str, offering: Offering, stop: Stop) -> Completion:
    return complete(session, text, offering.k, banned=offering.banned, tolerance=_LEAST_SHOWN, stop=stop)


def probability(session: Session, text: str, word: str, stop: Stop = never) -> float:
    """p(`word` comes next | text); 0 if it does not begin as typed, or is none of the likely words that begin like it."""
    typed = session.spelling.cut(text).word
    if not word.startswith(typed):
        return 0.0
    whole = text[: len(text) - len(typed)] + word
    ends = [c.probability for c in complete(session, whole, _WATCHED_AMONG, stop=stop).candidates if c.word == word]
    return ends[0] * spelled(session, whole) / spelled(session, text) if ends else 0.0


def spelled(session: Session, text: str, stop: Stop = never) -> float:
    """p(the text goes on as it does since its last white space | what stands before that), over all spellings in view."""
    start = len(text) - len(session.spelling.cut(text).typed)
    start -= session.tokenizer.kind == "bpe" and text[:start].endswith(" ")  # which is a part of the token
    pending = session.tokenizer.normalize(text[start:]).encode()
    if not pending:
        return 1.0
    session.read_text(text[:start])
    return math.exp(session.cover(pending, 1e-3, stop).logprob)


def _space_follows(session: Session, text: str) -> float:
    """p(a space comes next | the word at the end of `text` ends there)."""
    if session.tokenizer.kind == "word":  # its words are what stands between spaces
        return 1.0
    session.read_text(text)
    return min(_begins(session, b" ") / max(_ends(session), 1e-9), 1.0)


def _begins(session: Session, prefix: bytes) -> float:
    """p(the next token begins with `prefix`)."""
    return float(session.lookahead.row(session.node)[session.spelling.extending(prefix)].sum())


def _ends(session: Session) -> float:
    """p(the next token ends a word)."""
    return float(session.lookahead.row(session.node)[session.spelling.after_word.ends_S].sum())


def insertion(text: str, candidate: Candidate) -> str:
    """What `candidate` puts in place of the end of `text`: with a space before it where one is missing."""
    kept = text[: len(text) - candidate.replace]
    return candidate.insert if candidate.replace or _open(kept) else f" {candidate.insert}"


def joined(text: str, more: str) -> str:
    """`text` with `more` after it: with a space between, unless one of them brings white space or `more` is a mark."""
    if more and not _open(text) and (is_word_character(more[0]) or more[0] in _OPENING):
        return f"{text} {more}"
    return text + more


def _open(text: str) -> bool:
    """Whether a word may begin right after `text`."""
    return not text or text[-1].isspace() or (text[-1] in _OPENING and _open(text[:-1]))
