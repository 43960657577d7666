"""The report of an evaluation, or a comparison, as GitHub-flavoured Markdown (https://github.github.com/gfm/).

No text from outside can act in it: that of the corpus stands in code spans, all other is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from lstmlm.report.comparison import comparison_sections
from lstmlm.report.formatting import one_line
from lstmlm.report.layout import Section, Table, at
from lstmlm.report.sections import sections

_ACTIVE = re.compile(r"[\\`*_\[\]<>|~&$]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_OPENING = re.compile(r"^(\d*)([-+#=.)])")
"""What makes a line a heading, a list or a rule, at its beginning."""


def markdown(result: Mapping[str, Any]) -> str:
    """The whole report; the same text for the same result."""
    name = one_line(at(result, "model", "path") or "")
    title = f"# Evaluation of {_escaped(name)}" if name else "# Evaluation"
    return _page(title, [section for section in sections(result) if section.tables or not section.plot])


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """Everything that `lstmlm.comparison.compare` found."""
    return _page("# Models compared", comparison_sections(comparison))


def _page(title: str, shown: Sequence[Section]) -> str:
    return "\n\n".join([title, *(block for section in shown for block in _blocks(section))]) + "\n"


def _blocks(section: Section) -> Iterator[str]:
    yield f"## {_escaped(section.title)}"
    yield from map(_paragraph, section.text.splitlines())
    for table in section.tables:
        if table.title:
            yield f"**{_escaped(table.title)}**"
        yield _table(table)
    yield from map(_paragraph, section.note.splitlines())


def _table(table: Table) -> str:
    """With its columns aligned in the source, too."""
    rows = [[_cell(name, "l") for name in table.columns]]
    rows += [[_cell(cell, letter) for cell, letter in zip(row, table.align, strict=True)] for row in table.rows]
    widths = [max(3, *map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [_padded(cell, width, letter) for cell, width, letter in zip(row, widths, table.align, strict=True)] for row in rows
    ]
    rule = ["-" * (width - 1) + (":" if letter == "r" else "-") for width, letter in zip(widths, table.align, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def _padded(cell: str, width: int, letter: str) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if letter == "r" else cell + space


def _cell(text: str, letter: str) -> str:
    return _code(text) if letter == "t" and text else _escaped(text)


def _paragraph(text: str) -> str:
    return _OPENING.sub(r"\1\\\2", _escaped(text))


def _escaped(text: str) -> str:
    return _ACTIVE.sub(r"\\\g<0>", text.strip())


def _code(text: str) -> str:
    """A code span, whose fence is longer than any within; a bar would end the cell even there."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in (text[0], text[-1]) or (text[0] == text[-1] == " " and text.strip()) else ""
    return (fence + space + text + space + fence).replace("|", r"\|")
