"""Figures of experiments with sentences for a terminal: minimal pairs, and regions by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lstmlm.report.formatting import visible


def pairs_report(figures: Mapping[str, Any]) -> RenderableType:
    """The figures of `pairs.Tally`: of all pairs first, then by each group."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", style="bold", overflow="fold")
    for name in ("pairs", "accuracy", "95% interval", "bits"):
        table.add_column(name, justify="right")
    _add_row(table, "all pairs", figures)
    if figures["known"] is not None:
        _add_row(table, "  without unknown words", figures["known"])
    for name, groups in figures["by"].items():
        table.add_row()
        table.add_row(Text(visible(name), style="dim"))
        for group in groups:
            _add_row(table, f"  {group['name']}", group)
    per_token = " per token" if figures["per_token"] else ""
    notes = [
        f"accuracy: share of pairs whose good sentence is likelier{per_token}; interval: Wilson. bits: how many fewer the "
        f"good sentence takes{per_token}, mean."
    ]
    if figures["ties"]:
        notes.append(f"Ties, which count half: {figures['ties']:,} of {figures['pairs']:,}.")
    if figures["pairs_unknown"]:
        notes.append(f"With words that the model does not know: {figures['pairs_unknown']:,} of {figures['pairs']:,}.")
    return Group(table, Text(" ".join(notes), style="dim"))


def _add_row(table: Table, name: str, figures: Mapping[str, Any]) -> None:
    if not figures["pairs"]:
        table.add_row(Text(visible(name)), "0", "-", "-", "-")
        return
    low, high = figures["confidence95"]
    shown = f"{figures['pairs']:,}", f"{figures['accuracy']:.1%}", f"{low:.1%} to {high:.1%}"
    table.add_row(Text(visible(name)), *shown, f"{figures['difference_bits']:+.2f}")


def regions_report(means: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The means of `regions.region_means`: a row for each region, a column for each condition."""
    conditions = list(dict.fromkeys(mean["condition"] for mean in means))
    by_place = {(mean["region"], mean["condition"]): mean for mean in means}
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("bits", style="bold", overflow="fold")
    for condition in conditions:
        table.add_column(Text(visible(condition)), justify="right", overflow="fold")
    for region in dict.fromkeys(mean["region"] for mean in means):
        found = (by_place.get((region, condition)) for condition in conditions)
        table.add_row(Text(visible(region)), *(f"{mean['bits']:.2f}" if mean else "-" for mean in found))
    items = sorted({mean["items"] for mean in means})
    counts = f"{items[0]:,}" if len(items) == 1 else f"{items[0]:,} to {items[-1]:,}"
    notes = [f"Means over {counts} items."] if items[-1] > 1 else ["Of 1 item."]
    if unknown := sum(mean["unknown"] for mean in means):
        notes.append(f"Words that the model does not know: {unknown:,}.")
    return Group(table, Text(" ".join(notes), style="dim"))
