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
    """An editor in which MODEL offers the next words.

    What may follow stands in grey behind the text, and the likeliest words below it; F1 shows the keys, and / the commands.
    The text is printed when you leave. Without a terminal, each line of stdin is answered on stdout; lines that begin with /
    are commands (/help lists them).
    """
    from lstmlm.config import SamplingConfig
    from lstmlm.predictor import load_any
    from lstmlm.repl.conversation import Conversation
    from lstmlm.repl.suggestions import Offering
    from lstmlm.runtime import keep_what_is_loaded

    sampling = SamplingConfig(temperature=temperature, top_p=0.95)
    conversation = Conversation(load_any(model), offering=Offering(k=k), sampling=sampling, seed=seed)
    keep_what_is_loaded()
    person = sys.stdin is not None and sys.stdin.isatty()
    try:
        if _on_terminal():
            from lstmlm.repl.editor import Editor

            Editor(conversation).run()
        else:
            from lstmlm.cli.console import stdin_lines
            from lstmlm.repl.lines import run_lines

            if person:
                say("a line is answered with the next words; /help lists the commands")
            run_lines(conversation, stdin_lines(), lambda piece: write(safe(piece)), interruptible=person)
    finally:  # whatever happens, nobody's text is lost
        if person and conversation.text:
            write(safe(conversation.text.removesuffix("\n")) + "\n")


def _on_terminal() -> bool:
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return False
    from lstmlm.repl.screen import can_draw

    return can_draw()
