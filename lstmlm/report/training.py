"""What a training run shows of its text, and of what it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from lstmlm.report.formatting import figure, visible


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


def forgetting_report(result: Mapping[str, Any]) -> RenderableType:
    """Before and after training on with new text (`evaluation.forgetting`), one row for each text."""
    texts = result["texts"]
    by_word = all(text[when]["perplexity_word"] is not None for text in texts for when in ("before", "after"))
    name, digits = ("perplexity_word", 2) if by_word else ("bits_per_byte", 4)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("perplexity per word" if by_word else "bits per byte", style="bold", overflow="fold")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for text in texts:
        before, after = text["before"][name], text["after"][name]
        label = f"{text['domain']} text: {visible(text['name'])}, {text['split']}"
        change = f"{after / before - 1:+.1%}" if before else ""
        table.add_row(label, figure(before, digits), figure(after, digits), change)
    return table
