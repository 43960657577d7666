"""What a report is made of, before it is drawn (see `sections`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Cells, row by row."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    align: str
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report, under a title of its own."""

    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    note: str = ""
    plot: str = ""


def at(result: Any, *path: str) -> Any:
    """What stands at a path of keys; `None` where a part of it is missing or null."""
    for key in path:
        result = result.get(key) if isinstance(result, Mapping) else None
    return result


def table(columns: Sequence[str], align: str, rows: Sequence[Sequence[str]], title: str = "", keep: int = 1) -> list[Table]:
    """Of the columns and rows that say something, one or no table; a row says nothing by its first `keep` cells alone."""
    filled = [row for row in rows if any(row[keep:])]
    kept = [column for column in range(len(columns)) if any(row[column] for row in filled)]
    if not kept:
        return []
    picked = [tuple(row[column] for column in kept) for row in filled]
    return [Table(tuple(columns[column] for column in kept), picked, "".join(align[column] for column in kept), title)]


def section(title: str, text: str, tables: list[Table], note: str = "", plot: str = "") -> Section | None:
    """`None` without tables."""
    return Section(title, text, tables, note, plot) if tables else None
