"""`lstmlm pairs`: minimal pairs, whether a model finds the good sentence likelier than the bad one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lstmlm.cli.console import check_outputs, data_console, safe, token_progress, tsv_row, write, write_outputs
from lstmlm.cli.predicting_options import memory_options

if TYPE_CHECKING:
    from lstmlm.pairs import Judgement

SCHEMA = "lstmlm.pairs/1"
FIGURES = ("good_bits", "bad_bits", "difference_bits", "correct", "good_tokens", "bad_tokens", "unknown", "good", "bad")


@click.command("pairs", short_help="Minimal pairs: accuracy by category, as with BLiMP.")
@click.argument("model", metavar="MODEL")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--per-token", is_flag=True, help="Compare the means over a sentence's tokens, not the sums.")
@click.option("--details", metavar="FILE|-", help="Write a row for each pair, tab-separated; - prints them alone.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write the figures as JSON; - prints them, and nothing else.")
@memory_options
def pairs_command(
    model: str,
    files: tuple[str, ...],
    per_token: bool,
    details: str | None,
    json_path: str | None,
    parts: tuple[str, ...],
) -> None:
    """How often MODEL finds the good sentence of a pair likelier than the bad one.

    FILE has a pair in each row: JSON lines as BLiMP ships them (sentence_good, sentence_bad), or TSV or CSV with a header
    (good, bad). Accuracy is given by category, field, linguistics_term and UID, too, for those that FILE has.

    \b
        lstmlm pairs MODEL blimp/data/*.jsonl --json blimp.json

    Each sentence is a text of its own and likely as all of it with its end. Ties count half. With memory (--cache,
    --dynamic), what is remembered is forgotten after each sentence.
    """  # noqa: D301  # click wants the \b itself
    from lstmlm.pairs import GROUPS, Tally, judge, read_pairs
    from lstmlm.predictor import load_any, open_predictor
    from lstmlm.report.experiments import pairs_report
    from lstmlm.storage import to_json

    check_outputs(details, json_path, read=files)
    pairs = [pair for file in files for pair in read_pairs(Path(file))]
    loaded = load_any(model)
    predictor, tally = open_predictor(loaded, parts), Tally(per_token=per_token)
    with token_progress("scoring") as progress, _output(details) as put:
        put(tsv_row(["where", *GROUPS, *FIGURES]))
        for done, judgement in enumerate(judge(predictor, pairs), 1):
            tally.add(judgement)
            put(_row(judgement, per_token))
            progress(done, len(pairs))
    figures = tally.figures()
    about = {"path": str(loaded.path), "sha256": loaded.sha256, "tokenizer": loaded.tokenizer.kind, "memory": list(parts)}
    result = {"schema": SCHEMA, "model": about, "paths": list(files)} | figures
    if not write_outputs((json_path, lambda: to_json(result).decode())) and details != "-":
        data_console().print(pairs_report(figures))


@contextmanager
def _output(path: str | None) -> Iterator[Callable[[str], None]]:
    """What takes the rows: nothing, stdout, or a file."""
    from lstmlm.storage import storage_errors

    if path is None or path == "-":
        yield lambda row: write(safe(row)) if path else None
        return
    with storage_errors(Path(path)):
        file = Path(path).open("w", encoding="utf-8")

    def put(row: str) -> None:
        with storage_errors(Path(path)):
            file.write(row)

    try:
        yield put
    finally:
        with storage_errors(Path(path)):
            file.close()


def _row(judgement: Judgement, per_token: bool) -> str:
    from lstmlm.pairs import GROUPS

    pair = judgement.pair
    bits = judgement.good_nats / math.log(2), judgement.bad_nats / math.log(2)
    compared = judgement.difference_bits(per_token=per_token), judgement.correct(per_token=per_token)
    counts = judgement.good_tokens, judgement.bad_tokens, judgement.unknown
    groups = [pair.groups.get(name, "") for name in GROUPS]
    return tsv_row([pair.where, *groups, *bits, *compared, *counts, pair.good, pair.bad], quoted=True)
