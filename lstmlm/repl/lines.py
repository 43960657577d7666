"""The predictor without a terminal: a line in, an answer out, flushed, until the input ends or `/quit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from lstmlm.durations import after
from lstmlm.errors import LstmlmError
from lstmlm.repl.commands import execute, parsed
from lstmlm.repl.conversation import Conversation
from lstmlm.repl.suggestions import Suggestion

_PATIENCE = 10.0
"""Seconds for a list."""
_ENDING = 72
"""Characters of the text that are shown."""


def run_lines(
    conversation: Conversation, lines: Iterable[str], write: Callable[[str], None], *, interruptible: bool = False
) -> None:
    """Answer every line; trailing spaces count, for they say that a word is complete. Ctrl-C may end just the answer."""
    for line in lines:
        try:
            for piece in answer(conversation, line.rstrip("\r\n")):
                write(piece)
        except KeyboardInterrupt:
            if not interruptible:
                raise
            write("\n")
        if conversation.over:
            return


def answer(conversation: Conversation, line: str) -> Iterator[str]:
    """What to show for one line: what a command says, and the next words where the text has changed or nothing was said."""
    before, said = conversation.text, ""
    try:
        name, argument = parsed(line)
        if name:
            for piece in execute(conversation, name, argument):
                said += piece
                yield piece
            if said:
                yield "\n"
        else:
            _write(conversation, line)
    except LstmlmError as error:
        yield f"{error}\n"
        return
    if not conversation.over and (conversation.text != before or not said):
        yield overview(conversation)


def _write(conversation: Conversation, line: str) -> None:
    """Take a candidate by its number, or else type the line."""
    number = line.strip()
    if number.isdecimal() and len(number) < 10 and 1 <= int(number) <= conversation.offering.k:
        conversation.take(_suggested(conversation), int(number))
    else:
        conversation.type(line)


def _suggested(conversation: Conversation) -> Suggestion:
    """Found in full, so that it is the same when it is asked for again: nobody types meanwhile."""
    return conversation.suggest(stop=after(_PATIENCE))


def overview(conversation: Conversation) -> str:
    """The end of the text and the list of next words, as plain lines."""
    began = time.perf_counter()
    completion = (suggestion := _suggested(conversation)).completion
    conversation.offered(suggestion, 1e3 * (time.perf_counter() - began))
    words = "  ".join(f"{n} {c.word} {c.probability:.0%}" for n, c in enumerate(completion.candidates, 1))
    last = conversation.text.rsplit("\n", 1)[-1]
    ending = last if len(last) <= _ENDING else "…" + last[-_ENDING:]
    return f"{ending}|\n  {words}  other {completion.other_probability:.0%}\n"
