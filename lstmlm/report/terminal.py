"""The report of an evaluation, or a comparison, on a terminal: the figures that matter, or all of its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.constrain import Constrain
from rich.rule import Rule
from rich.table import Table as Drawn
from rich.text import Text

from lstmlm.report import details, overview
from lstmlm.report.colours import BITS_PER_COLOUR, RAMP
from lstmlm.report.comparison import comparison_sections
from lstmlm.report.formatting import percent, visible
from lstmlm.report.layout import Section, Table, at
from lstmlm.report.sections import sections

_LINE = 100
"""Columns of running text; longer lines are hard to follow back."""
_FAILED = "bold red"


def evaluation_report(result: Mapping[str, Any], full: bool = False) -> RenderableType:
    """The figures of `evaluate`, the headline first, every perplexity with its numerator and denominator."""
    return Group(*(_all(sections(result), result) if full else _summary(result)))


def comparison_report(comparison: Mapping[str, Any]) -> RenderableType:
    """Everything that `lstmlm.comparison.compare` found."""
    return Group(*_all(comparison_sections(comparison), comparison))


def keyboard_report(figures: Mapping[str, Any]) -> RenderableType:
    """The figures of `keyboard_metrics`."""
    found = details.keyboard({"keyboard": figures})
    return Group(*_tables(found)) if found else Text()


def _summary(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    headline = overview.headline(result)
    if headline is not None:
        (figures,) = headline.tables
        yield _drawn(figures)
        yield _next_token(result, figures)
    yield from (Text(f"note: {warning}", style="yellow") for warning in overview.warnings(result))
    yield from _checks(result)
    for section in (overview.comparison(result), details.keyboard(result)):
        if section is not None:
            yield Text()
            yield from _tables(section)
    if headline is not None:
        yield Text()
        yield from _paragraphs(headline.note, "dim")


def _next_token(result: Mapping[str, Any], above: Table) -> RenderableType:
    """Accuracies, in the columns of the table above."""
    first, more = (
        percent(at(result, "accuracy", "top1")),
        "; ".join(details.tops(result.get("accuracy"), result.get("mrr10"))),
    )
    table = Drawn.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", min_width=max(len(row[0]) for row in above.rows))
    table.add_column(justify="right", min_width=max(len(row[1]) for row in above.rows), no_wrap=True)
    table.add_column(style="dim")
    if first or more:
        table.add_row("next token right", first, more)
    return table


def _checks(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """All self-checks in one line, and what failed."""
    found = overview.checks(result)
    failed = [(name, detail) for name, passed, detail in found if not passed]
    if found:
        yield Text(f"{len(found) - len(failed)} of {len(found)} self-checks passed", style="dim" if not failed else _FAILED)
    yield from (Text(f"failed: {name}{': ' if detail else ''}{detail}", style=_FAILED) for name, detail in failed)


def _all(found: Sequence[Section], result: Mapping[str, Any]) -> Iterator[RenderableType]:
    for number, section in enumerate(found):
        if number:
            yield Text()
        yield Rule(Text(section.title, style="bold"), align="left", style="dim")
        yield from _paragraphs(section.text, "yellow" if section.title == "Warnings" else "")
        if section.text and section.tables:
            yield Text()
        yield from _tables(section)
        if section.plot == "coloured":
            yield Text()
            yield Constrain(Coloured(result["coloured"]), _LINE)


def _tables(section: Section) -> Iterator[RenderableType]:
    """All tables, and the note on them."""
    for number, table in enumerate(section.tables):
        if number:
            yield Text()
        if table.title:
            yield Text(table.title, style="italic")
        yield _drawn(table)
    yield from _paragraphs(section.note, "dim")


def _paragraphs(text: str, style: str) -> Iterator[RenderableType]:
    yield from (Constrain(Text(paragraph, style=style), _LINE) for paragraph in text.splitlines())


def _drawn(table: Table) -> Drawn:
    """Names bold, remarks dim; no number is ever broken."""
    drawn = Drawn(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(table.columns), header_style="dim")
    for number, (name, letter) in enumerate(zip(table.columns, table.align, strict=True)):
        first = number == 0 and letter == "l"
        drawn.add_column(
            Text(name),
            justify="right" if letter == "r" else "left",
            style="bold" if first else "dim" if letter == "l" else "",
            no_wrap=first or letter == "r",
            overflow="fold",
        )
    for row in table.rows:
        cells = zip(row, table.align, strict=True)
        drawn.add_row(*(Text(cell, style=_FAILED if cell == "FAILED" and letter == "l" else "") for cell, letter in cells))
    return drawn


class Coloured:
    """A passage coloured by surprisal; without colours, each word is followed by its `[bits]`."""

    def __init__(self, passage: Mapping[str, Any]) -> None:
        self._text: str = passage["text"]
        self._units = passage.get("units") or []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        plain = console.color_system is None or console.no_color
        drawn, place = Text(), 0
        for start, end, bits, unknown in self._units:
            drawn.append(visible(self._text[place:start]))
            colour = RAMP[min(int(bits / BITS_PER_COLOUR), len(RAMP) - 1)]
            drawn.append(
                visible(self._text[start:end]), "" if plain else f"{colour} {'underline' if unknown else ''}".strip()
            )
            drawn.append(f"[{bits:.0f}]" if plain else "")
            place = end
        yield drawn.append(visible(self._text[place:]))
