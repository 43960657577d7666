"""What an evaluation harness asks of a model, in strings: ln p of a document, and of a continuation after a context.

N tokens of some texts
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lstmlm.config import SamplingConfig
from lstmlm.corpus.reading import normalized
from lstmlm.errors import UsageError
from lstmlm.generation import LONGEST_RESPELLED
from lstmlm.predictor import AnyModel
from lstmlm.reader import Reader
from lstmlm.surprisal import score_texts
from lstmlm.token_store import Ids, id_type

_MISSED = 1e-3
"""Of the probability of what the context says, which spellings that were not looked at may have."""


def document_loglikelihoods(loaded: AnyModel, texts: Sequence[str], *, closing: bool = True) -> list[float]:
    """Ln p of each text as a whole document, in nats: from the zero state with `<eos>` as first input.

    `closing` counts that it ends where it ends, the `<eos>` that closes it: so the sum over the documents of a file is
    minus the `nll_nats` of `lstmlm eval --mode document`. In a word model that is the `<eos>` of a last line without its
    line end. Line ends and byte order marks are read by the text policy, as those of a file.

    Raises:
        DataError: a text holds half of a surrogate pair.
        DivergedError: a token has no finite probability.
    """
    tokenizer = loaded.tokenizer
    ids = []
    for text in map(normalized, texts):
        ends = closing and (tokenizer.kind != "word" or text[-1:] not in ("", "\n"))
        ids.append([*tokenizer.encode(text), *([tokenizer.eos] if ends else [])])
    nats_N = score_texts(loaded, _segments(loaded, ids)).nats_N
    return [-math.fsum(part) for part in np.split(nats_N, _starts(ids)[1:-1])]


@dataclass(frozen=True)
class _Pair:
    """A context and its continuation."""

    ids: list[int]
    """Of both, joined."""
    context: list[int]
    """Of the context alone."""
    first: int
    """The first token that the continuation is a part of."""
    pending: bytes | None = None
    """What the context says of that token, and perhaps of more; `None` if it says nothing."""


def continuation_loglikelihoods(reader: Reader, pairs: Iterable[tuple[str, str]]) -> list[tuple[float, bool]]:
    """Ln p(continuation | context) of each pair, in nats, and whether greedy decoding would write it.

    Context and continuation are cut into tokens together. Usually no token crosses the border between them, as where a
    word with its space begins, and this is ln p of the continuation's tokens given the context's, as all models of the
    harness have it. Where one does cross ("the k" and "eys"), or a context ends with a space, to which tokens belong
    ("the " and "keys"), it is ln p of all tokens since the last white space of the context, less that of what the context
    says of them, spelled in any way (`covers.py`): of "keys", given that it begins with "k", or with a space. The harness's
    Hugging Face models leave out a part of the continuation in the first case, and count the context's space to it in the
    second, which changes no choice between continuations. Where there are too many spellings to look at them all, as of a
    long run without white space, the context says what its own tokens say. A word model knows no parts of words: one that
    crosses the border counts whole.

    An empty context is the beginning of a document. No end is counted.

    Raises:
        DataError: a text holds half of a surrogate pair.
        DivergedError: a token has no finite probability.
    """
    split = [_split(reader, normalized(context), normalized(continuation)) for context, continuation in pairs]
    loaded = reader.predictor.loaded
    scores = score_texts(loaded, _segments(loaded, [pair.ids for pair in split]), guesses=True)
    assert scores.guesses is not None, "asked for"
    found = []
    for start, pair in zip(_starts([pair.ids for pair in split]), split, strict=False):
        place, end = start + pair.first, start + len(pair.ids)
        logprob, likeliest = -math.fsum(scores.nats_N[place:end]), True
        if pair.pending is not None:
            given, spelled = _given(reader, pair)
            logprob -= given
            likeliest = pair.ids[pair.first :][: len(spelled)] == spelled
            place += len(spelled)
        found.append((logprob, likeliest and bool((scores.guesses.ranks_N[place:end] == 1).all())))
    return found


def _given(reader: Reader, pair: _Pair) -> tuple[float, list[int]]:
    """Ln p of what the context says of tokens that cross its end, and the tokens with which a continuation would begin."""
    assert pair.pending is not None
    if len(pair.pending) <= LONGEST_RESPELLED:
        reader.read(pair.ids[: pair.first])
        cover = reader.cover(pair.pending)
        if cover.missed < _MISSED:
            spelled, _ = reader.spellings(pair.pending)[0]
            return cover.logprob, list(spelled)
    loaded = reader.predictor.loaded
    nats_N = score_texts(loaded, _segments(loaded, [pair.context])).nats_N
    return -math.fsum(nats_N[pair.first :]), pair.context[pair.first :]


def sampling_config(options: Mapping[str, Any]) -> SamplingConfig:
    """How the harness's `generation_kwargs` ask to draw: greedily, unless they say `do_sample` or give a temperature.

    Raises:
        UsageError: they ask for what is not there.
    """
    known = {field.name for field in fields(SamplingConfig)}
    nothing = {"do_sample": (True, False), "num_beams": (1,)}
    given = {name: value for name, value in options.items() if value is not None and value not in nothing.get(name, ())}
    if unknown := sorted(given.keys() - known):
        raise UsageError(f"generation_kwargs have {', '.join(unknown)}; expected some of {', '.join(sorted(known))}")
    if not options.get("do_sample", given.get("temperature", 0) > 0):
        given["temperature"] = 0.0
    return SamplingConfig(**given)


def _split(reader: Reader, context: str, continuation: str) -> _Pair:
    tokenizer = reader.tokenizer
    ids, before = tokenizer.encode(context + continuation), tokenizer.encode(context)
    cut = reader.spelling.cut(context)
    if not continuation or (ids[: len(before)] == before and cut.pending != b" "):
        return _Pair(ids, before, len(before))
    return _Pair(ids, before, len(tokenizer.encode(cut.context)), None if tokenizer.kind == "word" else cut.pending)


def _segments(loaded: AnyModel, ids: Sequence[Sequence[int]]) -> list[Ids]:
    dtype = id_type(loaded.tokenizer.vocabulary_size)
    return [np.array(text, dtype) for text in ids]


def _starts(ids: Sequence[Sequence[int]]) -> list[int]:
    """Where each text begins when they stand one after the other, and where the last one ends."""
    return [0, *np.cumsum([len(text) for text in ids]).tolist()]
