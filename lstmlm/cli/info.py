"""`lstmlm info`: what a model, a run or a text is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lstmlm.cli.console import data_console, write
from lstmlm.config import DOCUMENT_RULES, TOKENIZERS

if TYPE_CHECKING:
    from lstmlm.tokenizer import Tokenizer


@click.command("info", short_help="What a model, a run or a text is.")
@click.argument("subject", metavar="MODEL|RUN|SOURCE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--tokenizer", type=click.Choice(TOKENIZERS), help="For a SOURCE: count its tokens too, with this vocabulary.")
@click.option("--vocab-size", type=int, help="For --tokenizer.")
@click.option("--documents", type=click.Choice(DOCUMENT_RULES), help="For a SOURCE: what ends a document.")
@click.option("--split", default="90/5/5", show_default=True, help="For a SOURCE without splits: train/valid/test.")
@click.option("--text-field", default="text", show_default=True, help="For a table: the column that holds the text.")
def info_command(
    subject: str,
    as_json: bool,
    tokenizer: str | None,
    vocab_size: int | None,
    documents: str | None,
    split: str,
    text_field: str,
) -> None:
    """What a model or run was made of and where it stands, or how large a text is; with the counts of every split."""
    from lstmlm.checkpoint import CONFIG, RUN_FILE

    path = Path(subject)
    if tokenizer is not None and path.is_dir() and ((path / RUN_FILE).exists() or (path / CONFIG).exists()):
        raise click.UsageError(f"{subject} has its tokenizer already; --tokenizer is for a SOURCE")
    if vocab_size is not None and tokenizer is None:
        raise click.UsageError("--vocab-size says how large a --tokenizer should be; expected both")
    if path.is_dir() and (path / RUN_FILE).exists():
        about = _run(path)
    elif path.is_dir() and (path / CONFIG).exists():
        from lstmlm.ngram import is_ngram

        about = _ngrams(path) if is_ngram(path) else _model(path)
    else:
        about = _source(subject, tokenizer, vocab_size, documents, split, text_field)
    if as_json:
        write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    else:
        _show(about)


def _run(path: Path) -> dict[str, Any]:
    from lstmlm.checkpoint import RUN_FILE, TRAINING_STATE, best_step, resolve_model, step_directories
    from lstmlm.storage import read_json
    from lstmlm.training import RunOptions

    about = read_json(path / RUN_FILE)
    RunOptions.read(path)
    steps = step_directories(path)
    standing = read_json(steps[0] / TRAINING_STATE) if steps else {}
    return {
        "kind": "run",
        "path": str(path),
        "options": about["options"],
        "precision": about["precision"],
        "versions": about["versions"],
        "vocabulary_size": about["vocabulary_size"],
        "splits": {name: split["tokens"] | split["text"] for name, split in about["splits"].items()},
        "overlap": about["overlap"],
        "step": standing.get("step", 0),
        "seconds": standing.get("seconds", 0.0),
        "finished": standing.get("finished", False),
        "best": best_step(path),
        "best_validation_loss": standing.get("best_loss"),
        "validation_tokens": standing.get("validation_tokens"),
        "model": _model(resolve_model(path)) if steps else None,
    }


def _model(path: Path) -> dict[str, Any]:
    from lstmlm.checkpoint import load_model

    loaded = load_model(path)
    return {
        "kind": "model",
        "path": str(loaded.path),
        "parameters": loaded.model.num_parameters,
        "model": asdict(loaded.model.config),
        "tokenizer": _tokenizer(loaded.tokenizer),
        "documents": loaded.documents,
        "training": dict(loaded.training),
        "sha256": loaded.sha256,
    }


def _ngrams(path: Path) -> dict[str, Any]:
    from lstmlm.ngram import load_ngram

    loaded = load_ngram(path)
    return {
        "kind": "ngram",
        "path": str(loaded.path),
        "order": loaded.model.order,
        "ngrams": loaded.model.num_parameters,
        "tokenizer": _tokenizer(loaded.tokenizer),
        "documents": loaded.documents,
        "training": dict(loaded.training),
        "sha256": loaded.sha256,
    }


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    return asdict(tokenizer.config) | {"vocabulary_size": tokenizer.vocabulary_size, "lossless": tokenizer.lossless}


def _source(
    name: str, kind: str | None, vocab_size: int | None, documents: str | None, split: str, text_field: str
) -> dict[str, Any]:
    from lstmlm.cli.train_options import parse_split
    from lstmlm.config import CorpusConfig, TokenizerConfig
    from lstmlm.corpus import open_corpus, survey
    from lstmlm.token_store import count_tokens
    from lstmlm.tokenizer import Tokenizer

    corpus = open_corpus([name], CorpusConfig(documents=documents, split=parse_split(split), text_field=text_field))
    splits: dict[str, dict[str, Any]] = {which: asdict(survey(corpus.pieces(which))) for which in corpus.splits}
    about: dict[str, Any] = {"kind": "source", "name": name, "documents": corpus.config.documents}
    if kind is not None:
        tokenizer = Tokenizer.train(TokenizerConfig(kind=kind, vocabulary_size=vocab_size), corpus.pieces("train"))
        about |= {"tokenizer": kind, "vocabulary_size": tokenizer.vocabulary_size}
        splits = {which: asdict(count_tokens(tokenizer, corpus.pieces(which))) | splits[which] for which in splits}
    return about | {"splits": splits}


def _show(about: dict[str, Any]) -> None:
    from rich.table import Table

    from lstmlm.report.formatting import visible
    from lstmlm.report.training import counts_table

    console = data_console()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    repeated = "model.training.options." if about["kind"] == "run" else " "  # they are the run's
    for name, value in [row for row in _flat(about) if not row[0].startswith(repeated)]:
        table.add_row(name, visible(value))
    console.print(table)
    if "splits" in about:
        console.print()
        console.print(counts_table(about["splits"]))


def _flat(about: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in about.items():
        if name == "splits":
            continue
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _shown(value)))
    return rows


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else f"{value:,}" if type(value) is int else str(value)
