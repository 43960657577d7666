"""`lstmlm score`: how unexpected each word of a text is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstmlm.cli.console import safe, stdin_lines, token_progress, tsv_row, write
from lstmlm.cli.predicting_options import boundary_option, memory_options
from lstmlm.config import ENCODING_ERRORS, UNITS

if TYPE_CHECKING:
    from lstmlm.surprisal import Surprisal

COLUMNS = ("text", "start", "end", "tokens", "nats", "bits", "unknown")
PSYCHOLING = ("sentence_id", "token_id", "token", "surprisal", "tokens", "unknown")
EXPECTED = ("rank", "entropy_bits", "guess", "probability")
_ROWS_AT_ONCE = 1000


@click.command("score", short_help="How unexpected each word of a text is.")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="[FILE|-]", default="-")
@click.option("--per", type=click.Choice(UNITS), default="word", show_default=True, help="What there is a figure for.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["tsv", "psycholing", "jsonl", "ansi", "html"]),
    default="tsv",
    show_default=True,
    help="psycholing: a table by sentence and word; ansi, html: the text in colours.",
)
@click.option(
    "--columns",
    type=click.Choice(["default", "all"]),
    default="default",
    show_default=True,
    help="all: also what was expected; slower.",
)
@boundary_option
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
    columns: str,
    boundary: str,
    encoding_errors: str | None,
    parts: tuple[str, ...],
) -> None:
    r"""Surprisal of each word, token or line of FILE, given all of the text before it.

    Without FILE, every line of stdin is a text of its own, answered at once, with an empty line after each tsv result.

    The space before a word counts to it, a line end to its line. Tokens, and lines, add up to what `lstmlm eval` reports.

    tsv: text (with \t \n \r \\ for what would break a row), start and end in characters, tokens, nats, bits, 1 if unknown; a
    FILE's has a header. jsonl: one object for a text, with the same in its "units". ansi: with NO_COLOR, bits in brackets.

    psycholing: with a header, sentence_id (the number of the line), token_id (in its line, from 1), token, surprisal in
    bits, how many tokens of the model it is, 1 if unknown. For sentences that are not to be read in the light of those
    before them: lstmlm score MODEL --format psycholing < FILE

    --columns all: rank of the token (1: the likeliest), entropy of the next token in bits, the likeliest token and its
    probability; of a word or line, those of its first token. In html they stand where the mouse rests.
    """
    from lstmlm.corpus.reading import read_text
    from lstmlm.corpus.tables import table_format
    from lstmlm.errors import DataError
    from lstmlm.predictor import load_any, open_predictor
    from lstmlm.report.colours import page
    from lstmlm.surprisal import surprisals, surprisals_of

    if style == "psycholing" and per == "line":
        raise click.UsageError("psycholing has a row for each word or token; expected --per word or token")
    if style == "ansi" and columns == "all":
        raise click.UsageError("colours have no columns; expected another --format with --columns all")
    expectations = columns == "all"
    if source == "-":
        if style == "html" or encoding_errors:
            raise click.UsageError("html and --encoding-errors are for one text; expected a FILE")
        predictor = open_predictor(load_any(model), parts)
        if style == "psycholing":
            write(_header(style, expectations))
        for number, line in enumerate(stdin_lines(), 1):
            units = surprisals(predictor, line, per, boundary=boundary, expectations=expectations)
            _write_all(_formatted(line, units, per, style, expectations, number))
            write("\n" if style == "tsv" else "")  # rows of one line end where an empty one stands
        return
    if table_format(Path(source)) is not None:
        raise click.UsageError(f"{source} is a table; expected a text file (lstmlm regions reads tables of items)")
    text = "".join(read_text(Path(source), encoding_errors or "strict"))
    if not text:
        raise DataError(f"{source} is empty; expected some text")
    predictor = open_predictor(load_any(model), parts)
    with token_progress("scoring") as progress:
        (found,) = surprisals_of(predictor, [text], per, boundary=boundary, expectations=expectations, progress=progress)
    if style == "html":
        write(page(text, list(found), per, name=source, model=model))
        return
    write(_header(style, expectations))
    _write_all(_formatted(text, found, per, style, expectations, 1))


def _header(style: str, expectations: bool) -> str:
    names = {"tsv": COLUMNS, "psycholing": PSYCHOLING}.get(style)
    return "\t".join([*names, *(EXPECTED if expectations else ())]) + "\n" if names else ""


def _formatted(
    text: str, units: Iterable[Surprisal], per: str, style: str, expectations: bool, first_line: int
) -> Iterator[str]:
    """What is written of a text, in parts; `first_line` is the number of its first line."""
    if style == "ansi":
        yield from _coloured(text, units, per)
        return
    rows = _rows(units, first_line)
    if style == "jsonl":
        kept = (*COLUMNS, *(EXPECTED if expectations else ()))
        found = [{name: row[name] for name in kept} for row in rows]
        yield safe(json.dumps({"text": text, "units": found}, ensure_ascii=False) + "\n")
        return
    names = _header(style, expectations).split()
    quoted = style == "psycholing"
    yield from (safe(tsv_row([row[name] for name in names], quoted=quoted)) for row in rows)


def _rows(units: Iterable[Surprisal], first_line: int) -> Iterator[dict[str, Any]]:
    """Every column of every table."""
    line = number = 0
    for unit in units:
        line, number = unit.line, number + 1 if unit.line == line else 1
        row = {name: getattr(unit, name) for name in COLUMNS}
        row |= {"sentence_id": first_line - 1 + line, "token_id": number, "token": unit.text, "surprisal": unit.bits}
        if unit.expectation:
            row |= {name: getattr(unit.expectation, name) for name in EXPECTED}
        yield row


def _write_all(parts: Iterator[str]) -> None:
    while some := "".join(islice(parts, _ROWS_AT_ONCE)):
        write(some)


def _coloured(text: str, units: Iterable[Surprisal], per: str) -> Iterator[str]:
    from rich.console import Console

    from lstmlm.report.colours import ansi

    console = Console(force_terminal=True)  # colours were asked for, be it on the way to `less -R`
    yield from ansi(text, units, per, coloured=not (console.no_color or console.is_dumb_terminal))
    if not text.endswith("\n"):
        yield "\n"
