"""`lstmlm compare`: which of several models predicts a text better, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lstmlm.cli.console import check_outputs, command_line, data_console, run_paths, token_progress, write_outputs
from lstmlm.config import DOCUMENT_RULES, ENCODING_ERRORS, MODES, SPLITS

if TYPE_CHECKING:
    from lstmlm.config import CorpusConfig
    from lstmlm.predictor import AnyModel


@click.command("compare", short_help="Which of several models predicts a text better.")
@click.argument("models", metavar="MODEL MODEL...", nargs=-1, required=True)
@click.argument("text", metavar="TEXT")
@click.option("--split", type=click.Choice(SPLITS), help="Of a TEXT that has splits.  [default: test]")
@click.option("--mode", type=click.Choice(MODES), default="stream", show_default=True, help="Where the state is reset.")
@click.option("--documents", type=click.Choice(DOCUMENT_RULES), help="What ends a document.  [default: as in training]")
@click.option("--encoding-errors", type=click.Choice(ENCODING_ERRORS), help="What to do with bytes that are not UTF-8.")
@click.option("--text-field", metavar="NAME", help="Column of a table that holds the text.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write the comparison as JSON; - prints it, and nothing else.")
@click.option("--html", "html_path", metavar="FILE|-", help="Write the comparison as one HTML file, with plots.")
@click.option("--markdown", "markdown_path", metavar="FILE|-", help="Write the comparison as Markdown.")
def compare_command(
    models: tuple[str, ...],
    text: str,
    split: str | None,
    mode: str,
    documents: str | None,
    encoding_errors: str | None,
    text_field: str | None,
    threads: int | None,
    json_path: str | None,
    html_path: str | None,
    markdown_path: str | None,
) -> None:
    """Compare every MODEL with the first one, on the same TEXT.

    Several runs of one configuration are one MODEL, joined by commas: their surprisals are averaged, and their standard
    deviation shown. Models with different tokenizers are compared in bits per byte, if none loses any of the text.
    """
    from lstmlm.checkpoint import CONFIG, RUN_FILE
    from lstmlm.comparison import compare
    from lstmlm.config import updated
    from lstmlm.corpus import open_texts
    from lstmlm.predictor import load_any
    from lstmlm.report.html import comparison_page
    from lstmlm.report.markdown import comparison_markdown
    from lstmlm.report.terminal import comparison_report
    from lstmlm.runtime import keep_freed_memory, set_threads
    from lstmlm.storage import to_json

    if any((Path(text) / name).exists() for name in (CONFIG, RUN_FILE)):
        raise click.UsageError(f"there is no TEXT: {text} is a model; expected a text after the MODELs")
    if len(models) < 2:
        raise click.UsageError(f"{models[0]} alone cannot be compared; expected two MODELs or more, and a TEXT")
    check_outputs(json_path, markdown_path, html_path, read=[text])
    set_threads(threads)
    keep_freed_memory()
    chosen = [[load_any(path) for path in run_paths(argument)] for argument in models]
    config = _reading([loaded for runs in chosen for loaded in runs], documents)
    corpus = open_texts([text], updated(config, encoding_errors=encoding_errors, text_field=text_field), split)
    with token_progress("scoring") as progress:
        found = compare(chosen, corpus, mode=mode, names=models, command=command_line(), progress=progress)
    printed = write_outputs(
        (json_path, lambda: to_json(found).decode()),
        (markdown_path, lambda: comparison_markdown(found)),
        (html_path, lambda: comparison_page(found)),
    )
    if not printed:
        data_console().print(comparison_report(found))


def _reading(loaded: Sequence[AnyModel], documents: str | None) -> CorpusConfig:
    """How to read the text: as the first model's training did, and with documents that are the same for all."""
    from lstmlm.config import CorpusConfig, updated
    from lstmlm.errors import UsageError
    from lstmlm.evaluation import trained_on

    for other in loaded:
        if documents is None and other.documents != loaded[0].documents:
            raise UsageError(
                f"{loaded[0].path} was trained with --documents {loaded[0].documents}, {other.path} with "
                f"{other.documents}; say which this text has with --documents"
            )
    trained = trained_on(loaded[0])
    return updated(trained[1] if trained else CorpusConfig(), documents=documents or loaded[0].documents)
