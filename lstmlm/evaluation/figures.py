"""The headline of a report: sums, counts, and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstmlm.corpus import Corpus
from lstmlm.evaluation.intervals import FEWEST, confidence
from lstmlm.evaluation.scored import Scored, finite_perplexity, ratio
from lstmlm.ngram import LoadedNGram
from lstmlm.predictor import AnyModel
from lstmlm.tokenizer import UNK

SCHEMA = "lstmlm.eval/1"
TOP = (1, 3, 5, 10)
_RECIPROCAL_LIMIT = 10


def headline(scored: Scored, corpus: Corpus, split: str) -> dict[str, Any]:
    """What every report has; see the contract of `lstmlm eval --json`."""
    loaded, text, tokenizer = scored.loaded, scored.text, scored.loaded.tokenizer
    nats, tokens = scored.scores.nll_nats, len(scored.ids_N)
    unknown_N, ranks_N = scored.unknown_N, scored.guesses.ranks_N
    unknown = int(unknown_N.sum())
    known_nats = math.fsum(scored.nats_N[~unknown_N])
    types = unknown_types(scored, corpus, split) if unknown else None
    reciprocal = np.where(ranks_N <= _RECIPROCAL_LIMIT, 1.0 / ranks_N, 0.0)
    interval = confidence(scored)
    warnings = text.notes(tokenizer.kind)
    if interval["clusters"] < FEWEST:
        kind, count = interval["method"].removeprefix("bootstrap, "), interval["clusters"]
        warnings.append(
            f"the 95% interval comes from {count} {kind}; fewer than {FEWEST} say little"
            if count > 1
            else "there is no 95% interval: the text has too few lines to cut it into several blocks of 1,000 tokens"
        )
    return {
        "schema": SCHEMA,
        "model": {
            "path": str(loaded.path),
            "parameters": loaded.model.num_parameters,
            "tokenizer": tokenizer.kind,
            "vocabulary_size": tokenizer.vocabulary_size,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "sha256": loaded.sha256,
        }
        | ({"order": loaded.model.order} if isinstance(loaded, LoadedNGram) else {}),
        "text": {
            "paths": list(corpus.names),
            "split": corpus.split_of_sources(split),
            "sha256": text.sha256,
            "bytes": text.bytes,
            "chars": text.chars,
            "words": text.words,
            "lines": text.lines,
            "documents": text.documents,
        },
        "protocol": {
            "mode": scored.mode,
            "documents": corpus.document_rule(split),
            "start": "<s>" if isinstance(loaded, LoadedNGram) else "eos",
            "precision": precision(loaded),
            "approximate": False,
        },
        "nll_nats": nats,
        "tokens": tokens,
        "tokens_eos": int((scored.ids_N == tokenizer.eos).sum()),
        "tokens_unknown": unknown,
        "unknown_types": types,
        "perplexity": {
            "token": finite_perplexity(nats, tokens),
            "word": finite_perplexity(nats, text.words),
            "word_with_eos": finite_perplexity(nats, text.words + text.lines),
            "byte": finite_perplexity(nats, text.bytes),
        },
        "bits_per_byte": ratio(nats / math.log(2), text.bytes),
        "bits_per_char": ratio(nats / math.log(2), text.chars),
        "lossless": tokenizer.lossless and unknown == 0,
        "oov": {
            "rate": ratio(unknown, tokens),
            "including": finite_perplexity(nats, tokens),
            "excluding": finite_perplexity(known_nats, tokens - unknown),
            "adjusted": finite_perplexity(nats + unknown * math.log(types), tokens) if types else None,
        },
        "accuracy": {f"top{k}": ratio(int((ranks_N <= k).sum()), tokens) for k in TOP},
        "mrr10": ratio(math.fsum(reciprocal), tokens),
        "confidence95": interval,
        "warnings": warnings,
    }


def precision(loaded: AnyModel) -> str:
    """In which the model computes."""
    return "fp64" if isinstance(loaded, LoadedNGram) else "fp32"


def unknown_types(scored: Scored, corpus: Corpus, split: str) -> int | None:
    """How many different words, or characters, of the text the model does not know (Ueberla 1994).

    `None` where the text itself has unknowns written into it, which stand for words that nobody can count.
    """
    tokenizer, found = scored.loaded.tokenizer, set[str]()
    for piece in corpus.pieces(split):
        if tokenizer.kind == "word" and UNK in piece.text.split():
            return None
        text = tokenizer.normalize(piece.text)
        found |= set(text.split() if tokenizer.kind == "word" else text)
    return sum(tokenizer.unk in tokenizer.encode(unit) for unit in found)
