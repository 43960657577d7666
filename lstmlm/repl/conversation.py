"""A text in progress and what can be done with it; knows no terminal, so sessions are tested as plain calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from lstmlm.checkpoint import LoadedModel
from lstmlm.completion import Completion, complete
from lstmlm.config import SamplingConfig, updated
from lstmlm.errors import LstmlmError, UsageError
from lstmlm.generation import Session, check_seed

HELP = """\
Type text to go on with; the most likely next words are listed below it.
  1, 2, ...            take that word
  /gen [N]             let the model write on, N tokens (default 40)
  /top [K]             list the K most likely next words again
  /set NAME VALUE      change a setting: {settings}
  /set                 show the settings
  /text                show the whole text
  /undo                take the last change back
  /reset               begin a new text
  /help                this list
  /quit                leave"""

_DEFAULT_TOKENS = 40
_MOST_CANDIDATES = 40
_OPENING = "\"'([\u201c\u2018"
"""Marks that begin a word."""


class Conversation:
    """The text, the model that reads along, and a history to undo."""

    def __init__(
        self, loaded: LoadedModel, *, k: int = 5, sampling: SamplingConfig | None = None, seed: int | None = None
    ) -> None:
        self.loaded = loaded
        self.session = Session(loaded)
        self.text = ""
        self.k = k
        self.sampling = sampling or SamplingConfig(temperature=0.8, top_p=0.95)
        self.seed = seed
        self.over = False
        self._history: list[str] = []

    def candidates(self, ahead: str = "") -> Completion:
        """The next words after the text and `ahead`, which is being typed and not yet part of it."""
        return complete(self.session, self.joined(ahead), self.k)

    def joined(self, more: str) -> str:
        """The text with `more` after it: with a space between, unless one of them brings white space or `more` is a mark."""
        if self.text and more and not self.text[-1].isspace() and (more[0].isalnum() or more[0] in _OPENING):
            return f"{self.text} {more}"
        return self.text + more

    def type(self, more: str) -> None:
        """Append what a person typed."""
        if more:
            self._change(self.joined(more))

    def take(self, number: int, ahead: str = "") -> str:
        """Append candidate `number` (from 1) with a space after it, in place of the unfinished word; returns the word."""
        completion = self.candidates(ahead)
        if not 1 <= number <= len(completion.candidates):
            raise UsageError(f"there is no candidate {number}; expected 1 to {len(completion.candidates)}")
        candidate = completion.candidates[number - 1]
        text = self.joined(ahead)
        kept = text[: len(text) - candidate.replace]
        if not candidate.replace and kept and not kept[-1].isspace():
            kept += " "
        self._change(f"{kept}{candidate.insert} ")
        return candidate.word

    def write(self, max_tokens: int = _DEFAULT_TOKENS) -> Iterator[str]:
        """Let the model write on; what was yielded when the caller stops stays."""
        before, written = self.text, ""
        pieces = self.session.write(before, self.sampling, max_tokens=max_tokens, seed=self.seed)
        self._change(before)
        try:
            for piece in pieces:
                written += piece
                yield piece
        finally:
            self.text = before + written

    def undo(self) -> None:
        """Go back to the text before the last change."""
        if not self._history:
            raise UsageError("there is nothing to undo")
        self.text = self._history.pop()

    def reset(self) -> None:
        """Begin a new text; `undo` brings the old one back."""
        self._change("")

    def set(self, name: str, value: str) -> None:
        """Change a setting by name: `k`, `seed`, or a field of `SamplingConfig`."""
        if name == "k":
            number = _number(name, value, int)
            if not 1 <= number <= _MOST_CANDIDATES:
                raise UsageError(f"k is {number}; expected 1 to {_MOST_CANDIDATES}")
            self.k = int(number)
        elif name == "seed":
            seed = None if value == "none" else int(_number(name, value, int))
            check_seed(seed)
            self.seed = seed
        elif name in settings():
            number = _number(name, value, int if isinstance(getattr(self.sampling, name), int) else float)
            self.sampling = updated(self.sampling, **{name: number})
        else:
            raise UsageError(f"there is no setting {name!r}; expected one of {', '.join(settings())}")

    def settings(self) -> str:
        """All settings with their values, on one line."""
        values = {"k": self.k, "seed": self.seed} | {name: getattr(self.sampling, name) for name in _SAMPLING}
        return "  ".join(f"{name} {value}" for name, value in values.items())

    def _change(self, text: str) -> None:
        self._history.append(self.text)
        self.text = text

    def respond(self, line: str) -> Iterator[str]:
        """One line of a person's input, and the text to show for it, in pieces; mistakes are answered, not raised."""
        try:
            yield from self._respond(line)
        except LstmlmError as error:
            yield f"{error}\n"

    def _respond(self, line: str) -> Iterator[str]:
        command, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        if not line.startswith("/"):
            number = line.strip()
            if number.isdecimal() and len(number) < 10 and 1 <= int(number) <= self.k:
                self.take(int(number))
            else:
                self.type(line)
        elif command == "/gen":
            count = int(_number("N", argument, int)) if argument else _DEFAULT_TOKENS
            yield from self.write(count)
            yield "\n"
        elif command == "/top":
            if argument:
                self.set("k", argument)
        elif command == "/set":
            name, _, value = argument.partition(" ")
            if name:
                self.set(name, value.strip())
            yield f"{self.settings()}\n"
            return
        elif command == "/undo":
            self.undo()
        elif command == "/reset":
            self.reset()
        elif command == "/text":
            yield f"{self.text}\n"
            return
        elif command == "/help":
            yield HELP.format(settings=", ".join(settings())) + "\n"
            return
        elif command in ("/quit", "/exit"):
            self.over = True
            return
        else:
            raise UsageError(f"there is no command {command}; /help lists them")
        yield self.overview()

    def overview(self) -> str:
        """The end of the text and the list of next words, as plain lines."""
        completion = self.candidates()
        words = "  ".join(f"{n} {c.word} {c.probability:.0%}" for n, c in enumerate(completion.candidates, 1))
        return f"{_ending(self.text)}|\n  {words}  other {completion.other_probability:.0%}\n"


_SAMPLING = tuple(field.name for field in fields(SamplingConfig))


def settings() -> tuple[str, ...]:
    """Names that `set` knows."""
    return ("k", "seed", *_SAMPLING)


def _ending(text: str, width: int = 72) -> str:
    last = text.rsplit("\n", 1)[-1]
    return last if len(last) <= width else "…" + last[-width:]


def _number(name: str, value: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} is {value!r}; expected a number") from None
