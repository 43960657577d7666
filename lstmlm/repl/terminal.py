"""The predictor in a terminal: next words below the line as one types, Tab takes the first.

What was written so far stands before the cursor as the prompt; Enter makes the typed line part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from lstmlm.completion import Completion
from lstmlm.repl.conversation import Conversation

KEYS = "Tab or Alt-1…9 takes a word, Ctrl-G writes on, Enter keeps the line, /help, Ctrl-D quits"
_PROMPT_WIDTH = 48
_STYLE = Style.from_dict(
    {"bottom-toolbar": "noreverse", "number": "ansibrightblack", "word": "bold", "before": "ansibrightblack"}
)


class TerminalFace:
    """A prompt, its bar of candidates, and its keys. `input` and `output` are for tests."""

    def __init__(
        self,
        conversation: Conversation,
        write: Callable[[str], None],
        *,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.conversation = conversation
        self._write = write
        self._known: tuple[str, int, Completion] | None = None
        self._writes_on = False
        """Whether the line ended with Ctrl-G."""
        self._prompt: PromptSession[str] = PromptSession(
            key_bindings=self._keys(), bottom_toolbar=self._bar, style=_STYLE, input=input, output=output
        )
        self._prompt.app.ttimeoutlen = 0.05  # Esc must not wait for a key that never comes

    def run(self) -> None:
        """Until `/quit` or Ctrl-D; Ctrl-C drops the line, or stops the model's writing and keeps what it wrote."""
        while not self.conversation.over:
            self._writes_on = False
            try:
                line = self._prompt.prompt(self._before)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if self._writes_on:
                self.conversation.type(line)
                line = "/gen"
            try:
                for piece in self.conversation.respond(line):
                    self._write(piece)
            except KeyboardInterrupt:
                self._write("\n")

    def _before(self) -> StyleAndTextTuples:
        last = self.conversation.text.rsplit("\n", 1)[-1]
        shown = last if len(last) <= _PROMPT_WIDTH else "…" + last[-_PROMPT_WIDTH:]
        return [("class:before", shown), ("", "> ")]

    def _typed(self) -> str:
        document = self._prompt.default_buffer.document
        return "" if document.text.startswith("/") else document.text_before_cursor

    def _candidates(self) -> Completion:
        """The candidates at the cursor; asked again only when text or k have changed."""
        text, k = self.conversation.joined(self._typed()), self.conversation.k
        if self._known is None or self._known[:2] != (text, k):
            self._known = (text, k, self.conversation.candidates(self._typed()))
        return self._known[2]

    def _bar(self) -> StyleAndTextTuples:
        completion = self._candidates()
        bar: StyleAndTextTuples = []
        for number, candidate in enumerate(completion.candidates, 1):
            bar += [
                ("class:number", f"{number} "),
                ("class:word", candidate.word),
                ("", f" {candidate.probability:.0%}  "),
            ]
        bar += [("class:number", f"other {completion.other_probability:.0%}\n")]
        sampling = self.conversation.sampling
        return [*bar, ("class:number", f"temperature {sampling.temperature:g}  {completion.ms:.0f} ms  {KEYS}")]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def take(number: int, event: KeyPressEvent) -> None:
            candidates = self._candidates().candidates
            if number <= len(candidates):
                chosen = candidates[number - 1]
                buffer = event.current_buffer
                buffer.delete_before_cursor(min(chosen.replace, len(self._typed())))
                buffer.insert_text(chosen.insert + " ")

        keys.add("tab")(partial(take, 1))
        for number in range(1, 10):
            keys.add("escape", str(number))(partial(take, number))

        @keys.add("c-g")
        def write_on(event: KeyPressEvent) -> None:
            self._writes_on = True
            event.app.exit(result=self._typed())

        return keys
