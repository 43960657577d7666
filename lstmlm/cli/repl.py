"""`lstmlm repl`: type, and see what comes next."""

from __future__ import annotations

import sys

import click

from lstmlm.cli.console import safe, say, write


@click.command("repl", short_help="Type, and see what comes next.")
@click.argument("model", metavar="MODEL")
@click.option("-k", "k", type=click.IntRange(1, 9), default=5, show_default=True, help="How many words to offer.")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="For text the model writes.")
@click.option("--seed", type=int, help="Make what the model writes repeatable.")
def repl_command(model: str, k: int, temperature: float, seed: int | None) -> None:
    """Type a text with MODEL offering the next words.

    On a terminal they stand below the line as you type. Without one, each line of stdin is answered on stdout; lines that
    begin with / are commands (/help lists them).
    """
    from lstmlm.checkpoint import load_model
    from lstmlm.config import SamplingConfig
    from lstmlm.repl.conversation import Conversation

    sampling = SamplingConfig(temperature=temperature, top_p=0.95)
    loaded = load_model(model)
    conversation = Conversation(loaded, k=k, sampling=sampling, seed=seed)
    if all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        from lstmlm.repl.terminal import TerminalFace

        say(f"{loaded.path}: {loaded.model.num_parameters:,} parameters, {loaded.tokenizer.kind}; /help lists all")
        TerminalFace(conversation, lambda piece: write(safe(piece))).run()
    else:
        from lstmlm.cli.console import stdin_lines
        from lstmlm.repl.lines import run_lines

        run_lines(conversation, stdin_lines(), lambda piece: write(safe(piece)))
