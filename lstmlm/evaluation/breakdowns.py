"""Where the nats of a text come from: by frequency, class, position and document, and token by token.

The groups of each breakdown add up to the whole text, in nats and in tokens; groups without tokens are left out.

N tokens, V vocabulary, G groups, D documents
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.evaluation.intervals import sums
from lstmlm.evaluation.scored import Scored, finite_perplexity
from lstmlm.token_store import Ids
from lstmlm.tokenizer import Tokenizer

CLASSES = ("word", "number", "punctuation", "white space", "end", "unknown", "other")
_FREQUENCIES = (0, *(10**power for power in range(6)))
"""Times in the training text, from which a bucket begins; the last has no end."""
_DOCUMENTS, _TOKENS, _CHARACTERS = 5, 20, 60
_ALIKE = 2
"""Places of a name that the training text lacks, of which a text may be full."""
_IN_ORDER_TO_READ = 5 * _CHARACTERS
"""Tokens that spell that many characters, be they a byte each."""


def breakdowns(scored: Scored) -> dict[str, Any]:
    """All of them, as they stand in a report; `frequency` is `None` where the training counts are not known.

    A position is that in the document and begins with 1, wherever the state was reset.
    """
    position_N = _positions(scored.read.document_ends_D)
    return {
        "frequency": _by_frequency(scored),
        "class": _by_class(scored),
        "position": _by_position(scored, position_N),
        "documents": _documents(scored),
        "worst_tokens": _worst_tokens(scored, position_N),
    }


def token_classes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """The class of each token, as its place in `CLASSES`, [V].

    Words and numbers are told apart by the first letter or digit; what has neither and is made of punctuation and symbols is
    punctuation; `other` are control characters and parts of characters.
    """
    names = [_class_of(tokenizer.spelling(token)) for token in range(tokenizer.vocabulary_size)]
    names[tokenizer.eos] = "end"
    if tokenizer.unk is not None:
        names[tokenizer.unk] = "unknown"
    return np.array([CLASSES.index(name) for name in names])


def _class_of(spelled: bytes) -> str:
    try:
        content = spelled.decode().strip()
    except UnicodeDecodeError:
        return "other"
    if not content:
        return "white space"
    categories = [unicodedata.category(character)[0] for character in content]
    for category in categories:
        if category in "LM":
            return "word"
        if category == "N":
            return "number"
    return "punctuation" if set(categories) <= {"P", "S"} else "other"


def _by_frequency(scored: Scored) -> list[dict[str, Any]] | None:
    if scored.training_counts_V is None:
        return None
    bucket_N = np.digitize(scored.training_counts_V[scored.ids_N], _FREQUENCIES) - 1
    about: list[dict[str, Any]] = [
        {"name": f"{low:,}-{following - 1:,}" if low else "unseen", "low": low, "high": following - 1}
        for low, following in pairwise(_FREQUENCIES)
    ]
    about.append({"name": f"{_FREQUENCIES[-1]:,}+", "low": _FREQUENCIES[-1], "high": None})
    return _groups(scored, bucket_N, about)


def _by_class(scored: Scored) -> list[dict[str, Any]]:
    class_V = token_classes(scored.loaded.tokenizer)
    return _groups(scored, class_V[scored.ids_N], [{"name": name} for name in CLASSES])


def _by_position(scored: Scored, position_N: NDArray[np.int64]) -> list[dict[str, Any]]:
    bucket_N = np.frexp(position_N)[1] - 1  # the exponent: log2, rounded down
    about = [{"low": 1 << power, "high": (2 << power) - 1} for power in range(int(bucket_N.max()) + 1)]
    return _groups(scored, bucket_N, about)


def _groups(scored: Scored, group_N: NDArray[Any], about: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each group that has tokens: what is said about it, with its figures."""
    tokens_G = np.bincount(group_N, minlength=len(about)).tolist()
    nats_G = np.bincount(group_N, scored.nats_N, minlength=len(about)).tolist()
    return [
        group | _figures(nats, tokens) | {"share": tokens / len(group_N)}
        for group, nats, tokens in zip(about, nats_G, tokens_G, strict=True)
        if tokens
    ]


def _figures(nats: float, tokens: int) -> dict[str, Any]:
    return {"tokens": tokens, "nll_nats": nats, "perplexity": finite_perplexity(nats, tokens)}


def _positions(ends_D: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each token in its document, [N]."""
    lengths_D = np.diff(ends_D, prepend=0)
    positions: NDArray[np.int64] = np.arange(1, ends_D[-1] + 1) - np.repeat(ends_D - lengths_D, lengths_D)
    return positions


def _documents(scored: Scored) -> dict[str, Any]:
    """Those with the lowest and the highest perplexity per token, none of them as both."""
    ends_D = scored.read.document_ends_D
    nats_D, tokens_D = sums(scored.nats_N, ends_D), np.diff(ends_D, prepend=0)
    order = np.argsort(nats_D / tokens_D, kind="stable").tolist()
    shown = min(_DOCUMENTS, len(order) // 2)

    def describe(document: int) -> dict[str, Any]:
        ids = scored.ids_N[ends_D[document] - tokens_D[document] : ends_D[document]][:_IN_ORDER_TO_READ]
        begins = scored.loaded.tokenizer.decode(ids.tolist())[:_CHARACTERS]
        figures = _figures(float(nats_D[document]), int(tokens_D[document]))
        return {"number": document + 1} | figures | {"begins": begins}

    best, worst = order[:shown], order[::-1][:shown]
    return {"count": len(order), "best": [*map(describe, best)], "worst": [*map(describe, worst)]}


def _worst_tokens(scored: Scored, position_N: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The tokens with the most nats, each with what its document says before it; two at most of one token and one guess."""
    tokenizer, guesses = scored.loaded.tokenizer, scored.guesses
    worst: list[int] = []
    seen: Counter[tuple[int, int]] = Counter()
    for place in np.argsort(-scored.nats_N, kind="stable").tolist():
        taken = int(scored.ids_N[place]), int(guesses.guess_N[place])
        seen[taken] += 1
        if seen[taken] <= _ALIKE:
            worst.append(place)
        if len(worst) == _TOKENS:
            break

    def before(place: int) -> str:
        known = min(int(position_N[place]) - 1, _IN_ORDER_TO_READ)
        ids: Ids = scored.ids_N[place - known : place]
        return tokenizer.decode(ids.tolist())[-_CHARACTERS:]

    return [
        {
            "token": tokenizer.describe(int(scored.ids_N[place])),
            "bits": float(scored.nats_N[place]) / math.log(2),
            "rank": int(guesses.ranks_N[place]),
            "guess": tokenizer.describe(int(guesses.guess_N[place])),
            "confidence": float(guesses.confidence_N[place]),
            "before": before(place),
            "position": place,
        }
        for place in worst
    ]
