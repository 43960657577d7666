"""A comparison of models (`lstmlm.comparison.compare`) as sections, for whoever draws them; see `report.sections`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lstmlm.report.details import origin
from lstmlm.report.formatting import counted, digits_over, figure, letter, nats, one_line, percent, whole
from lstmlm.report.layout import Section, Table, section, table
from lstmlm.report.overview import documents_end, seed_of, text_name

_VERDICTS = {"not distinguished": "unclear"}
_MOST_PERCENT = 100.0
"""A share, from which on it is said how many times as high a perplexity is."""
_FARTHEST = 5
"""Clusters that are shown each way."""


def comparison_sections(comparison: Mapping[str, Any]) -> list[Section]:
    """The differences; what to think of them; where they are; how the runs of each model vary; how all this came about."""
    parts = (_differences, _warnings, _clusters, _seeds, _training, _provenance)
    return [found for part in parts if (found := part(comparison)) is not None]


def _differences(comparison: Mapping[str, Any]) -> Section | None:
    text, clusters, found = comparison["text"], comparison["clusters"], comparison["comparisons"]
    counts = ", ".join(counted(text[name], name) for name in ("documents", "lines", "words", "bytes"))
    how = "; ".join(filter(None, (f"mode {comparison['protocol']['mode']}", documents_end(comparison))))
    said = f"{text_name(comparison)}: {counts}; {how}."
    several = found[0]["p_holm"] is not None
    columns = (
        "",
        "difference",
        "unit",
        "95% interval",
        "perplexity",
        "better on",
        "p (Holm)" if several else "p",
        "verdict",
    )
    rows = [
        (
            f"{letter(one['model'])} - {letter(one['reference'])}",
            _signed(one["delta"]),
            one["unit"].replace(" per ", "/"),
            " to ".join(map(_signed, one["confidence95"] or ())),
            _change(one["perplexity"]),
            percent(one["win_rate"]),
            _p(one["p_holm"] if several else one["p"]),
            _VERDICTS.get(one["verdict"], one["verdict"]),
        )
        for one in found
    ]
    flips = f"{'all' if found[0]['exact'] else 'random'} flips of their signs ({found[0]['flips']:,})"
    corrected = f", corrected for {len(found)} comparisons" if several else ""
    seeds = "the standard deviations below say that" if _seeds(comparison) else "each model is a single training"
    test, they, them = ("The interval is by a paired bootstrap over them, p by", "They say", "them")
    if not any(one["confidence95"] for one in found):
        test, they, them = "p is by", "It says", "it"
    note = (
        f"Above 0 is worse than A; better on: of {counted(clusters['count'], clusters['kind'])}. {test} {flips}, "
        f"two-sided{corrected}; a verdict needs a p below {comparison['method']['level']}.\n"
        f"{they} what other text like this would give. What other seeds in training would give is not in {them}; {seeds}."
    )
    tables = [*_models(comparison), *table(columns, "lrlrrrrl", rows, "Differences")]
    return section("Comparison", said, tables, note)


def _models(comparison: Mapping[str, Any]) -> list[Table]:
    """The figures of each; those per token only where all have the same tokens."""
    models = comparison["models"]
    one_tokenizer = len({model["tokenizer_fingerprint"] for model in models}) == 1
    unknown = any(model.get("tokens_unknown") for model in models)
    columns = ("", "parameters", "nats", "tokens", "unknown", "per token", "per word", "bits/byte", "model")
    rows = [
        (
            letter(number),
            whole(model["parameters"]),
            nats(model["nll_nats"], digits_over(model["nll_nats"], model["tokens"])),
            whole(model["tokens"]),
            whole(model.get("tokens_unknown")) if unknown else "",
            figure(model["mean"]["perplexity_token"]) if one_tokenizer else "",
            figure(model["mean"]["perplexity_word"]),
            figure(model["mean"]["bits_per_byte"], 4),
            one_line(model["name"]),
        )
        for number, model in enumerate(models)
    ]
    return table(columns, "lrrrrrrrl", rows, "Perplexities of the models")


def _signed(value: float) -> str:
    return f"{value:+.4f}" if value else "0"


def _change(perplexity: Mapping[str, Any]) -> str:
    share = perplexity["change"]
    if share is None:
        return ""
    shown = f"{share:+,.{2 if abs(share) < 1 else 0}%}" if share < _MOST_PERCENT else f"{figure(1 + share)} times"
    return f"{shown} per {perplexity['per']}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _warnings(comparison: Mapping[str, Any]) -> Section | None:
    found = [one_line(warning) for warning in comparison["warnings"]]
    return Section("Warnings", "\n".join(found)) if found else None


def _clusters(comparison: Mapping[str, Any]) -> Section | None:
    """Those where a model differs most from the reference."""
    clusters, models = comparison["clusters"], comparison["models"]
    if clusters["count"] < 2:
        return None
    unit = "words" if sum(clusters["words"]) else "bytes"
    rows = []
    for one in comparison["comparisons"]:
        found, reference = (models[one[which]]["cluster_nats"] for which in ("model", "reference"))
        bits = [(mine - its) / math.log(2) for mine, its in zip(found, reference, strict=True)]
        rising = sorted((place for place, more in enumerate(bits) if more), key=lambda place: bits[place])
        better = [place for place in rising if bits[place] < 0][:_FARTHEST]
        worse = [place for place in rising if bits[place] > 0][-_FARTHEST:]
        pair = f"{letter(one['model'])} - {letter(one['reference'])}"
        rows += [
            (pair, f"{place + 1:,}", whole(clusters[unit][place]), f"{bits[place]:+,.2f}") for place in (*better, *worse)
        ]
    kind = clusters["kind"]
    said = (
        f"The {kind} on which a model differs most from A, up to {_FARTHEST} each way, in the order of their difference: "
        "their number in the text, and how many bits more the model takes for the whole of each."
    )
    return section("Largest differences", said, table(("", "number", unit, "bits"), "lrrr", rows))


def _seeds(comparison: Mapping[str, Any]) -> Section | None:
    """A row for each run of the models that have several."""
    rows = []
    for number, model in enumerate(comparison["models"]):
        if model["sd"] is not None:
            runs = [(seed_of(run), run, one_line(run["path"])) for run in model["runs"]]
            for label, values, path in [*runs, ("mean", model["mean"], ""), ("standard deviation", model["sd"], "")]:
                shown = figure(values["perplexity_token"]), figure(values["perplexity_word"])
                rows.append((letter(number), label, *shown, figure(values["bits_per_byte"], 4), path))
    said = "Several trainings each. What is compared is the mean of their surprisals."
    return section("Seeds", said, table(("", "seed", "per token", "per word", "bits/byte", "run"), "llrrrl", rows))


def _training(comparison: Mapping[str, Any]) -> Section | None:
    """The best validation perplexity so far at common times, one column for each model."""
    training = comparison["training"]
    if training is None:
        return None
    if training["left_out"]:
        return Section("Training", f"Their losses do not stand side by side: {training['left_out']}.")
    columns = ("seconds", *map(letter, range(len(comparison["models"]))))
    rows = [
        (f"{seconds:,.0f}", *(figure(perplexities[place]) for perplexities in training["perplexity"]))
        for place, seconds in enumerate(training["seconds"])
    ]
    said = "The best validation perplexity per token after some seconds of training."
    found = section("Training", said, table(columns, "r" * len(columns), rows))
    return replace(found, plot="learning") if found else None


def _provenance(comparison: Mapping[str, Any]) -> Section | None:
    """How the comparison came about, on which files."""
    rows = origin(comparison)
    rows.append(("text sha256", one_line(comparison["text"]["sha256"])))
    for number, model in enumerate(comparison["models"]):
        several = len(model["runs"]) > 1
        for run in model["runs"]:
            which = f", {one_line(run['path'])}" if several else ""
            rows.append((f"{letter(number)} sha256", f"{run['sha256']}{which}"))
    return section("Provenance", "What is needed to compute all this again.", table(("", ""), "ll", rows))
