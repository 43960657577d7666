"""A report as sections, which the terminal, Markdown and HTML draw alike: what stands where, and in which words.

`sections(result)` takes the JSON object of `lstmlm eval --json`, or a part of it, and leaves out what is missing or null.

A section has a title; a `text`, which says how to read it; tables; a `note` on the figures, such as the protocol; and may
have the name of a `plot`: `training`, `frequency`, `position`, `roc`, `reliability` or `coloured`. Paragraphs of a text or
note are parted by line ends. `coloured` comes without a table: who draws no plots leaves that section out.

All strings are plain, to be escaped by who draws them; none holds a character that acts on a terminal. A table has a title,
which may be empty; names of columns, which may all be empty (then it needs no header); and for each column a letter: `l`
left, `r` right (numbers, never to be broken), `t` text of the corpus, left, to be set as code. Cells are one line each,
empty where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmlm.report import details, overview
from lstmlm.report.layout import Section, Table

__all__ = ["Section", "Table", "sections"]


def sections(result: Mapping[str, Any]) -> list[Section]:
    """The whole report, in its order."""
    parts = (
        overview.headline,
        overview.warnings,
        overview.self_checks,
        overview.comparison,
        overview.seeds,
        details.training,
        details.frequency,
        details.classes,
        details.position,
        details.documents,
        details.worst_tokens,
        details.next_token,
        details.keyboard,
        details.classification,
        details.calibration,
        details.samples,
        details.coloured,
        details.provenance,
        details.cite,
    )
    return [section for part in parts if (section := part(result)) is not None]
