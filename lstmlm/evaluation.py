"""Every figure of a report, as data: the JSON object of `lstmlm eval --json` and all that is drawn from it.

A perplexity is exp(nats / count); both are in the result, with all counts, so that every figure can be recomputed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from lstmlm.adaptation import Adaptation, load_adaptation
from lstmlm.adaptation.mixture import Row, rows_with
from lstmlm.adaptation.rows import Reading, describe, mix_row, passes, read_parts
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import MODES, CorpusConfig, from_mapping
from lstmlm.corpus import Corpus, TextCounts, open_corpus
from lstmlm.errors import ArtefactError, DataError, LstmlmError, UsageError
from lstmlm.ngram import LoadedNGram
from lstmlm.ngram.scoring import score_with_ngrams
from lstmlm.predictor import AnyModel
from lstmlm.scoring import CHUNK, Scores, perplexity, score_segments
from lstmlm.token_store import Ids, read_segments

SCHEMA = "lstmlm.eval/1"
TOP = (1, 3, 5, 10)
_RECIPROCAL_LIMIT = 10


def evaluate(
    loaded: AnyModel,
    corpus: Corpus,
    split: str = "test",
    *,
    mode: str = "stream",
    chunk: int = CHUNK,
    adapt: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
    expected_sha256: str | None = None,
) -> dict[str, Any]:
    """Score all text of a split and report on it.

    `mode` says where the state is reset: `stream` at the beginning of each file, `document` at each document, `line` at
    each line. The tokens that are scored are the same in all three. N-grams see nothing before an `<eos>` in any.
    `adapt` names what the rows beside the headline may use, of `cache`, `dynamic` and `ngram`, as `lstmlm tune` fitted it.
    `progress` gets (tokens done, tokens in all). With `expected_sha256` the text must be that one: a split that was held
    out in training must still be the same text.

    Raises:
        UsageError: unknown mode or split, or the model was not tuned for `adapt`.
        DataError: the text is empty, not UTF-8, or not the expected one.
        DivergedError: a token has no finite probability.
    """
    if mode not in MODES:
        raise UsageError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    rows = rows_with(adapt)
    adaptation = _adaptation(loaded) if rows else None
    began = time.monotonic()
    segments, text = read_segments(loaded.tokenizer, corpus.files(split), mode)
    if expected_sha256 not in (None, text.sha256):
        raise DataError(
            f"the {split} text of {corpus.name} has changed since this model was trained, and may hold text that it saw; "
            "name the text to evaluate on"
        )
    tokens = sum(map(len, segments))
    total = tokens * (1 + passes(rows))

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    read = time.monotonic()
    scores = _scored(loaded, segments, chunk, report)
    static = Reading(np.exp(-scores.nats_N), time.monotonic() - read)
    ids_N: Ids = np.concatenate(segments)  # type: ignore[assignment]  # all of one type
    result = _figures(loaded, corpus, text, mode, ids_N, scores, time.monotonic() - began)
    if adaptation is not None and isinstance(loaded, LoadedModel):
        readings = {"model": static} | read_parts(
            loaded.model, loaded.tokenizer.eos, adaptation, segments, rows, lambda done: report(tokens + done)
        )
        result["rows"] = {row.name: _row(row, mix_row(row, readings, adaptation), adaptation, text) for row in rows}
        if text.sha256 == adaptation.tuned_on.get("sha256"):
            result["warnings"].append("the rows with memory were tuned on this text, or a part of it, which flatters them")
    if text.sha256 == trained_sha256(loaded, "train"):
        result["warnings"].append("this is the text that the model was trained on")
    return result


def trained_sha256(loaded: AnyModel, split: str) -> str | None:
    """The SHA-256 that a split had when the model was trained, if it knows."""
    hashes = loaded.training.get("text_sha256")
    return hashes.get(split) if isinstance(hashes, dict) else None


def _adaptation(loaded: AnyModel) -> Adaptation:
    if isinstance(loaded, LoadedNGram):
        raise UsageError(f"{loaded.path} is an n-gram model, which does not adapt; expected a neural one")
    return load_adaptation(loaded)


def _row(row: Row, reading: Reading, adaptation: Adaptation, text: TextCounts) -> dict[str, Any]:
    nats, tokens = -math.fsum(np.log(reading.probabilities_N)), len(reading.probabilities_N)
    return {
        "nll_nats": nats,
        "perplexity": _perplexity(nats, tokens),
        "perplexity_word": _perplexity(nats, text.words),
        "bits_per_byte": _ratio(nats / math.log(2), text.bytes),
        "parameters": describe(row, adaptation),
        "seconds": round(reading.seconds, 3),
        "tokens_per_second": round(tokens / max(reading.seconds, 1e-9), 1),
    }


def _scored(loaded: AnyModel, segments: list[Ids], chunk: int, progress: Callable[[int], None]) -> Scores:
    if isinstance(loaded, LoadedNGram):
        return score_with_ngrams(loaded.model, segments, progress=progress)
    return score_segments(loaded.model, segments, eos=loaded.tokenizer.eos, chunk=chunk, ranks=True, progress=progress)


def _figures(
    loaded: AnyModel, corpus: Corpus, text: TextCounts, mode: str, ids_N: Ids, scores: Scores, seconds: float
) -> dict[str, Any]:
    tokenizer = loaded.tokenizer
    nats, tokens = scores.nll_nats, len(scores.nats_N)
    is_eos_N = ids_N == tokenizer.eos
    is_unknown_N = np.zeros(tokens, bool) if tokenizer.unk is None else ids_N == tokenizer.unk
    unknown = int(is_unknown_N.sum())
    known_nats = math.fsum(scores.nats_N[~is_unknown_N])
    assert scores.ranks_N is not None, "accuracy needs ranks"
    ranks_N = scores.ranks_N
    reciprocal = np.where(ranks_N <= _RECIPROCAL_LIMIT, 1.0 / ranks_N, 0.0)
    return {
        "schema": SCHEMA,
        "model": {
            "path": str(loaded.path),
            "parameters": loaded.model.num_parameters,
            "tokenizer": tokenizer.kind,
            "vocabulary_size": tokenizer.vocabulary_size,
            "sha256": loaded.sha256,
        }
        | ({"order": loaded.model.order} if isinstance(loaded, LoadedNGram) else {}),
        "text": {
            "paths": list(corpus.names),
            "sha256": text.sha256,
            "bytes": text.bytes,
            "chars": text.chars,
            "words": text.words,
            "lines": text.lines,
            "documents": text.documents,
        },
        "protocol": {
            "mode": mode,
            "start": "<s>" if isinstance(loaded, LoadedNGram) else "eos",
            "precision": "fp32",
            "approximate": False,
        },
        "nll_nats": nats,
        "tokens": tokens,
        "tokens_eos": int(is_eos_N.sum()),
        "tokens_unknown": unknown,
        "perplexity": {
            "token": _perplexity(nats, tokens),
            "word": _perplexity(nats, text.words),
            "word_with_eos": _perplexity(nats, text.words + text.lines),
            "byte": _perplexity(nats, text.bytes),
        },
        "bits_per_byte": _ratio(nats / math.log(2), text.bytes),
        "bits_per_char": _ratio(nats / math.log(2), text.chars),
        "lossless": tokenizer.lossless and unknown == 0,
        "oov": {
            "rate": _ratio(unknown, tokens),
            "including": _perplexity(nats, tokens),
            "excluding": _perplexity(known_nats, tokens - unknown),
            "adjusted": None,
        },
        "accuracy": {f"top{k}": _ratio(int((ranks_N <= k).sum()), tokens) for k in TOP},
        "mrr10": _ratio(math.fsum(reciprocal), tokens),
        "confidence95": None,
        "rows": {},
        "warnings": text.notes(tokenizer.kind),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
    }


def _ratio(numerator: float, denominator: int) -> float | None:
    return numerator / denominator if denominator else None


def _perplexity(nats: float, count: int) -> float | None:
    """None where there is nothing to divide by, or the figure exceeds every float."""
    value = perplexity(nats, count) if count else math.inf
    return value if math.isfinite(value) else None


def trained_on(loaded: AnyModel) -> tuple[tuple[str, ...], CorpusConfig] | None:
    """The sources that a model was trained on, and how they were read; `None` where it does not know.

    Raises:
        ArtefactError: what it says about them cannot be meant.
    """
    about = loaded.training.get("options")
    if not about:
        return None
    try:
        return tuple(about["sources"]), from_mapping(CorpusConfig, about["corpus"], str(loaded.path))
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{loaded.path} is damaged: {error}") from error


def held_out(loaded: AnyModel) -> tuple[Corpus, str, str | None]:
    """The text that training kept from the model: where it is, its split (test, else valid), its SHA-256 then.

    Raises:
        UsageError: the model does not know what it was trained on, or that does not exist any more.
        DataError: it cannot be read.
    """
    about = trained_on(loaded)
    if about is None:
        raise UsageError(f"{loaded.path} does not know what it was trained on")
    corpus = open_corpus(*about)
    split = "test" if "test" in corpus.splits else "valid"
    return corpus, split, trained_sha256(loaded, split)


def forgetting(
    before: LoadedModel,
    after: LoadedModel,
    *,
    measured: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What a model that was trained on with new text has gained there, and lost on the old.

    `before` is the model that `after` started from; both score the text that was held out when either was trained.
    `measured` is the result of `evaluate` for `after` on its own one, where that is known already.

    A text that cannot be had any more, or has changed, is not among `texts` but in `missing`, with the reason; nothing
    is raised.
    """
    texts, missing = [], []
    for domain, owner in (("old", before), ("new", after)):
        try:
            corpus, split, sha256 = held_out(owner)
            first = evaluate(before, corpus, split, progress=progress, expected_sha256=sha256)
            second = measured if domain == "new" else None
            second = second or evaluate(after, corpus, split, progress=progress, expected_sha256=sha256)
        except (LstmlmError, OSError) as error:
            missing.append({"domain": domain, "reason": str(error)})
            continue
        about = {"domain": domain, "name": corpus.name, "split": split, "sha256": first["text"]["sha256"]}
        counts = {"tokens": first["tokens"], "bytes": first["text"]["bytes"], "words": first["text"]["words"]}
        texts.append(about | counts | {"before": _headline(first), "after": _headline(second)})
    return {"before": before.sha256, "after": after.sha256, "texts": texts, "missing": missing}


def _headline(result: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "nll_nats": result["nll_nats"],
        "bits_per_byte": result["bits_per_byte"],
        "perplexity_word": result["perplexity"]["word"],
    }
