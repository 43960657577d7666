"""`lstmlm complete`: the next words of a text, or of every line of stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lstmlm.cli.console import safe, write

if TYPE_CHECKING:
    from lstmlm.completion import Completion


@click.command("complete", short_help="The next words of a text.")
@click.argument("model", metavar="MODEL")
@click.argument("text", required=False)
@click.option("-k", "k", type=click.IntRange(min=1), default=5, show_default=True, help="How many words.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["tsv", "json", "jsonl"]),
    default="tsv",
    show_default=True,
    help="json: readable.",
)
def complete_command(model: str, text: str | None, k: int, style: str) -> None:
    """The most likely next words after TEXT; if it ends inside a word, the most likely ways to finish it.

    "the" is a word being typed (the, then, they...); "the " asks for the next word. Without TEXT, every line of stdin is
    one, answered at once, with an empty line after each tsv result; trailing spaces count.

    tsv: word, probability, characters to replace, text to insert.
    """
    from lstmlm.checkpoint import load_model
    from lstmlm.completion import complete
    from lstmlm.generation import Session

    session = Session(load_model(model))
    if text is not None:
        write(safe(_formatted(complete(session, text, k), style)))
        return
    for line in stdin_lines():
        end = "\n" if style == "tsv" else ""  # rows of one line end where an empty one stands
        write(safe(_formatted(complete(session, line, k), style) + end))


def _formatted(completion: Completion, style: str) -> str:
    if style == "tsv":
        rows = ((c.word, f"{c.probability:.6g}", str(c.replace), c.insert) for c in completion.candidates)
        return "".join("\t".join(row) + "\n" for row in rows)
    return json.dumps(completion.to_mapping(), ensure_ascii=False, indent=2 if style == "json" else None) + "\n"


def stdin_lines() -> Iterator[str]:
    """Lines of stdin without their line ends, strictly UTF-8.

    Raises:
        DataError: naming the line and the byte that is not UTF-8.
    """
    from lstmlm.errors import DataError

    if sys.stdin is None:  # closed by the caller
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} of stdin is not UTF-8: byte 0x{line[error.start]:02x} at {error.start}"
            ) from error
