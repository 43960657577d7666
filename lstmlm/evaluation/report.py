"""Every figure of a report, as data: the JSON object of `lstmlm eval --json` and all that is drawn from it.

A perplexity is exp(nats / count); both are in the result, with all counts, so that every figure can be recomputed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstmlm.adaptation import Adaptation, load_adaptation
from lstmlm.adaptation.mixture import Row, rows_with
from lstmlm.adaptation.rows import Reading, describe, mix_row, passes, read_parts
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import DEPTHS, MODES
from lstmlm.corpus import Corpus
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation.baselines import baselines
from lstmlm.evaluation.breakdowns import breakdowns
from lstmlm.evaluation.calibration import best_temperature, calibration
from lstmlm.evaluation.checks import self_checks
from lstmlm.evaluation.classification import classification
from lstmlm.evaluation.curves import training_curves
from lstmlm.evaluation.figures import headline
from lstmlm.evaluation.intervals import row_confidence
from lstmlm.evaluation.origin import count_symbols, segments_of, trained_sha256
from lstmlm.evaluation.provenance import cite, provenance
from lstmlm.evaluation.samples import coloured, samples
from lstmlm.evaluation.scored import Scored, finite_perplexity, ratio, score
from lstmlm.evaluation.seeds import check_runs, differ_in_more, over_runs
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
    others: Sequence[AnyModel] = (),
    depth: str = "headline",
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
    expected_sha256: str | None = None,
) -> dict[str, Any]:
    """Score all text of a split and report on it.

    `mode` says where the state is reset: `stream` at the beginning of each file, `document` at each document, `line` at
    each line. The tokens that are scored are the same in all three. N-grams see nothing before an `<eos>` in any.
    `adapt` names what the rows beside the headline may use, of `cache`, `dynamic` and `ngram`, as `lstmlm tune` fitted it.
    `others` are further runs of the same configuration, which give a mean and a standard deviation beside the figures.
    `depth` is how much is in the report: the `headline`; with all `details` that the same reading of the text yields, and
    self-checks; or `full`, with what takes another reading: n-grams of the training text, the best temperature, samples.
    `command` is noted where the figures come from. `progress` gets (tokens done, tokens in all). With `expected_sha256` the
    text must be that one: a split that was held out in training must still be the same text.

    Raises:
        UsageError: unknown mode, depth or split, the model was not tuned for `adapt`, or `others` are no runs of one
            configuration: they have another tokenizer, or the same weights.
        DataError: the text is empty, not UTF-8, or not the expected one.
        DivergedError: a token has no finite probability.
    """
    for name, value, allowed in (("mode", mode, MODES), ("depth", depth, DEPTHS)):
        if value not in allowed:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")
    runs = [loaded, *others]
    check_runs(runs, ", ".join(str(run.path) for run in runs))
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
    total = tokens * (1 + len(others) + passes(rows))

    def counted(before: int) -> Callable[[int], None]:
        """Reports progress of one reading, after so many others."""
        return lambda done: progress(before * tokens + done, total) if progress is not None else None

    scored = score(loaded, read, mode, chunk=chunk, progress=counted(0))
    seconds = time.monotonic() - began
    result = headline(scored, corpus, split)
    result |= {"rows": {}, "seconds": round(seconds, 3), "tokens_per_second": round(tokens / max(seconds, 1e-9), 1)}
    if others:
        more = [
            score(other, read, mode, chunk=chunk, guesses=False, progress=counted(number))
            for number, other in enumerate(others, 1)
        ]
        result["seeds"] = over_runs([scored, *more])
        if differ_in_more(runs):
            result["warnings"].append("the runs differ in more than their seed")
    if adaptation is not None and isinstance(loaded, LoadedModel):
        readings = {"model": Reading(np.exp(-scored.nats_N), scored.seconds)} | read_parts(
            loaded.model, loaded.tokenizer.eos, adaptation, read.segments(mode), rows, counted(1 + len(others))
        )
        result["rows"] = {row.name: _row(row, mix_row(row, readings, adaptation), adaptation, scored) for row in rows}
        if read.counts.sha256 == adaptation.tuned_on.get("sha256"):
            result["warnings"].append("the rows with memory were tuned on this text, or a part of it, which flatters them")
    if read.counts.sha256 == trained_sha256(loaded, "train"):
        result["warnings"].append("this is the text that the model was trained on")
    if depth != "headline":
        result |= _details(scored, corpus, split, full=depth == "full")
        result["provenance"] = provenance(scored, command)
        result["cite"] = cite(result)
    return result


def _details(scored: Scored, corpus: Corpus, split: str, *, full: bool) -> dict[str, Any]:
    """What can be said beyond the headline."""
    loaded = scored.loaded
    training = segments_of(loaded, "train", stored=not full)
    if training is not None:
        counts_V = count_symbols(training, loaded.tokenizer.vocabulary_size)
        scored = replace(scored, training_counts_V=counts_V)
    validation = segments_of(loaded, "valid") if full else None
    temperature = best_temperature(loaded, validation) if validation is not None else None
    return {
        "checks": self_checks(scored),
        "baselines": baselines(scored, training if full else None),
        "breakdowns": breakdowns(scored),
        "classification": classification(scored),
        "calibration": calibration(scored) | {"temperature": temperature},
        "training": training_curves(loaded),
        "samples": samples(scored) if full else None,
        "coloured": coloured(scored, corpus.pieces(split)) if full else None,
    }


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
