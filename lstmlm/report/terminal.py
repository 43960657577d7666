"""Reports for a terminal. Text from corpora and models passes through `visible`, so that none of it can act."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lstmlm.completion import Completion

JOINERS = "\u200c\u200d"
"""Formatting characters that act on nothing but the letters and pictures beside them."""
_MODES = {
    "stream": "the state carried through each file",
    "document": "the state reset at each document",
    "line": "the state reset at each line",
}


def visible(text: str) -> str:
    """`text` with every control and invisible formatting character but line ends and tabs written as an escape."""
    return "".join(
        character
        if character in "\n\t" + JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def evaluation_report(result: Mapping[str, Any]) -> RenderableType:
    """The figures of `evaluate`, the headline first, every perplexity with its numerator and denominator."""
    text, figures = result["text"], result["perplexity"]
    nats = f"{result['nll_nats']:,.1f}"
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("perplexity per word", _figure(figures["word"]), f"exp({nats} nats / {text['words']:,} words)")
    table.add_row(
        "  with line ends",
        _figure(figures["word_with_eos"]),
        f"exp({nats} / {text['words'] + text['lines']:,} words and lines)",
    )
    table.add_row("perplexity per token", _figure(figures["token"]), f"exp({nats} / {result['tokens']:,} tokens)")
    comparable = "comparable between tokenizers" if result["lossless"] else "not comparable: this tokenizer loses text"
    table.add_row("bits per byte", _figure(result["bits_per_byte"], 4), f"{text['bytes']:,} bytes; {comparable}")
    if result["tokens_unknown"]:
        rate = f"{result['tokens_unknown']:,} of {result['tokens']:,} tokens are unknown ({result['oov']['rate']:.2%})"
        table.add_row("  without unknown", _figure(result["oov"]["excluding"]), rate)
    accuracy = result["accuracy"]
    shares = "  ".join(f"top {k} {accuracy[f'top{k}']:.1%}" for k in (3, 5, 10))
    table.add_row("next token right", f"{accuracy['top1']:.1%}", f"{shares}  MRR@10 {result['mrr10']:.3f}")
    start = f"from a zero state, {_MODES[result['protocol']['mode']]}"
    if "order" in result["model"]:
        start = f"given up to {result['model']['order'] - 1} tokens before it, none from before an <eos>"
    protocol = (
        f"{', '.join(map(visible, text['paths']))}: every token a target exactly once, {start}; float32, the full "
        f"vocabulary of {result['model']['vocabulary_size']:,} ({result['model']['tokenizer']}). {result['seconds']:.1f} s, "
        f"{result['tokens_per_second']:,.0f} tokens/s."
    )
    warnings = [Text(f"note: {warning}", style="yellow") for warning in result["warnings"]]
    parts: list[RenderableType] = [table, *warnings, Text(protocol, style="dim")]
    if rows := result["rows"]:
        parts += [Text(), _rows_table(rows, figures["token"]), Text(_rows_parameters(rows), style="dim")]
    if "keyboard" in result:
        parts += [Text(), keyboard_report(result["keyboard"])]
    return Group(*parts)


def _rows_table(rows: Mapping[str, Any], static: float | None) -> Table:
    """What becomes of the headline with a memory: a row each, with its weights."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("with memory", style="bold")
    for name in ("per word", "per token", "bits/byte", "change", "tokens/s"):
        table.add_column(name, justify="right")
    table.add_column("weights", style="dim")
    for name, row in rows.items():
        change = f"{row['perplexity'] / static - 1:+.1%}" if static and row["perplexity"] else "-"
        figures = (_figure(row["perplexity_word"]), _figure(row["perplexity"]), _figure(row["bits_per_byte"], 4))
        weights = row["parameters"]["weights"]
        shares = " ".join(f"{part} {weight:.3f}" for part, weight in weights.items()) if len(weights) > 1 else ""
        table.add_row(name, *figures, change, f"{row['tokens_per_second']:,.0f}", shares)
    return table


def _rows_parameters(rows: Mapping[str, Any]) -> str:
    """What the rows share: `cache: window 2,000, sharpness 0.31. ngram: order 5. Tuned on ...`"""
    found: dict[str, Mapping[str, float]] = {}
    for row in rows.values():
        found |= {owner: values for owner, values in row["parameters"].items() if owner != "weights"}
    said = [
        f"{owner}: " + ", ".join(f"{name.replace('_', ' ')} {setting(value)}" for name, value in values.items())
        for owner, values in found.items()
    ]
    return ". ".join([*said, "All tuned on validation text."])


def keyboard_report(figures: Mapping[str, Any]) -> RenderableType:
    """The figures of `keyboard_metrics`."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")

    def add_accuracy(name: str, accuracy: Mapping[str, Any]) -> None:
        shares = "  ".join(f"top {k} {_percent(accuracy[f'top{k}'])}" for k in (3, 5, 10))
        more = f"{shares}  MRR@10 {_figure(accuracy['mrr10'], 3)}  of {accuracy['words']:,} words"
        table.add_row(name, _percent(accuracy["top1"]), more)

    add_accuracy("next word right", figures["accuracy"])
    if figures["accuracy_in_vocabulary"] != figures["accuracy"]:
        add_accuracy("  in vocabulary", figures["accuracy_in_vocabulary"])
    for part in figures["completion"]:
        typed = f"{part['from']:.0%} to {part['to']:.0%}" if part["from"] else f"under {part['to']:.0%}"
        more = f"top 3 {_percent(part['top3'])}  at {part['places']:,} places"
        table.add_row(f"  {typed} typed", _percent(part["top1"]), more)
    keys = figures["keystrokes"]
    limits = f"vocabulary limit {_percent(keys['vocabulary_limit'], 1)}  limit {_percent(keys['limit'], 1)}"
    more = f"{keys['keys']:,} keys for {keys['chars']:,} characters; {limits}"
    table.add_row("keystrokes saved", _percent(keys["saving"], 1), more)
    for name, kind in (("ghost right", "next"), ("  while typing", "typing")):
        ghost = figures["ghost"][kind]
        more = (
            f"where it is above {figures['threshold']:.0%}: at {_percent(ghost['coverage'])} of {ghost['places']:,} places"
        )
        table.add_row(name, _percent(ghost["precision"]), more)
    calibration = figures["calibration"]
    more = f"of the percentages of {calibration['words']:,} words shown"
    table.add_row("calibration error", _percent(calibration["ece"]), more)
    for name, kind in (("ms per list", "next"), ("  while typing", "typing")):
        ms = figures["latency_ms"][kind]
        table.add_row(name, _figure(ms["p50"]), f"p90 {_figure(ms['p90'])}  p99 {_figure(ms['p99'])}")
    how = (
        f"{figures['words']:,} of {figures['words_in_text']:,} words, and {figures['others']:,} marks and unknown words "
        f"between them, typed with {figures['k']} words shown; choosing one is one key and brings its space."
    )
    return Group(table, Text(how, style="dim"))


def _percent(share: float | None, whole: float = 100) -> str:
    """`18.2%`, where `share` is 0.182 or with `whole` 1, 18.2."""
    return "-" if share is None else f"{share * whole:.1f}%"


def setting(value: float) -> str:
    """`2,000` or `0.0625`"""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _figure(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}" if value < 1e6 else f"{value:.4g}"


def forgetting_report(result: Mapping[str, Any]) -> RenderableType:
    """Before and after training on with new text (`evaluation.forgetting`), one row for each text."""
    texts = result["texts"]
    by_word = all(text[when]["perplexity_word"] is not None for text in texts for when in ("before", "after"))
    figure, digits = ("perplexity_word", 2) if by_word else ("bits_per_byte", 4)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("perplexity per word" if by_word else "bits per byte", style="bold", overflow="fold")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for text in texts:
        before, after = text["before"][figure], text["after"][figure]
        label = f"{text['domain']} text: {visible(text['name'])}, {text['split']}"
        table.add_row(
            label, _figure(before, digits), _figure(after, digits), f"{after / before - 1:+.1%}" if before else "-"
        )
    return table


def candidate_line(completion: Completion) -> Text:
    """`1 mat 31%  2 man 12%  other 41%`, on one line."""
    line = Text()
    for number, candidate in enumerate(completion.candidates, 1):
        line.append(f"{number} ", style="dim")
        line.append(visible(candidate.word), style="bold")
        line.append(f" {candidate.probability:.0%}  ")
    line.append(f"other {completion.other_probability:.0%}", style="dim")
    return line


def next_words_report(completions: Sequence[Completion]) -> RenderableType:
    """The most likely next words of several texts."""
    rows: list[RenderableType] = []
    for completion in completions:
        rows.append(Text(visible(completion.text) + "…"))
        rows.append(Text("    ").append_text(candidate_line(completion)))
    return Group(*rows)


def counts_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    """Sizes of the splits: tokens where they are known, and the text's own counts."""
    columns = ("tokens", "tokens_unknown", "bytes", "chars", "words", "lines", "documents")
    shown = [name for name in columns if any(name in counts for counts in splits.values())]
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("split", style="bold")
    for name in shown:
        table.add_column(name.replace("tokens_unknown", "unknown"), justify="right")
    for split, counts in splits.items():
        table.add_row(split, *(f"{counts[name]:,}" if name in counts else "-" for name in shown))
    return table
