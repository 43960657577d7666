"""Every figure of a report, as data: the JSON object of `lstmlm eval --json` and all that is drawn from it.

A perplexity is exp(nats / count); both are in the result, with all counts, so that every figure can be recomputed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from lstmlm.adaptation import Adaptation, load_adaptation
from lstmlm.adaptation.mixture import Row, rows_with
from lstmlm.adaptation.rows import Reading, describe, mix_row, passes, read_parts
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import MODES
from lstmlm.corpus import Corpus
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation.figures import headline
from lstmlm.evaluation.intervals import row_confidence
from lstmlm.evaluation.origin import trained_sha256
from lstmlm.evaluation.scored import Scored, finite_perplexity, ratio, score
from lstmlm.ngram import LoadedNGram
from lstmlm.predictor import AnyModel
from lstmlm.scoring import CHUNK
from lstmlm.token_store import read_text


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
    read = read_text(loaded.tokenizer, corpus.files(split))
    if expected_sha256 not in (None, read.counts.sha256):
        raise DataError(
            f"the {split} text of {corpus.name} has changed since this model was trained, and may hold text that it saw; "
            "name the text to evaluate on"
        )
    tokens = len(read.ids_N)
    total = tokens * (1 + passes(rows))

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    scored = score(loaded, read, mode, chunk=chunk, progress=report)
    result = headline(scored, corpus, split)
    seconds = time.monotonic() - began
    result |= {"rows": {}, "seconds": round(seconds, 3), "tokens_per_second": round(tokens / max(seconds, 1e-9), 1)}
    if adaptation is not None and isinstance(loaded, LoadedModel):
        readings = {"model": Reading(np.exp(-scored.nats_N), scored.seconds)} | read_parts(
            loaded.model, loaded.tokenizer.eos, adaptation, read.segments(mode), rows, lambda done: report(tokens + done)
        )
        result["rows"] = {row.name: _row(row, mix_row(row, readings, adaptation), adaptation, scored) for row in rows}
        if read.counts.sha256 == adaptation.tuned_on.get("sha256"):
            result["warnings"].append("the rows with memory were tuned on this text, or a part of it, which flatters them")
    if read.counts.sha256 == trained_sha256(loaded, "train"):
        result["warnings"].append("this is the text that the model was trained on")
    return result


def _adaptation(loaded: AnyModel) -> Adaptation:
    if isinstance(loaded, LoadedNGram):
        raise UsageError(f"{loaded.path} is an n-gram model, which does not adapt; expected a neural one")
    return load_adaptation(loaded)


def _row(row: Row, reading: Reading, adaptation: Adaptation, scored: Scored) -> dict[str, Any]:
    nats_N, text = -np.log(reading.probabilities_N), scored.text
    nats, tokens = math.fsum(nats_N), len(nats_N)
    return {
        "nll_nats": nats,
        "perplexity": finite_perplexity(nats, tokens),
        "perplexity_word": finite_perplexity(nats, text.words),
        "bits_per_byte": ratio(nats / math.log(2), text.bytes),
        "confidence95": row_confidence(scored, nats_N),
        "parameters": describe(row, adaptation),
        "seconds": round(reading.seconds, 3),
        "tokens_per_second": round(tokens / max(reading.seconds, 1e-9), 1),
    }
