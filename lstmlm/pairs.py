"""Minimal pairs: whether a model finds the good one of two sentences likelier than the bad one.

Each sentence is a text of its own, from `<eos>` to its end, and its log-probability the sum over all its tokens with the
`<eos>` that closes it, as in Marvin & Linzen (2018, "Targeted Syntactic Evaluation of Language Models") and BLiMP
(Warstadt et al. 2020). Files are read as BLiMP ships them, or as tables with the columns `good` and `bad`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lstmlm.corpus.records import Record, read_records
from lstmlm.surprisal import Model, predictor_of, score_texts
from lstmlm.token_store import id_type

GROUPS = ("category", "field", "linguistics_term", "UID")
"""Columns by which figures are given, too."""
_PAIRS_AT_ONCE = 256
_Z95 = 1.959963984540054
"""The 97.5% point of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences that differ in what is tested."""

    good: str
    bad: str
    groups: Mapping[str, str] = field(default_factory=dict)
    """Its `GROUPS`, those that it has."""
    where: str = ""
    """File and line."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model says of a pair."""

    pair: Pair
    good_nats: float
    """Surprisal of the good sentence, -ln p."""
    bad_nats: float
    good_tokens: int
    """With the `<eos>` that closes it."""
    bad_tokens: int
    unknown: bool
    """Whether a word of either is unknown to the model."""

    def difference_bits(self, *, per_token: bool = False) -> float:
        """How many bits less the good sentence takes; `per_token`: of the means over the sentences' tokens."""
        good, bad = (self.good_tokens, self.bad_tokens) if per_token else (1, 1)
        return (self.bad_nats / bad - self.good_nats / good) / math.log(2)

    def correct(self, *, per_token: bool = False) -> float:
        """1, 0, or one half where both are equally likely."""
        difference = self.difference_bits(per_token=per_token)
        return 0.5 if difference == 0 else float(difference > 0)


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of a file: columns `good` and `bad` (BLiMP: `sentence_good`, `sentence_bad`), and any of `GROUPS`.

    Raises:
        UsageError: no such file.
        DataError: a row that is not a pair; names the line.
    """
    for record in read_records(path):
        yield Pair(_sentence(record, "good"), _sentence(record, "bad"), _groups(record), record.where)


def _sentence(record: Record, name: str) -> str:
    return " ".join(record.text(name, f"sentence_{name}").split())


def _groups(record: Record) -> dict[str, str]:
    named = [name for name in GROUPS if record.fields.get(name) is not None and str(record.fields[name]).strip()]
    return {name: record.label(name) for name in named}


def judge(model: Model, pairs: Iterable[Pair]) -> Iterator[Judgement]:
    """Score pairs as they come, some hundreds at a time.

    Raises:
        DivergedError: a token has no finite probability.
    """
    predictor, pairs = predictor_of(model), iter(pairs)
    tokenizer = predictor.tokenizer
    dtype = id_type(tokenizer.vocabulary_size)
    while some := list(islice(pairs, _PAIRS_AT_ONCE)):
        sentences = [sentence for pair in some for sentence in (pair.good, pair.bad)]
        segments = [np.array([*tokenizer.encode(sentence), tokenizer.eos], dtype) for sentence in sentences]
        parts = np.split(score_texts(predictor, segments).nats_N, np.cumsum([len(ids) for ids in segments])[:-1])
        nats = [math.fsum(nats_N) for nats_N in parts]
        for number, pair in enumerate(some):
            good, bad = 2 * number, 2 * number + 1
            if np.array_equal(segments[good], segments[bad]):  # a tie, whatever float32 makes of it beside other sentences
                nats[bad] = nats[good]
            unknown = tokenizer.unk is not None and any(tokenizer.unk in segments[place] for place in (good, bad))
            yield Judgement(pair, nats[good], nats[bad], len(segments[good]), len(segments[bad]), unknown)


class Tally:
    """Figures of the judgements added so far: sums, and what is made of them."""

    def __init__(self, *, per_token: bool = False) -> None:
        self.per_token = per_token
        self._all, self._known = _Sums(), _Sums()
        self._groups: dict[str, dict[str, _Sums]] = {}

    def add(self, judgement: Judgement) -> None:
        sums = [self._all, *([] if judgement.unknown else [self._known])]
        for name, value in judgement.pair.groups.items():
            sums.append(self._groups.setdefault(name, {}).setdefault(value, _Sums()))
        correct = judgement.correct(per_token=self.per_token)
        difference = judgement.difference_bits(per_token=self.per_token)
        for found in sums:
            found.pairs += 1
            found.correct += correct
            found.ties += correct == 0.5
            found.unknown += judgement.unknown
            found.difference_bits += difference

    def figures(self) -> dict[str, Any]:
        """Of all pairs; of `known`, those without an unknown word (`None` if that is all); and `by` each group."""
        by = {
            name: [{"name": value} | found.figures() for value, found in sorted(groups.items())]
            for name, groups in sorted(self._groups.items(), key=lambda item: GROUPS.index(item[0]))
        }
        known = self._known.figures() if self._all.unknown else None
        return self._all.figures() | {"per_token": self.per_token, "known": known, "by": by}


@dataclass(slots=True)
class _Sums:
    pairs: int = 0
    correct: float = 0.0
    """A tie is half a correct pair."""
    ties: int = 0
    unknown: int = 0
    difference_bits: float = 0.0

    def figures(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "correct": self.correct,
            "ties": self.ties,
            "pairs_unknown": self.unknown,
            "accuracy": self.correct / self.pairs if self.pairs else None,
            "confidence95": wilson_interval(self.correct, self.pairs) if self.pairs else None,
            "difference_bits": self.difference_bits / self.pairs if self.pairs else None,
        }


def wilson_interval(correct: float, count: int, z: float = _Z95) -> list[float]:
    """The score interval of a share (Wilson 1927), from and to; 95% unless told."""
    share = correct / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [max(0.0, (middle - half) / (1 + z * z / count)), min(1.0, (middle + half) / (1 + z * z / count))]
