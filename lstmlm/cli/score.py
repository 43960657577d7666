"""`lstmlm score`: how unexpected each word of a text is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lstmlm.cli.console import safe, stdin_lines, write
from lstmlm.cli.memory_options import memory_options
from lstmlm.config import BOUNDARIES, ENCODING_ERRORS, UNITS

if TYPE_CHECKING:
    from lstmlm.surprisal import Surprisal

COLUMNS = ("text", "start", "end", "tokens", "nats", "bits", "unknown")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


@click.command("score", short_help="How unexpected each word of a text is.")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="[FILE|-]", default="-")
@click.option("--per", type=click.Choice(UNITS), default="word", show_default=True, help="What there is a figure for.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["tsv", "jsonl", "ansi", "html"]),
    default="tsv",
    show_default=True,
    help="ansi, html: the text in colours.",
)
@click.option(
    "--boundary",
    type=click.Choice(BOUNDARIES),
    default="leading",
    show_default=True,
    help="trailing: that a word ends counts to it, not to the next; slower.",
)
@click.option(
    "--encoding-errors",
    type=click.Choice(ENCODING_ERRORS),
    help="What to do with bytes of FILE that are not UTF-8.  [default: strict]",
)
@memory_options
def score_command(
    model: str,
    source: str,
    per: str,
    style: str,
    boundary: str,
    encoding_errors: str | None,
    parts: tuple[str, ...],
) -> None:
    r"""Surprisal of each word, token or line of FILE, given all of the text before it.

    Without FILE, every line of stdin is a text of its own, answered at once, with an empty line after each tsv result.

    The space before a word counts to it, a line end to its line. Tokens, and lines, add up to what `lstmlm eval` reports.

    tsv: text (with \t \n \r \\ for what would break a row), start and end in characters, tokens, nats, bits, 1 if unknown; a
    FILE's has a header. jsonl: one object for a text, with the same in its "units". ansi: with NO_COLOR, bits in brackets.
    """
    from lstmlm.corpus.reading import read_text
    from lstmlm.errors import DataError
    from lstmlm.predictor import load_any, open_predictor
    from lstmlm.reader import Reader
    from lstmlm.report.colours import page
    from lstmlm.surprisal import surprisals

    if source == "-":
        if style == "html" or encoding_errors:
            raise click.UsageError("html and --encoding-errors are for one text; expected a FILE")
        reader = Reader(open_predictor(load_any(model), parts))
        for line in stdin_lines():
            end = "\n" if style == "tsv" else ""  # rows of one line end where an empty one stands
            write(_formatted(line, surprisals(reader, line, per, boundary=boundary), per, style) + end)
        return
    text = "".join(read_text(Path(source), encoding_errors or "strict"))
    if not text:
        raise DataError(f"{source} is empty; expected some text")
    units = surprisals(open_predictor(load_any(model), parts), text, per, boundary=boundary)
    if style == "html":
        write(page(text, units, per, name=source, model=model))
    else:
        write("\t".join(COLUMNS) + "\n" if style == "tsv" else "")
        write(_formatted(text, units, per, style))


def _formatted(text: str, units: Sequence[Surprisal], per: str, style: str) -> str:
    if style == "ansi":
        return _coloured(text, units, per)
    rows = [asdict(unit) | {"bits": unit.bits} for unit in units]
    if style == "jsonl":
        return safe(json.dumps({"text": text, "units": rows}, ensure_ascii=False) + "\n")
    return safe("".join("\t".join(_cell(row[name]) for name in COLUMNS) + "\n" for row in rows))


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    return f"{value:.6f}" if isinstance(value, float) else str(int(value))


def _coloured(text: str, units: Sequence[Surprisal], per: str) -> str:
    from rich.console import Console

    from lstmlm.report.colours import ansi

    console = Console(force_terminal=True)  # colours were asked for, be it on the way to `less -R`
    return ansi(text, units, per, coloured=not (console.no_color or console.is_dumb_terminal)).removesuffix("\n") + "\n"
