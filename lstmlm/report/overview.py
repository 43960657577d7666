"""The first sections of a report: what the figures are, whether to believe them, and how they stand beside others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lstmlm.report.formatting import digits_of, digits_over, figure, interval, nats, one_line, settings, whole
from lstmlm.report.layout import Section, at, section, table

_MODES = {
    "stream": "the state carried through each file",
    "document": "the state reset at each document",
    "line": "the state reset at each line",
}
_DOCUMENTS = {"file": "a document is a file", "blank-line": "documents end at blank lines", "row": "a document is a row"}
_PRECISIONS = {"fp64": "float64"}
_DIGITS_OF_BITS = 4


def _exp(total: float | None, count: float | None, unit: str) -> str:
    if total is None or not count:
        return ""
    return f"exp({nats(total, digits_over(total, count))} / {whole(count)} {unit})"


def _ratio(total: float | None, count: float | None, unit: str) -> str:
    if total is None or not count:
        return ""
    bits = total / math.log(2)
    digits = digits_of(bits, lambda shown: figure(shown / count, _DIGITS_OF_BITS))
    return f"{nats(bits, digits)} bits / {whole(count)} {unit}"


# -- The headline, and what to think of it ----------------------------------------------------------------------------------


def headline(result: Mapping[str, Any]) -> Section | None:
    """Every perplexity with its interval, its sum and its count."""
    total, tokens, unknown = at(result, "nll_nats"), at(result, "tokens"), at(result, "tokens_unknown")
    words, lines = at(result, "text", "words"), at(result, "text", "lines")
    ends = words + lines if words is not None and lines is not None else None
    rows = [
        _headline_row(result, "perplexity per word", "word", _exp(total, words, "words")),
        _headline_row(result, "  with line ends", "word_with_eos", _exp(total, ends, "of both")),
        _headline_row(result, "perplexity per token", "token", _exp(total, tokens, "tokens")),
    ]
    if unknown and tokens:
        excluding, adjusted = at(result, "oov", "excluding"), at(result, "oov", "adjusted")
        known = tokens - unknown
        made = _exp(math.log(excluding) * known if excluding else None, known, "tokens")
        rows.append(("  without unknown", figure(excluding), "", made))
        made = _exp(math.log(adjusted) * tokens if adjusted else None, tokens, "tokens")
        rows.append(("  unknown adjusted", figure(adjusted), "", made))
    for label, name, unit in (("bits per byte", "bits_per_byte", "bytes"), ("bits per character", "bits_per_char", "chars")):
        made = _ratio(total, at(result, "text", unit), unit)
        within = interval(at(result, "confidence95", name), _DIGITS_OF_BITS)
        rows.append((label, figure(at(result, name), _DIGITS_OF_BITS), within, made))
    text = (
        "The surprisals of all tokens, in nats, are summed and divided by a count. A perplexity of 80 says that the model "
        "was as unsure, on average, as between 80 equally likely choices. The 95% interval says how far the figure may be "
        "from that of all text like this one."
    )
    tables = table(("", "", "95% interval", "nats / count"), "lrrl", rows)
    return section("Perplexity", text, tables, "\n".join(_comparability(result) + _interval(result) + protocol(result)))


def _headline_row(result: Mapping[str, Any], label: str, name: str, made: str) -> tuple[str, ...]:
    within = interval(at(result, "confidence95", f"perplexity_{name}"))
    return label, figure(at(result, "perplexity", name)), within, made


def _comparability(result: Mapping[str, Any]) -> list[str]:
    """What may be compared with other models."""
    lossless, unknown, tokens = (at(result, name) for name in ("lossless", "tokens_unknown", "tokens"))
    said = []
    if unknown and tokens:
        types = at(result, "unknown_types")
        adjusted = f"; adjusted, each also pays for the choice among their {types:,} types" if types else ""
        said.append(f"{unknown:,} of {tokens:,} tokens ({unknown / tokens:.2%}) are unknown to the model{adjusted}.")
        said.append("These figures compare only with those of models that have the same vocabulary.")
    elif lossless:
        said.append("Perplexities per word and bits per byte compare models with different tokenizers.")
    elif lossless is not None:
        said.append(
            "Perplexities per word compare models with different tokenizers; bits per byte do not, as this one loses text."
        )
    return said


def _interval(result: Mapping[str, Any]) -> list[str]:
    """What the intervals were made from."""
    method, clusters, draws = (at(result, "confidence95", name) for name in ("method", "clusters", "draws"))
    if method is None or clusters is None or draws is None or clusters < 2:
        return []
    return [f"95% intervals: {method.replace(', ', f' over {clusters:,} ')}, {draws:,} draws."]


def text_name(result: Mapping[str, Any]) -> str:
    """`the test split of everyday`, or the paths of a text without splits; empty where they are missing."""
    name, split = one_line(", ".join(at(result, "text", "paths") or [])), at(result, "text", "split")
    return f"the {one_line(split)} split of {name}" if name and split else name


def documents_end(result: Mapping[str, Any]) -> str:
    """What a document is; empty where that is missing."""
    return _DOCUMENTS.get(at(result, "protocol", "documents") or "", "")


def protocol(result: Mapping[str, Any]) -> list[str]:
    """How the text was scored, in one sentence."""
    mode, order = at(result, "protocol", "mode"), at(result, "model", "order")
    if mode is None:
        return []
    start = f"from a zero state, {_MODES.get(mode, mode)}"
    if order is not None:
        start = f"given up to {order - 1} tokens before it, none from before an <eos>"
    size, kind = at(result, "model", "vocabulary_size"), at(result, "model", "tokenizer")
    name, documents = text_name(result) or "The text", documents_end(result)
    precision = _PRECISIONS.get(at(result, "protocol", "precision") or "", "float32")
    vocabulary = f"the full vocabulary of {size:,} ({kind})" if size is not None and kind else "the full vocabulary"
    approximate = ", approximate" if at(result, "protocol", "approximate") else ""
    seconds, rate = at(result, "seconds"), at(result, "tokens_per_second")
    took = f" {seconds:.1f} s, {rate:,.0f} tokens/s." if seconds is not None and rate is not None else ""
    how = "; ".join(filter(None, (start, documents, f"{precision}, {vocabulary}{approximate}")))
    return [f"{name}: every token a target exactly once, {how}.{took}"]


def warnings(result: Mapping[str, Any]) -> Section | None:
    """What to know before a figure is believed, a paragraph each."""
    found = [one_line(warning) for warning in result.get("warnings") or []]
    return Section("Warnings", "\n".join(found)) if found else None


def checks(result: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """Name, whether it passed, and details of every self-check that could be made."""
    return [
        (one_line(check.get("name") or ""), check["passed"], one_line(check.get("detail") or ""))
        for check in result.get("checks") or []
        if check.get("passed") is not None
    ]


def self_checks(result: Mapping[str, Any]) -> Section | None:
    """What was tried on this model, on this text."""
    rows = [(name, "passed" if passed else "FAILED", detail) for name, passed, detail in checks(result)]
    text = "Each was tried on this model and this text while they were scored; a report with a failed one is worth nothing."
    return section("Self-checks", text, table(("", "", ""), "lll", rows))


# -- Beside other models, and itself --------------------------------------------------------------------------------------


def comparison(result: Mapping[str, Any]) -> Section | None:
    """Baselines, this model, and what a memory makes of it; all of the same tokens."""
    baselines, rows = result.get("baselines") or {}, result.get("rows") or {}
    if not baselines and not rows:
        return None
    if at(rows, "ngram", "nll_nats") in [at(row, "nll_nats") for row in baselines.values()]:  # the same n-grams
        rows = {name: row for name, row in rows.items() if name != "ngram"}
    static = at(result, "perplexity", "token")
    own = {
        "perplexity": static,
        "perplexity_word": at(result, "perplexity", "word"),
        "bits_per_byte": at(result, "bits_per_byte"),
        "confidence95": at(result, "confidence95", "perplexity_token"),
    }
    cells = []
    for name, row in ({**baselines, "this model": own} | rows).items():
        value = at(row, "perplexity")
        change = _change(value / static - 1) if value and static and row is not own else ""
        per_word, per_byte = figure(at(row, "perplexity_word")), figure(at(row, "bits_per_byte"), 4)
        bounds = at(row, "confidence95") or (0.0, 0.0)
        within = interval(bounds) if figure(bounds[0]) != figure(bounds[1]) else ""  # uniform: the same for any text
        cells.append((name, per_word, figure(value), within, per_byte, change))
    text = (
        "All rows give probabilities to the same tokens. The change is against this model; like the interval, it is that of "
        "the perplexity per token."
    )
    if baselines:
        text += " uniform: all tokens equally likely; unigram: as frequent as in training; n-gram: Kneser-Ney smoothing."
    if rows:
        text += " Rows with a memory learn from each token after it was scored."
    tables = table(("", "per word", "per token", "95% interval", "bits/byte", "change"), "lrrrrr", cells)
    weights = [
        (name, _weights(at(row, "parameters", "weights")), whole(at(row, "tokens_per_second"))) for name, row in rows.items()
    ]
    return section("Comparison", text, tables + table(("row", "weights", "tokens/s"), "llr", weights), _parameters(rows))


def _change(share: float) -> str:
    return f"{share:+,.{1 if abs(share) < 10 else 0}%}"


def _weights(weights: Mapping[str, float] | None) -> str:
    """Nothing for a single one."""
    shown = [f"{part} {weight:.3f}" for part, weight in (weights or {}).items() if weight is not None]
    return " ".join(shown) if len(shown) > 1 else ""


def _parameters(rows: Mapping[str, Any]) -> str:
    """What the rows share: `cache: window 2,000, sharpness 0.31. ngram: order 5. All tuned on validation text.`"""
    found: dict[str, Any] = {}
    for row in rows.values():
        found |= {owner: values for owner, values in (at(row, "parameters") or {}).items() if owner != "weights"}
    said = [f"{owner}: {settings(values)}" for owner, values in found.items()]
    return ". ".join([*said, "All tuned on validation text."]) if rows else ""


def seeds(result: Mapping[str, Any]) -> Section | None:
    """The figures of each run, and how far apart they are."""
    runs = at(result, "seeds", "runs") or []
    names = {"perplexity_word": "per word", "perplexity_token": "per token", "bits_per_byte": "bits/byte"}

    def cells(label: str, path: str, values: Any) -> tuple[str, ...]:
        return label, *(figure(at(values, name), 4 if name == "bits_per_byte" else 2) for name in names), path

    rows = [cells(seed_of(run), one_line(run.get("path") or ""), run) for run in runs]
    rows.append(cells("mean", "", at(result, "seeds", "mean")))
    rows.append(cells("standard deviation", "", at(result, "seeds", "sd")))
    text = (
        "Several trainings. Where they differ in their seed alone, the standard deviation is what chance in training is "
        "worth; the interval above is what chance in the choice of the text is worth."
    )
    note = "The headline, the rows beside it and the self-checks are those of the first run."
    return section("Seeds", text, table(("seed", *names.values(), "run"), "l" + "r" * len(names) + "l", rows), note)


def seed_of(run: Mapping[str, Any]) -> str:
    """As it was given; empty for what has none."""
    return "" if run.get("seed") is None else str(run["seed"])
