"""Next words, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from lstmlm.completion import Completion
from lstmlm.report.formatting import visible


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
