"""`lstmlm recipes`: what `lstmlm train --recipe` can start from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from lstmlm.cli.console import data_console, write


@click.command("recipes", short_help="Settings of whole runs, for train --recipe.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every setting.")
def recipes_command(as_json: bool) -> None:
    """The recipes inside this program: what each is for, which text is meant, and the figures to expect."""
    from lstmlm.recipes import load, names

    found = [load(name) for name in names()]
    if as_json:
        about = {recipe.name: asdict(recipe) for recipe in found}
        for settings in about.values():
            del settings["model"]["vocabulary_size"]  # that of the text
        write(json.dumps(about, indent=2, ensure_ascii=False, default=str) + "\n")  # a date is text
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for recipe in found:
        table.add_row(recipe.name, recipe.about)
        table.add_row("  data", recipe.data)
        table.add_row("  expected", _flat(recipe.expected))
    data_console().print(table)


def _flat(expected: Mapping[str, Any]) -> str:
    """`{"seconds": 600, "valid": {"perplexity": 98.0}}` as `seconds 600, valid perplexity 98.0`."""
    parts = []
    for name, value in expected.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping):
            parts.append(f"{label} {_flat(value)}")
        else:
            parts.append(str(value) if name == "status" else f"{label} {value}")
    return ", ".join(parts)
