"""The report of an evaluation, or a comparison, on a terminal: the figures that matter, or all of its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
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
_GAP, _NARROW = 2, 12
"""Between columns; of running text in one."""


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
        yield Fitted(figures)
        yield from _next_token(result, figures)
    if (warned := overview.warnings(result)) is not None:
        yield from (Text(f"note: {warning}", style="yellow") for warning in warned.text.splitlines())
    yield from _checks(result)
    for section in (overview.comparison(result), overview.seeds(result), details.keyboard(result)):
        if section is not None:
            yield Text()
            yield from _tables(section)
    if headline is not None:
        yield Text()
        yield from _paragraphs(headline.note, "dim")


def _next_token(result: Mapping[str, Any], above: Table) -> Iterator[RenderableType]:
    """Accuracies, in the columns of the table above."""
    more = "; ".join(details.tops(result.get("accuracy"), result.get("mrr10")))
    row = ("next token right", percent(at(result, "accuracy", "top1")), more)
    if any(row[1:]):
        yield Fitted(Table(("", "", ""), [row], "lrl"), widths_of(above)[:2])


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
        yield Fitted(table)
    yield from _paragraphs(section.note, "dim")


def _paragraphs(text: str, style: str) -> Iterator[RenderableType]:
    yield from (Constrain(Text(paragraph, style=style), _LINE) for paragraph in text.splitlines())


def widths_of(table: Table) -> list[int]:
    """Of each column: that of its widest cell, its name among them."""
    return [max(map(cell_len, column)) for column in zip(table.columns, *table.rows, strict=True)]


class Fitted:
    """A table with names bold and remarks dim; a list where its numbers are wider than the terminal: none is ever cut."""

    def __init__(self, table: Table, least: Sequence[int] = ()) -> None:
        """`least`: widths of the first columns, at least."""
        self._table = table
        self._unbroken = [letter == "r" or (number == 0 and letter == "l") for number, letter in enumerate(table.align)]
        widths = widths_of(table)
        self._widths = [width if whole else min(width, _NARROW) for width, whole in zip(widths, self._unbroken, strict=True)]
        self._widths[: len(least)] = map(max, least, self._widths)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        narrowest = sum(self._widths) + _GAP * (len(self._widths) - 1)
        yield self._drawn() if narrowest <= options.max_width else self._listed()

    def _drawn(self) -> Drawn:
        table = self._table
        drawn = Drawn(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=any(table.columns), header_style="dim")
        for number, (name, letter) in enumerate(zip(table.columns, table.align, strict=True)):
            drawn.add_column(
                Text(name),
                justify="right" if letter == "r" else "left",
                style=self._style(number),
                no_wrap=self._unbroken[number],
                min_width=self._widths[number],
                overflow="fold",
            )
        for row in table.rows:
            drawn.add_row(*(self._cell(number, cell) for number, cell in enumerate(row)))
        return drawn

    def _listed(self) -> Text:
        listed = Text()
        for row in self._table.rows:
            filled = [number for number, cell in enumerate(row) if cell]
            for number in filled:
                name = f"{self._table.columns[number]} ".lstrip() if number else ""
                begin = f"\n{name}" if number == filled[0] else f"\n    {name}" if name else " "
                listed.append(begin).append_text(self._cell(number, row[number]))
        return listed[1:]

    def _style(self, number: int) -> str:
        return "" if self._table.align[number] != "l" else "dim" if number else "bold"

    def _cell(self, number: int, cell: str) -> Text:
        return Text(cell, style=_FAILED if cell == "FAILED" and self._table.align[number] == "l" else self._style(number))


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
