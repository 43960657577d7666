"""`lstmlm regions`: the surprisal of each region of an experiment's items."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lstmlm.cli.console import check_outputs, errors_console, safe, token_progress, tsv_row, write, write_outputs
from lstmlm.cli.predicting_options import boundary_option, memory_options

SCHEMA = "lstmlm.regions/1"
COLUMNS = ("item", "condition", "region", "surprisal", "words", "tokens", "unknown", "text")


@click.command("regions", short_help="Surprisal by region of an experiment's items.")
@click.argument("model", metavar="MODEL")
@click.argument("source", metavar="FILE")
@boundary_option
@click.option("--json", "json_path", metavar="FILE|-", help="Write rows and means as JSON; - prints them, and nothing else.")
@memory_options
def regions_command(model: str, source: str, boundary: str, json_path: str | None, parts: tuple[str, ...]) -> None:
    """Surprisal, in bits, of each region of the items in FILE, in each of their conditions.

    FILE is TSV or CSV with a header, or JSON lines. It has a row for each region, in the order of the sentence:

    \b
        item  condition  region  text
        1     expected   subject The cook
        1     expected   verb    stirred

    or a row for each item and condition, in which every other column is a region (none is called region or text):

    \b
        item  condition  subject   verb
        1     expected   The cook  stirred

    An item in a condition is read as a text of its own: its regions with spaces between them; empty ones are left out.

    Prints a row for each item, condition and region: surprisal (in bits, the sum over its words), words, tokens, words
    that the model does not know, text. The means by condition and region go to stderr.
    """  # noqa: D301  # click wants the \b itself
    from lstmlm.predictor import load_any, open_predictor
    from lstmlm.regions import read_items, region_means, region_surprisals
    from lstmlm.report.experiments import regions_report
    from lstmlm.storage import to_json

    check_outputs(json_path, read=[source])
    items = read_items(Path(source))
    loaded = load_any(model)
    with token_progress("scoring") as progress:
        rows = list(region_surprisals(open_predictor(loaded, parts), items, boundary=boundary, progress=progress))
    means = region_means(rows)
    about = {"path": str(loaded.path), "sha256": loaded.sha256, "tokenizer": loaded.tokenizer.kind, "memory": list(parts)}
    shown = [asdict(row) | {"bits": row.bits} for row in rows]
    result = {"schema": SCHEMA, "model": about, "path": source, "boundary": boundary, "rows": shown, "means": means}
    if write_outputs((json_path, lambda: to_json(result).decode())):
        return
    table = [tsv_row(COLUMNS)]
    for row in rows:
        counts = row.words, row.tokens, row.unknown
        table.append(tsv_row([row.item, row.condition, row.region, row.bits, *counts, row.text], quoted=True))
    write(safe("".join(table)))
    errors_console().print(regions_report(means))
