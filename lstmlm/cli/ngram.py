"""`lstmlm ngram` and `lstmlm arpa`: the yardstick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lstmlm.cli.console import errors_console, say, write
from lstmlm.cli.text_options import text_options
from lstmlm.cli.train_options import PLACES, changed


@click.command("ngram", short_help="Train an n-gram model: the yardstick.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "path",
    metavar="MODEL",
    type=Path,
    help="Directory of the model.  [default: checkpoints/<source's name>-ngram]",
)
@click.option("--order", default=5, show_default=True, type=click.IntRange(1, 12), help="Tokens of the longest n-gram.")
@click.option("--from", "start", metavar="MODEL", help="Take the tokenizer of this model.")
@text_options
def ngram_command(sources: tuple[str, ...], path: Path | None, order: int, start: str | None, **given: Any) -> None:
    """Train an n-gram model with modified Kneser-Ney smoothing on SOURCE, and evaluate it on the text held out.

    A neural model that does not beat it has learned little. It takes seconds, and sees order-1 tokens of a line or document.
    """
    from dataclasses import replace

    from lstmlm.cli.training_run import default_run, report_held_out
    from lstmlm.config import CorpusConfig, TokenizerConfig, to_mapping
    from lstmlm.corpus import open_corpus, survey
    from lstmlm.errors import UsageError
    from lstmlm.ngram import load_ngram, save_ngram, train_ngram
    from lstmlm.predictor import load_any
    from lstmlm.runtime import stop_on_signals
    from lstmlm.storage import make_directory
    from lstmlm.token_store import read_segments
    from lstmlm.training import absolute_sources
    from lstmlm.training.preparation import make_tokenizer

    if path is None:
        path = default_run(sources).with_name(f"{default_run(sources).name}-ngram")
    if path.exists():
        raise UsageError(f"{path} exists; choose another name with -o")
    changes = changed(given)
    corpus_config, tokenizer_config = CorpusConfig(**changes["corpus"]), TokenizerConfig(**changes["tokenizer"])
    if start is not None and (asked := [name for name in PLACES["tokenizer"] if given[name] is not None]):
        raise UsageError(f"the tokenizer is that of {start}; leave --{asked[0].replace('_', '-')} or --from away")
    source = load_any(start) if start is not None else None
    if source is not None and corpus_config.documents is None:
        corpus_config = replace(corpus_config, documents=source.documents)
    fit = tokenizer_config.vocabulary_size is None
    names = absolute_sources(sources)
    corpus = open_corpus(names, corpus_config)
    console = errors_console()
    with stop_on_signals() as stop, console.status("making a vocabulary"):
        tokenizer = source.tokenizer if source else make_tokenizer(tokenizer_config, corpus, stop, fit=fit)
        stop.check()
    with console.status("reading"):
        texts, counts = read_segments(tokenizer, corpus.files("train"))
        hashes = {split: survey(corpus.pieces(split)).sha256 for split in corpus.splits if split != "train"}
    with console.status("counting"):
        model = train_ngram(texts, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=order)
    training = {
        "options": {"sources": list(names), "corpus": to_mapping(corpus.config)},
        "text_sha256": {"train": counts.sha256} | hashes,
        "tokens": sum(map(len, texts)),
    }
    make_directory(path.parent)
    save_ngram(path, model, tokenizer, documents=corpus.config.documents or "file", training=training)
    say(f"tokenizer  {tokenizer.kind}, {tokenizer.vocabulary_size:,} symbols")
    say(f"model      {model.num_parameters:,} n-grams of up to {order} tokens, from {training['tokens']:,} tokens")
    say(f"at         {path}")
    report_held_out(load_ngram(path), console)


@click.command("arpa", short_help="Print an n-gram model in the ARPA format.")
@click.argument("model", metavar="MODEL")
def arpa_command(model: str) -> None:
    r"""Print the n-gram MODEL in the ARPA format, which KenLM and SRILM read.

    <eos> is written </s>. Tokens with white space (of bpe, char and byte models) have it as \x20.
    """
    from lstmlm.ngram import arpa_lines, load_ngram
    from lstmlm.ngram.arpa import arpa_symbols

    loaded = load_ngram(model)
    for lines in arpa_lines(loaded.model, arpa_symbols(loaded.tokenizer)):
        write(lines)
