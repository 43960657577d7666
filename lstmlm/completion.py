"""The next word, given a text whose last word may be half typed.

A word model answers exactly: its distribution, restricted to what was typed. A char, byte or BPE model spells words token
by token; a beam follows the most likely spellings, different spellings of one word are added up, and a word counts with
the probability that it ends there (Pimentel & Meister 2024), which makes "the" and "then" comparable. What the beam did not
follow is in `other_probability`.

B beam, V vocabulary, H hidden, L layers
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmlm.checkpoint import LoadedModel
from lstmlm.errors import UsageError
from lstmlm.generation import Session
from lstmlm.model import State
from lstmlm.spelling import CONTINUES, ENDS, INNER_MARKS, NEVER, OPEN_MARK, Typed, is_word, is_word_character, word_end

_BEAM = 48
_LONGEST = {"bpe": 16, "char": 40, "byte": 40}
"""Tokens of the longest word that is looked for, beyond what was typed."""
_LONGEST_TYPED = 200
"""Bytes typed beyond which only words that need few tokens are looked for."""


@dataclass(frozen=True)
class Candidate:
    """A word that may come next."""

    word: str
    probability: float
    """p(this is the next word | text, it begins as typed)"""
    replace: int
    """Characters before the cursor that `insert` takes the place of."""
    insert: str


@dataclass(frozen=True)
class Completion:
    """What may come next; all probabilities add up to 1."""

    text: str
    typed: str
    candidates: list[Candidate]
    other_probability: float
    exact: bool
    mass_bound: float
    """Largest amount by which the probabilities may be off together; 0 where they are exact."""
    ms: float

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def complete(model: LoadedModel | Session, text: str, k: int = 5) -> Completion:
    """The `k` most likely next words after `text`, or, if it ends inside a word, the most likely ways to finish it.

    With a `Session`, what it has read before is not read again. Unknown and control symbols, and marks without a letter or
    digit, are never offered.

    Raises:
        UsageError: `k` is below 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}; expected at least 1")
    began = time.perf_counter()
    session = model if isinstance(model, Session) else Session(model)
    cut = session.spelling.cut(text)
    session.read_text(cut.context)
    if session.tokenizer.kind == "word":
        found, exact, bound = _exact_words(session, cut, k), True, 0.0
    else:
        found, bound = _Beam(session, cut).search(k)
        exact = False
    best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    candidates = [Candidate(word, probability, len(cut.word), word) for word, probability in best]
    other = max(0.0, 1.0 - math.fsum(candidate.probability for candidate in candidates))
    return Completion(text, cut.typed, candidates, other, exact, bound, round(1e3 * (time.perf_counter() - began), 3))


def _exact_words(session: Session, cut: Typed, k: int) -> dict[str, float]:
    """The `k` likeliest words of a word model among those that begin as typed."""
    spelling = session.spelling
    log_probabilities_V = session.next_logits().double().log_softmax(-1).numpy()
    fitting = spelling.extending(cut.pending) if cut.pending else np.arange(len(log_probabilities_V))
    words = fitting[spelling.is_word_V[fitting]]
    if not len(words):
        return {}
    total = np.logaddexp.reduce(log_probabilities_V[fitting]) if cut.pending else 0.0
    best = words[np.argsort(-log_probabilities_V[words], kind="stable")[:k]]
    return {session.tokenizer.spelling(int(word)).decode(): math.exp(log_probabilities_V[word] - total) for word in best}


@dataclass(frozen=True)
class _Node:
    """The beginning of a word, as one sequence of tokens spells it from the cut on."""

    spelled: bytes
    log_probability: float


class _Beam:
    """Level by level, all nodes of a level in one step of the model."""

    def __init__(self, session: Session, cut: Typed) -> None:
        self.session, self.cut = session, cut
        self.model, self.spelling, self.tokenizer = session.model, session.spelling, session.tokenizer
        self.word = self.tokenizer.normalize(cut.word)
        self.word_start = len(cut.pending) - len(self.word.encode())
        self.found: defaultdict[str, float] = defaultdict(float)
        self.covered = 0.0
        """p(typed | context), as far as found: the mass of all spellings at the token with which they first cover it."""
        self.left_out = 0.0

    def search(self, k: int) -> tuple[dict[str, float], float]:
        """Probabilities of words, given what was typed, and the mass that was not followed."""
        now = self.session.now
        nodes, state, hidden_BH = [_Node(b"", 0.0)], now.state_LBH, now.hidden_H[None]
        if not self.cut.pending:
            self.covered = 1.0
        for _ in range(min(len(self.cut.pending), _LONGEST_TYPED) + _LONGEST[self.tokenizer.kind]):
            grown = self._expand(nodes, hidden_BH)
            self.left_out += math.fsum(math.exp(node.log_probability) for _, _, node in grown[_BEAM:])
            grown = self._promising(grown[:_BEAM], k)
            if not grown:
                break
            nodes, state, hidden_BH = self._step(grown, state)
        else:
            self.left_out += math.fsum(math.exp(node.log_probability) for node in nodes)
        if not self.covered:
            return {}, 1.0
        shares = {word: mass / self.covered for word, mass in self.found.items() if is_word(word)}
        return shares, min(1.0, self.left_out / self.covered)

    def _expand(self, nodes: list[_Node], hidden_BH: Tensor) -> list[tuple[int, int, _Node]]:
        """All ways to go on that matter: (node it came from, token, new node), the most likely first."""
        with torch.inference_mode():
            log_probabilities_BV = self.model.logits(hidden_BH).float().log_softmax(-1).double().cpu().numpy()
        grown: list[tuple[int, int, _Node]] = []
        for index, node in enumerate(nodes):
            log_probabilities_V = node.log_probability + log_probabilities_BV[index]
            rest = self.cut.pending[len(node.spelled) :]
            tokens = self._cover(rest, log_probabilities_V) if rest else self._continue(node, log_probabilities_V)
            for token in tokens:
                spelled = node.spelled + self.tokenizer.spelling(int(token))
                grown.append((index, int(token), _Node(spelled, float(log_probabilities_V[token]))))
        return sorted(grown, key=lambda entry: (-entry[2].log_probability, entry[2].spelled))

    def _cover(self, rest: bytes, log_probabilities_V: NDArray[np.float64]) -> NDArray[np.int64]:
        """Tokens that spell more of what was typed."""
        beyond = self.spelling.extending(rest)
        self.covered += float(np.exp(log_probabilities_V[beyond]).sum())
        return np.concatenate(
            [self._most_likely(beyond, log_probabilities_V), np.array(self.spelling.within(rest), np.int64)]
        )

    def _continue(self, node: _Node, log_probabilities_V: NDArray[np.float64]) -> NDArray[np.int64]:
        """Note how likely the word ends here; return the tokens with which it goes on."""
        roles_V = self.spelling.roles_V
        word = node.spelled[self.word_start :].decode(errors="replace")
        end = word_end(word, len(self.word))
        if end < len(word):  # several tokens made one character, which is none of a word
            if "\ufffd" not in word:
                self._note(word[:end], math.exp(node.log_probability))
            return np.zeros(0, np.int64)
        goes_on_V = roles_V == CONTINUES
        if word.endswith(tuple(INNER_MARKS)):  # an open mark belongs to the word only if a letter follows
            goes_on_V = goes_on_V & self.spelling.begins_with_letter_V
            ends_V, word = ~goes_on_V & (roles_V != NEVER), word[:-1]
        else:
            goes_on_V = goes_on_V | (roles_V == OPEN_MARK)
            ends_V = roles_V == ENDS
        self._note(word, float(np.exp(log_probabilities_V[ends_V]).sum()))
        return self._most_likely(np.flatnonzero(goes_on_V), log_probabilities_V)

    def _note(self, word: str, mass: float) -> None:
        # "end." was typed: taking its period away is no way to finish it; and no word begins with an apostrophe
        if word.startswith(self.word) and word and is_word_character(word[0]):
            self.found[word] += mass

    def _most_likely(self, tokens: NDArray[np.int64], log_probabilities_V: NDArray[np.float64]) -> NDArray[np.int64]:
        """As many of `tokens` as the beam can hold, the most likely ones."""
        if len(tokens) <= _BEAM:
            return tokens
        parted = np.argpartition(-log_probabilities_V[tokens], _BEAM)
        self.left_out += float(np.exp(log_probabilities_V[tokens[parted[_BEAM:]]]).sum())
        return tokens[parted[:_BEAM]]

    def _promising(self, grown: list[tuple[int, int, _Node]], k: int) -> list[tuple[int, int, _Node]]:
        """Nodes that are still more likely than the k-th best word."""
        complete = sorted((mass for word, mass in self.found.items() if is_word(word)), reverse=True)
        threshold = complete[k - 1] if len(complete) >= k else 0.0
        kept = [entry for entry in grown if math.exp(entry[2].log_probability) > threshold]
        self.left_out += math.fsum(math.exp(node.log_probability) for _, _, node in grown[len(kept) :])
        return kept

    def _step(self, grown: list[tuple[int, int, _Node]], state: State) -> tuple[list[_Node], State, Tensor]:
        came_from = torch.tensor([index for index, _, _ in grown], device=self.model.device)
        tokens = torch.tensor([[token for _, token, _ in grown]], device=self.model.device)
        with torch.inference_mode():
            hidden_TBH, after = self.model(tokens, tuple(part_LBH[:, came_from] for part_LBH in state))
        return [node for _, _, node in grown], after, hidden_TBH[0]
