"""`lstmlm demo`: from nothing to next words in two minutes."""

from __future__ import annotations

from pathlib import Path

import click

RECIPE = "everyday-demo"
SENTENCES = (
    "I like to eat pizza, but I also enjoy ",
    "Can you send me the ",
    "We should leave before the ",
    "She put the keys on the ",
    "Thank you so much for your ",
    "On Saturday morning we went to the ",
)


@click.command("demo", short_help="From nothing to next words in two minutes.")
@click.option("-o", "--output", "run", metavar="RUN", type=Path, help="Run directory.  [default: a new checkpoints/demo]")
def demo_command(run: Path | None) -> None:
    """Train on the built-in corpus for about 90 seconds, report, and complete a few sentences."""
    from lstmlm.checkpoint import load_model
    from lstmlm.cli.console import data_console, program, say
    from lstmlm.cli.training_run import run_training
    from lstmlm.completion import complete
    from lstmlm.generation import Session
    from lstmlm.recipes import load
    from lstmlm.report.completions import next_words_report
    from lstmlm.training import RunOptions

    run = run or _free_name(Path("checkpoints") / "demo")
    options = RunOptions.from_recipe(load(RECIPE), ("everyday",))
    say(f"Training on everyday English for {options.training.budget:g} seconds; Ctrl-C stops and keeps what is learned.\n")
    run_training(run, options)
    session = Session(load_model(run))
    console = data_console()
    console.print("\nThe most likely next words:\n")
    console.print(next_words_report([complete(session, sentence) for sentence in SENTENCES]))
    say(f"\nType with it yourself:  {program()} repl {run}")


def _free_name(path: Path) -> Path:
    number = 1
    while (name := path if number == 1 else path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return name
