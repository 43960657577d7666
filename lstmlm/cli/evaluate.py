"""`lstmlm eval`: how well a model predicts a text."""

from __future__ import annotations

from pathlib import Path

import click

from lstmlm.cli.console import data_console, token_progress, write
from lstmlm.config import DOCUMENT_RULES, ENCODING_ERRORS, MODES, SPLITS


@click.command("eval", short_help="Perplexity and accuracy on a text.")
@click.argument("model", metavar="MODEL")
@click.argument("texts", metavar="[TEXT...]", nargs=-1)
@click.option(
    "--split", type=click.Choice(SPLITS), help="Of the training source, or of a TEXT that has splits.  [default: test]"
)
@click.option("--mode", type=click.Choice(MODES), default="stream", show_default=True, help="Where the state is reset.")
@click.option("--cache", is_flag=True, help="Rows with the neural cache, as `lstmlm tune` fitted it.")
@click.option("--dynamic", is_flag=True, help="Rows under dynamic evaluation.")
@click.option("--ngram", is_flag=True, help="Rows with the n-grams of the training text.")
@click.option("--keyboard", is_flag=True, help="Next-word metrics: TEXT is typed, and the words offered are judged.")
@click.option("--keyboard-words", type=click.IntRange(min=0), metavar="N", help="About how many; 0: all.  [default: 2000]")
@click.option("--documents", type=click.Choice(DOCUMENT_RULES), help="What ends a document.  [default: as in training]")
@click.option("--encoding-errors", type=click.Choice(ENCODING_ERRORS), help="What to do with bytes that are not UTF-8.")
@click.option("--text-field", metavar="NAME", help="Column of a table that holds the text.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write the figures as JSON; - prints them, and nothing else.")
def eval_command(
    model: str,
    texts: tuple[str, ...],
    split: str | None,
    mode: str,
    cache: bool,
    dynamic: bool,
    ngram: bool,
    keyboard: bool,
    keyboard_words: int | None,
    documents: str | None,
    encoding_errors: str | None,
    text_field: str | None,
    threads: int | None,
    json_path: str | None,
) -> None:
    """Perplexity and accuracy of MODEL on TEXT, exactly: every token is a target once.

    Without TEXT, the test split of the training source. Several TEXTs give one pooled result, the state reset between them.
    What adapts to the text it reads stands in rows of its own, never in the headline or the next-word metrics.
    """
    from lstmlm.config import CorpusConfig, updated
    from lstmlm.corpus import open_corpus, open_texts
    from lstmlm.evaluation import evaluate, trained_on, trained_sha256
    from lstmlm.generation import Session
    from lstmlm.keyboard import WORDS, documents_of, keyboard_metrics
    from lstmlm.predictor import load_any
    from lstmlm.report.terminal import evaluation_report
    from lstmlm.runtime import keep_freed_memory, set_threads
    from lstmlm.storage import check_output, to_json, write_output

    if keyboard_words is not None and not keyboard:
        raise click.UsageError("--keyboard-words goes with --keyboard")
    if json_path not in (None, "-"):
        check_output(Path(json_path))
    set_threads(threads)
    keep_freed_memory()
    loaded = load_any(model)
    trained = trained_on(loaded)
    config = trained[1] if trained else CorpusConfig(documents=loaded.documents)
    config = updated(config, documents=documents, encoding_errors=encoding_errors, text_field=text_field)
    expected = None
    if texts:
        corpus, wanted = open_texts(texts, config, split), "test"
    elif trained is not None:
        corpus, wanted = open_corpus(trained[0], config), split or "test"
        expected = trained_sha256(loaded, wanted)
    else:
        raise click.UsageError(f"{model} does not know what it was trained on; expected a TEXT")
    adapt = [part for part, asked in (("cache", cache), ("dynamic", dynamic), ("ngram", ngram)) if asked]
    with token_progress("scoring") as progress:
        result = evaluate(loaded, corpus, wanted, mode=mode, adapt=adapt, progress=progress, expected_sha256=expected)
    if keyboard:
        typed, words = documents_of(corpus.files(wanted)), WORDS if keyboard_words is None else keyboard_words
        with token_progress("typing") as progress:
            result["keyboard"] = keyboard_metrics(Session(loaded), typed, words=words, progress=progress)
    data = to_json(result)
    if json_path == "-":
        write(data.decode())
        return
    if json_path is not None:
        write_output(Path(json_path), data)
    data_console().print(evaluation_report(result))
