"""Two or more models on the same text: the JSON object of `lstmlm compare --json`, and all that is drawn from it.

    schema       "lstmlm.compare/1"
    text         as in `lstmlm eval --json`; the same for all models, or nothing is compared
    protocol     {"mode", "documents", "approximate": false}
    clusters     {"kind": "documents" | "blocks of lines", "count", "bytes": [C], "words": [C]}
    models       one for each, the reference first: {"name", "tokenizer", "vocabulary_size", "tokenizer_fingerprint",
                 "lossless" (on this text), "parameters", "precision" (as in `lstmlm eval --json`), "tokens",
                 "tokens_unknown", "nll_nats" (mean over runs), "cluster_tokens": [C], "cluster_nats": [C] (likewise),
                 "runs", "mean", "sd" (of `seeds.over_runs`)}
    comparisons  one for each model but the first: {"model", "reference" (places in `models`),
                 "unit": "nats per token" (one tokenizer) | "bits per byte", "denominator",
                 "delta" (above 0: the model is worse than the reference), "confidence95",
                 "p" (two-sided), "flips", "exact", "p_holm" (null for a single comparison),
                 "wins", "ties", "win_rate" (clusters that the model predicts better; a tie is half a win),
                 "perplexity": {"per": "token" | "word", "change" (0.01: 1% higher), "confidence95"},
                 "verdict": "better" | "worse" | "equal" (no cluster differs) | "not distinguished"}
    method       {"interval": "paired bootstrap", "draws", "seed", "test": "sign flips", "level"}
    training     of `learning.training_comparison`; null unless all models are of training runs
    warnings     sentences
    provenance   {"command", "date", "versions", "machine"}; hashes of the weights are in `runs`

A delta is the difference of two sums of nats over the same denominator. Interval and p are over clusters of the text: a
bootstrap (see `evaluation.intervals`) of the difference, and a test by sign flips (see `paired`). They say what another text
like this one would give; what another training with another seed would give is in `sd`, where a model has several runs.

C clusters, N tokens
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.comparison.learning import training_comparison
from lstmlm.comparison.paired import LEVEL, holm, sign_flip_test
from lstmlm.config import MODES
from lstmlm.corpus import Corpus
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation import trained_sha256
from lstmlm.evaluation.figures import precision
from lstmlm.evaluation.intervals import DRAWS, FEWEST, SEED, bootstrap_ratios, cluster_ends, sums
from lstmlm.evaluation.provenance import circumstances
from lstmlm.evaluation.scored import Scored, finite_perplexity, score
from lstmlm.evaluation.seeds import check_runs, differ_in_more, over_runs
from lstmlm.predictor import AnyModel
from lstmlm.token_store import ReadText, read_text

SCHEMA = "lstmlm.compare/1"
_COUNTS = ("sha256", "bytes", "chars", "words", "lines", "documents")


def compare(
    models: Sequence[AnyModel | Sequence[AnyModel]],
    corpus: Corpus,
    split: str = "test",
    *,
    mode: str = "stream",
    names: Sequence[str] | None = None,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score all text of a split with every model, and compare each with the first.

    A model is one, or the runs of one configuration with several seeds, whose surprisals are averaged. `mode` says where the
    state is reset (see `evaluate`); `names` are what the models are called, by default their paths; `command` is noted where
    the figures come from; `progress` gets (tokens done, tokens in all).

    Raises:
        UsageError: fewer than two models, runs with several tokenizers, an unknown mode or split; or the models have
            different tokenizers, of which one loses some of this text.
        DataError: the text is empty, or not UTF-8, or changes while it is read.
        DivergedError: a token has no finite probability.
    """
    if mode not in MODES:
        raise UsageError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    chosen = [list(runs) if isinstance(runs, Sequence) else [runs] for runs in models]
    names = names or [",".join(str(loaded.path) for loaded in runs) for runs in chosen]
    _check_models(chosen, names)
    readings: dict[str, ReadText] = {}
    for loaded, *_ in chosen:
        if loaded.tokenizer.fingerprint not in readings:
            readings[loaded.tokenizer.fingerprint] = read_text(loaded.tokenizer, corpus.files(split))
    _check_texts(chosen, names, readings, corpus)
    total, done = sum(len(readings[run.tokenizer.fingerprint].ids_N) for runs in chosen for run in runs), 0
    contenders = []
    for name, runs in zip(names, chosen, strict=True):
        read, scored = readings[runs[0].tokenizer.fingerprint], []
        for loaded in runs:

            def report(count: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + count, total)

            scored.append(score(loaded, read, mode, guesses=False, progress=report))
            done += len(read.ids_N)
        contenders.append(Contender(name, scored))
    return _compared(contenders, corpus, split) | {
        "training": training_comparison(chosen),
        "provenance": circumstances(command),
    }


@dataclass(frozen=True)
class Contender:
    """A model, or several runs of one configuration, and what it says of the text."""

    name: str
    runs: list[Scored]

    @property
    def read(self) -> ReadText:
        return self.runs[0].read

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer."""
        return self.runs[0].loaded.tokenizer.fingerprint

    @property
    def nats(self) -> float:
        """Of the text; the mean over runs."""
        return fmean(scored.scores.nll_nats for scored in self.runs)

    def line_ends(self, places_C: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many lines there are up to some places in the text, in bytes, [C]."""
        return np.searchsorted(np.cumsum(self.read.line_bytes_L), places_C, side="right")

    def token_ends(self, places_C: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens there are up to them, [C]."""
        return self.read.line_ends_L[self.line_ends(places_C) - 1]

    def nats_of(self, places_C: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of each cluster, [C]; the mean over runs."""
        ends = self.token_ends(places_C)
        found: NDArray[np.float64] = np.mean([sums(scored.nats_N, ends) for scored in self.runs], axis=0)
        return found


def _check_models(models: Sequence[Sequence[AnyModel]], names: Sequence[str]) -> None:
    if len(models) < 2 or not all(models):
        raise UsageError("there is nothing to compare; expected two models or more, each of one run at least")
    for name, runs in zip(names, models, strict=True):
        check_runs(runs, name)


def _check_texts(
    models: Sequence[Sequence[AnyModel]], names: Sequence[str], readings: dict[str, ReadText], corpus: Corpus
) -> None:
    """Refuse, before anything is scored, what must not be compared."""
    if len({reading.counts.sha256 for reading in readings.values()}) > 1:
        raise DataError(
            f"{corpus.name} was another text when it was read again; let it stand still while models are compared"
        )
    if len(readings) == 1:
        return
    for name, (loaded, *_) in zip(names, models, strict=True):
        tokenizer, read = loaded.tokenizer, readings[loaded.tokenizer.fingerprint]
        unknown = int((read.ids_N == tokenizer.unk).sum()) if tokenizer.unk is not None else 0
        if not tokenizer.lossless or unknown:
            why = (
                f"{unknown:,} of its tokens are unknown"
                if unknown
                else f"its {tokenizer.kind} tokenizer does not keep it all"
            )
            raise UsageError(
                f"the models have different tokenizers, and bits per byte mean nothing where one loses text as {name} does "
                f"({why}); compare models with one tokenizer, or with bpe or byte ones"
            )


def _compared(contenders: Sequence[Contender], corpus: Corpus, split: str) -> dict[str, Any]:
    places_C, kind = _clusters(contenders)
    first, text = contenders[0], contenders[0].read.counts
    bytes_C = np.diff(places_C, prepend=0)
    words_C = sums(first.read.line_words_L, first.line_ends(places_C))
    comparisons = [
        {"model": number, "reference": 0, **_pair(first, other, places_C, words_C)}
        for number, other in enumerate(contenders[1:], 1)
    ]
    for comparison, corrected in zip(comparisons, holm([one["p"] for one in comparisons]), strict=True):
        comparison["p_holm"] = corrected if len(comparisons) > 1 else None
        comparison["verdict"] = _verdict(comparison["delta"], corrected, comparison["ties"] == len(places_C))
    return {
        "schema": SCHEMA,
        "text": {"paths": list(corpus.names), "split": corpus.split_of_sources(split)}
        | {name: getattr(text, name) for name in _COUNTS},
        "protocol": {
            "mode": first.runs[0].mode,
            "documents": corpus.document_rule(split),
            "approximate": False,
        },
        "clusters": {"kind": kind, "count": len(places_C), "bytes": bytes_C.tolist(), "words": words_C.astype(int).tolist()},
        "models": [_model(contender, places_C) for contender in contenders],
        "comparisons": comparisons,
        "method": {"interval": "paired bootstrap", "draws": DRAWS, "seed": SEED, "test": "sign flips", "level": LEVEL},
        "warnings": _warnings(contenders, kind, len(places_C)),
    }


def _clusters(contenders: Sequence[Contender]) -> tuple[NDArray[np.int64], str]:
    """Where clusters end in the bytes of the text, [C], at line ends that every tokenizer has; and what they are.

    Blocks are measured in the longest tokens, so that none is smaller than a block should be, whoever comes first.
    """
    coarsest = min(contenders, key=lambda contender: len(contender.read.ids_N))
    ends, kind = cluster_ends(coarsest.runs[0])
    places_C = np.cumsum(coarsest.read.line_bytes_L)[np.searchsorted(coarsest.read.line_ends_L, ends)]
    for contender in contenders:
        places_C = np.intersect1d(places_C, np.cumsum(contender.read.line_bytes_L))
    return places_C, kind


def _model(contender: Contender, places_C: NDArray[np.int64]) -> dict[str, Any]:
    loaded, unknown = contender.runs[0].loaded, int(contender.runs[0].unknown_N.sum())
    return {
        "name": contender.name,
        "tokenizer": loaded.tokenizer.kind,
        "vocabulary_size": loaded.tokenizer.vocabulary_size,
        "tokenizer_fingerprint": contender.fingerprint,
        "lossless": loaded.tokenizer.lossless and unknown == 0,
        "parameters": loaded.model.num_parameters,
        "precision": precision(loaded),
        "tokens": len(contender.read.ids_N),
        "tokens_unknown": unknown,
        "nll_nats": contender.nats,
        "cluster_tokens": np.diff(contender.token_ends(places_C), prepend=0).tolist(),
        "cluster_nats": contender.nats_of(places_C).tolist(),
    } | over_runs(contender.runs)


def _pair(first: Contender, second: Contender, places_C: NDArray[np.int64], words_C: NDArray[np.float64]) -> dict[str, Any]:
    """The second compared with the first."""
    differences_C = second.nats_of(places_C) - first.nats_of(places_C)
    nats, text = second.nats - first.nats, first.read.counts
    if one_tokenizer := first.fingerprint == second.fingerprint:
        denominator, scale, units = len(first.read.ids_N), 1.0, len(first.read.ids_N)
        counts_C = units_C = np.diff(first.token_ends(places_C), prepend=0)
    else:
        denominator, scale, units = text.bytes, math.log(2), text.words
        counts_C, units_C = np.diff(places_C, prepend=0), words_C
    several = len(places_C) > 1  # draws of a single one would all be the same
    drawn = bootstrap_ratios(differences_C, {"delta": counts_C, "perplexity": units_C}) if several else {}
    test = sign_flip_test(differences_C)
    wins, ties = int((differences_C < 0).sum()), int((differences_C == 0).sum())
    return {
        "unit": "nats per token" if one_tokenizer else "bits per byte",
        "denominator": denominator,
        "delta": nats / scale / denominator,
        "confidence95": [quantile / scale for quantile in drawn["delta"]] if "delta" in drawn else None,
        **asdict(test),
        "wins": wins,
        "ties": ties,
        "win_rate": (wins + ties / 2) / len(places_C),
        "perplexity": {
            "per": "token" if one_tokenizer else "word",
            "change": _change(nats, units),
            "confidence95": [_change(quantile, 1) for quantile in drawn["perplexity"]] if "perplexity" in drawn else None,
        },
    }


def _change(nats: float, count: int) -> float | None:
    """By which share a perplexity rises with so many more nats."""
    factor = finite_perplexity(nats, count)
    return None if factor is None else factor - 1


def _verdict(delta: float, p: float, equal: bool) -> str:
    if equal:
        return "equal"
    if p >= LEVEL:
        return "not distinguished"
    return "worse" if delta > 0 else "better"


def _warnings(contenders: Sequence[Contender], kind: str, clusters: int) -> list[str]:
    text = contenders[0].read.counts
    found = [note for contender in contenders for note in text.notes(contender.runs[0].loaded.tokenizer.kind)]
    if clusters < FEWEST:
        least = 2.0 ** (1 - clusters)
        hopeless = f"; no p can be below {least:.2g}, so that no difference can be found" if least >= LEVEL else ""
        counted = kind if clusters > 1 else kind.replace("documents", "document").replace("blocks", "block")
        found.append(f"the text has {clusters} {counted}, too few to say much{hopeless}")
    found += [
        f"the runs of {contender.name} differ in more than their seed"
        for contender in contenders
        if differ_in_more([scored.loaded for scored in contender.runs])
    ]
    found += [
        f"this is the text that {contender.name} was trained on"
        for contender in contenders
        if any(trained_sha256(scored.loaded, "train") == text.sha256 for scored in contender.runs)
    ]
    return list(dict.fromkeys(found))
