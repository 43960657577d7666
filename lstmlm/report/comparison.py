"""A comparison of models (`lstmlm.comparison.compare`) as sections, for whoever draws them; see `report.sections`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lstmlm.report.formatting import figure, letter, nats, one_line, percent, whole
from lstmlm.report.layout import Section, Table, section, table

_VERDICTS = {"not distinguished": "unclear"}


def comparison_sections(comparison: Mapping[str, Any]) -> list[Section]:
    """The differences; what to think of them; how the runs of each model vary; and how training got there."""
    parts = (_differences, _warnings, _seeds, _training)
    return [found for part in parts if (found := part(comparison)) is not None]


def _differences(comparison: Mapping[str, Any]) -> Section | None:
    text, clusters, found = comparison["text"], comparison["clusters"], comparison["comparisons"]
    counts = ", ".join(
        f"{text[name]:,} {name if text[name] != 1 else name[:-1]}" for name in ("documents", "lines", "words", "bytes")
    )
    said = f"{one_line(', '.join(text['paths']))}: {counts}; mode {comparison['protocol']['mode']}."
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
    note = (
        f"Above 0 is worse than A; better on: of {clusters['count']:,} {clusters['kind']}. The interval is by a paired "
        f"bootstrap over them, p by {flips}, two-sided{corrected}; a verdict needs a p below "
        f"{comparison['method']['level']}.\n"
        f"They say what other text like this would give. What other seeds in training would give is not in them; {seeds}."
    )
    tables = [*_models(comparison), *table(columns, "lrlrrrrl", rows, "Differences")]
    return section("Comparison", said, tables, note)


def _models(comparison: Mapping[str, Any]) -> list[Table]:
    """The figures of each; those per token only where all have the same tokens."""
    models = comparison["models"]
    one_tokenizer = len({model["tokenizer_fingerprint"] for model in models}) == 1
    columns = ("", "parameters", "nats", "tokens", "per token", "per word", "bits/byte", "model")
    rows = [
        (
            letter(number),
            whole(model["parameters"]),
            nats(model["nll_nats"]),
            whole(model["tokens"]),
            figure(model["mean"]["perplexity_token"]) if one_tokenizer else "",
            figure(model["mean"]["perplexity_word"]),
            figure(model["mean"]["bits_per_byte"], 4),
            one_line(model["name"]),
        )
        for number, model in enumerate(models)
    ]
    return table(columns, "lrrrrrrl", rows, "Perplexities of the models")


def _signed(value: float) -> str:
    return f"{value:+.4f}" if value else "0"


def _change(perplexity: Mapping[str, Any]) -> str:
    share = perplexity["change"]
    return "" if share is None else f"{share:+,.{2 if abs(share) < 1 else 0}%} per {perplexity['per']}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _warnings(comparison: Mapping[str, Any]) -> Section | None:
    found = [one_line(warning) for warning in comparison["warnings"]]
    return Section("Warnings", "\n".join(found)) if found else None


def _seeds(comparison: Mapping[str, Any]) -> Section | None:
    """A row for each run of the models that have several."""
    rows = []
    for number, model in enumerate(comparison["models"]):
        if model["sd"] is not None:
            runs = [(str(run["seed"] or ""), run, one_line(run["path"])) for run in model["runs"]]
            for label, values, path in [*runs, ("mean", model["mean"], ""), ("standard deviation", model["sd"], "")]:
                shown = figure(values["perplexity_token"]), figure(values["perplexity_word"])
                rows.append((letter(number), label, *shown, figure(values["bits_per_byte"], 4), path))
    said = "Trainings that differ in their seed. What is compared is the mean of their surprisals."
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
