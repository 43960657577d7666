"""Options that say how text is read and cut into tokens, for every command that makes a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lstmlm import config as settings
from lstmlm.config import TokenizerConfig

_Command = TypeVar("_Command", bound=Callable[..., Any])


def choice(values: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice(list(values))


def option(*names: str, default: object, help: str, **more: Any) -> Callable[[_Command], _Command]:
    """An option that is None unless given, so that `--resume` can tell; its default is shown all the same."""
    return click.option(*names, default=None, help=f"{help}  [default: {default}]", **more)


def text_options(command: _Command) -> _Command:
    """Documents, splits and columns of the text; kind, size and rules of the tokenizer."""
    found = (
        option(
            "--documents",
            default="file, or the built-in corpus's rule",
            type=choice(settings.DOCUMENT_RULES),
            help="What ends a document.",
        ),
        option("--split", default="90/5/5", metavar="A/B/C", help="Train/valid/test, for a source without splits."),
        option("--text-field", default="text", metavar="NAME", help="Column of a table that holds the text."),
        option(
            "--encoding-errors",
            default="strict",
            type=choice(settings.ENCODING_ERRORS),
            help="What to do with bytes that are not UTF-8.",
        ),
        option(
            "--tokenizer", default=TokenizerConfig.kind, type=choice(settings.TOKENIZERS), help="Units the text is cut into."
        ),
        option("--vocab-size", default="bpe fitted, word and char all", type=int, help="Symbols, with <eos> and <unk>."),
        option("--min-count", default="auto", metavar="auto|N", help="Rarer words or characters are unknown."),
        option(
            "--normalization",
            default="none",
            type=choice(settings.NORMALIZATIONS),
            help="Unicode normalization of the text.",
        ),
        option("--lowercase/--no-lowercase", default="no-lowercase", help="Read all text in lower case."),
    )
    for decorate in reversed(found):
        command = decorate(command)
    return command
