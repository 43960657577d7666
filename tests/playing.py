"""A person at the editor, with the keys that there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from prompt_toolkit.input import PipeInput

from lstmlm.repl.drawing import candidate_bar
from lstmlm.repl.editor import Editor
from lstmlm.repl.screen import status

TAB, SHIFT_TAB, ENTER, BACKSPACE, ESCAPE = "\t", "\x1b[Z", "\r", "\x7f", "\x1b"
CTRL_C, CTRL_D, CTRL_E, CTRL_G, CTRL_Q, UNDO = "\x03", "\x04", "\x05", "\x07", "\x11", "\x1f"
RIGHT, LEFT, UP, DOWN, HOME, END = "\x1b[C", "\x1b[D", "\x1b[A", "\x1b[B", "\x1b[H", "\x1b[F"
CTRL_RIGHT, CTRL_UP, CTRL_DOWN, F1, F2 = "\x1b[1;5C", "\x1b[1;5A", "\x1b[1;5B", "\x1bOP", "\x1bOQ"
PATIENCE = 20


class Player:
    """A person at an editor, which runs in a thread of its own."""

    def __init__(self, editor: Editor, keys: PipeInput) -> None:
        self.editor, self.send = editor, keys.send_text
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.editor.run()
        except BaseException as error:
            self._failure.append(error)

    def __call__(self, keys: str, text: str | None = None, ghost: str | None = None) -> None:
        """Press keys and wait until the text and the ghost are these, and nothing is under way."""
        self.send(keys)
        self.until(lambda: self.editor.settled and text in (None, self.text) and ghost in (None, self.ghost))

    def until(self, reached: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not reached():
            state = (self.text, self.ghost, self.editor.message, self._failure)
            assert time.monotonic() < end and self._thread.is_alive(), state  # noqa: PT018
            time.sleep(0.002)

    def leave(self, key: str = CTRL_D) -> None:
        self.send(key)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert not self._failure

    @property
    def text(self) -> str:
        return self.editor.conversation.text

    @property
    def ghost(self) -> str:
        return self.editor.ghost.shown if self.editor.ghost else ""

    @property
    def bar(self) -> str:
        shown = candidate_bar(self.editor.cycling or self.editor.suggestion, 80, self.editor.choice)
        return "".join(f"[{text}]" if "chosen" in style else text for style, text, *_ in shown)

    @property
    def status(self) -> str:
        return "".join(text for _, text, *_ in status(self.editor, 90))
