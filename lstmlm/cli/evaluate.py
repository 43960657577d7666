"""`lstmlm eval`: how well a model predicts a text."""

from __future__ import annotations

from pathlib import Path

import click

from lstmlm.cli.console import check_outputs, command_line, data_console, run_paths, say, token_progress, write_outputs
from lstmlm.config import DOCUMENT_RULES, ENCODING_ERRORS, MODES, SPLITS


@click.command("eval", short_help="Perplexity and accuracy on a text.")
@click.argument("model", metavar="MODEL[,MODEL...]")
@click.argument("texts", metavar="[TEXT...]", nargs=-1)
@click.option(
    "--split", type=click.Choice(SPLITS), help="Of the training source, or of a TEXT that has splits.  [default: test]"
)
@click.option("--mode", type=click.Choice(MODES), default="stream", show_default=True, help="Where the state is reset.")
@click.option("--cache", is_flag=True, help="Rows with the neural cache, as `lstmlm tune` fitted it.")
@click.option("--dynamic", is_flag=True, help="Rows under dynamic evaluation.")
@click.option("--ngram", is_flag=True, help="Rows with the n-grams of the training text.")
@click.option("--keyboard", is_flag=True, help="Next-word metrics: TEXT is typed, and the words offered are judged.")
@click.option(
    "--keyboard-words",
    type=click.IntRange(min=0),
    metavar="N",
    help="About how many; 0: all.  [default: 1000; 200 in a full report]",
)
@click.option("--documents", type=click.Choice(DOCUMENT_RULES), help="What ends a document.  [default: as in training]")
@click.option("--encoding-errors", type=click.Choice(ENCODING_ERRORS), help="What to do with bytes that are not UTF-8.")
@click.option("--text-field", metavar="NAME", help="Column of a table that holds the text.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--full", is_flag=True, help="All there is: n-grams beside the model, breakdowns, --keyboard, calibration.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write the figures as JSON; - prints them, and nothing else.")
@click.option("--markdown", "markdown_path", metavar="FILE|-", help="Write the full report as Markdown.")
@click.option("--html", "html_path", metavar="FILE|-", help="Write the full report as one HTML file, with plots.")
@click.option("--fail-above", type=float, metavar="PPL", help="Exit with 1 if the perplexity per token is higher.")
@click.option(
    "--baseline",
    "baseline_path",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Exit with 1 if the figures of this JSON report were better.",
)
@click.option("--max-regression", metavar="SHARE", help="By how much they may have been, such as 0.5%.  [default: 0%]")
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
    full: bool,
    json_path: str | None,
    markdown_path: str | None,
    html_path: str | None,
    fail_above: float | None,
    baseline_path: str | None,
    max_regression: str | None,
) -> None:
    """Perplexity and accuracy of MODEL on TEXT, exactly: every token is a target once.

    Without TEXT, the test split of the training source. Several TEXTs give one pooled result, the state reset between them.
    Several runs of one configuration, joined by commas, also give mean and standard deviation over them.

    What adapts to the text it reads stands in rows of its own, never in the headline or the next-word metrics. With --full,
    --markdown or --html, all that the model was tuned for is among them: dynamic evaluation takes
    minutes for a long text.
    """
    from lstmlm.adaptation import has_adaptation
    from lstmlm.checkpoint import LoadedModel
    from lstmlm.config import CorpusConfig, updated
    from lstmlm.corpus import open_corpus, open_texts
    from lstmlm.evaluation import evaluate, parse_share, regression, too_high, trained_on, trained_sha256
    from lstmlm.generation import Session
    from lstmlm.keyboard import WORDS, WORDS_OF_A_REPORT, documents_of, keyboard_metrics
    from lstmlm.predictor import load_any
    from lstmlm.report.html import page
    from lstmlm.report.markdown import markdown
    from lstmlm.report.terminal import evaluation_report
    from lstmlm.runtime import keep_freed_memory, set_threads
    from lstmlm.storage import read_json, to_json

    full = full or bool(markdown_path or html_path)
    if keyboard_words is not None and not (keyboard or full):
        raise click.UsageError("--keyboard-words goes with --keyboard or a full report")
    if max_regression is not None and baseline_path is None:
        raise click.UsageError("--max-regression goes with --baseline")
    may_lose = parse_share(max_regression) if max_regression is not None else 0.0
    baseline = read_json(Path(baseline_path)) if baseline_path is not None else None
    if fail_above is not None and not fail_above > 0:
        raise click.UsageError(f"--fail-above is {fail_above}; expected a perplexity above 0")
    runs = run_paths(model)
    if len(runs) > 1 and (fail_above is not None or baseline is not None):
        raise click.UsageError("--fail-above and --baseline judge one model; expected one run")
    check_outputs(json_path, markdown_path, html_path, read=[*texts, *filter(None, [baseline_path])])
    set_threads(threads)
    keep_freed_memory()
    loaded, *others = [load_any(path) for path in runs]
    trained = trained_on(loaded)
    config = trained[1] if trained else CorpusConfig(documents=loaded.documents)
    config = updated(config, documents=documents, encoding_errors=encoding_errors, text_field=text_field)
    expected = None
    if texts:
        corpus, wanted = open_texts(texts, config, split), "test"
    elif trained is not None:
        if config != trained[1]:
            raise click.UsageError(
                "without TEXT, the text is read as in training; expected a TEXT with --documents, --encoding-errors or "
                "--text-field"
            )
        corpus, wanted = open_corpus(trained[0], config), split or "test"
        expected = trained_sha256(loaded, wanted)
    else:
        raise click.UsageError(f"{model} does not know what it was trained on; expected a TEXT")
    tuned = full and isinstance(loaded, LoadedModel) and has_adaptation(loaded)
    adapt = [part for part, asked in (("cache", cache), ("dynamic", dynamic), ("ngram", ngram)) if asked or tuned]
    with token_progress("scoring") as progress:
        result = evaluate(
            loaded,
            corpus,
            wanted,
            mode=mode,
            adapt=adapt,
            others=others,
            depth="full" if full else "details",
            command=command_line(),
            progress=progress,
            expected_sha256=expected,
        )
    if keyboard or full:
        typed, words = documents_of(corpus.files(wanted)), WORDS if keyboard else WORDS_OF_A_REPORT
        words = words if keyboard_words is None else keyboard_words
        with token_progress("typing") as progress:
            result["keyboard"] = keyboard_metrics(Session(loaded), typed, words=words, progress=progress)
    printed = write_outputs(
        (json_path, lambda: to_json(result).decode()),
        (markdown_path, lambda: markdown(result)),
        (html_path, lambda: page(result)),
    )
    if not printed:
        data_console().print(evaluation_report(result, full=full))
    failed = [
        too_high(result, fail_above) if fail_above is not None else None,
        regression(result, baseline, may_lose) if baseline is not None else None,
    ]
    for failure in filter(None, failed):
        say(f"failed: {failure}")
    if any(failed):
        raise click.exceptions.Exit(1)
