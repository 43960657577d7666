"""`lstmlm complete`: the next words of a text, or of every line of stdin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lstmlm.cli.console import safe, stdin_lines, write
from lstmlm.cli.predicting_options import memory_options

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
@memory_options
def complete_command(model: str, text: str | None, k: int, style: str, parts: tuple[str, ...]) -> None:
    """The most likely next words after TEXT; if it ends inside a word, the most likely ways to finish it.

    "the" is a word being typed (the, then, they...); "the " asks for the next word. Without TEXT, every line of stdin is
    one, answered at once, with an empty line after each tsv result; trailing spaces count.

    With --cache, --dynamic or --ngram the model remembers each text it is given, and completes with that.

    tsv: word, probability, characters to replace, text to insert.
    """
    from lstmlm.completion import complete
    from lstmlm.generation import Session
    from lstmlm.predictor import load_any, open_predictor
    from lstmlm.runtime import keep_what_is_loaded

    session = Session(open_predictor(load_any(model), parts))
    keep_what_is_loaded()
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
