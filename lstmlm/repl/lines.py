"""The predictor without a terminal: a line in, an answer out, flushed, until the input ends or `/quit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lstmlm.repl.conversation import Conversation


def run_lines(conversation: Conversation, lines: Iterable[str], write: Callable[[str], None]) -> None:
    """Answer every line; trailing spaces count, for they say that a word is complete."""
    for line in lines:
        for piece in conversation.respond(line.rstrip("\r\n")):
            write(piece)
        if conversation.over:
            return
