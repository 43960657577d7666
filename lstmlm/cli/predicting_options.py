"""Options of the commands that let a model predict: the memory that `lstmlm tune` fitted, and where a word ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from lstmlm.config import BOUNDARIES

boundary_option = click.option(
    "--boundary",
    type=click.Choice(BOUNDARIES),
    default="leading",
    show_default=True,
    help="trailing: that a word ends, by a space, line end or document end, counts to it, not to the next; slower.",
)


def memory_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cache`, `--dynamic` and `--ngram`; the command gets what was asked for as `parts`."""

    @click.option(
        "--cache", is_flag=True, help="Remember what followed in similar places: the neural cache that `tune` fitted."
    )
    @click.option("--dynamic", is_flag=True, help="Go on learning from the text: dynamic evaluation as `tune` fitted it.")
    @click.option("--ngram", is_flag=True, help="Mix with the n-grams of the training text, as `tune` fitted it.")
    @wraps(command)
    def with_parts(*arguments: Any, cache: bool, dynamic: bool, ngram: bool, **options: Any) -> Any:
        asked = (("cache", cache), ("dynamic", dynamic), ("ngram", ngram))
        return command(*arguments, parts=tuple(part for part, wanted in asked if wanted), **options)

    return with_parts
