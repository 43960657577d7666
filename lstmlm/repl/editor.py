"""The conversation in a terminal: the text, its ghost, the bar of candidates, a line for commands, the status.

What a person types never waits for the model (`asking.py`); of a ghost, what agrees with the typed letters stays until the
next answer is there.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from lstmlm.errors import LstmlmError, StoppedError
from lstmlm.predictor import AnyModel
from lstmlm.repl.asking import Asking
from lstmlm.repl.commands import COMMANDS, completions, execute, parsed, tokens
from lstmlm.repl.conversation import Conversation
from lstmlm.repl.document import DocumentControl, DraftBuffer
from lstmlm.repl.drawing import Span, surprise_spans
from lstmlm.repl.keys import KEYS, key_bindings
from lstmlm.repl.screen import layout, message_window, style
from lstmlm.repl.suggestions import Ghost, Suggestion

_ESCAPE = 0.05
"""Seconds after which Esc is a key of its own and not the beginning of another."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Editor:
    """Everything on the screen, and what the keys do. `input` and `output` are for tests."""

    def __init__(self, conversation: Conversation, *, input: Input | None = None, output: Output | None = None) -> None:
        self.conversation = conversation
        self.ghost: Ghost | None = None
        self.choice = 0
        """The candidate (from 1) whose ghost is shown, or that Tab has put into the text; 0 is none."""
        self.cycling: Suggestion | None = None
        """Whose candidates Tab is putting into the text in turn."""
        self.message = ""
        self.scroll = 0
        """Rows of the message that have gone past the top."""
        self.more = False
        """Whether there are rows below those that are seen."""
        self._working: list[str] = []
        """Commands that are at work."""
        self.coloured = False
        self.spans: list[Span] = []
        self._colours_of: tuple[AnyModel, str] | None = None
        self._dismissed = False
        self._signal: signal.Signals | None = None
        self._colouring = False
        self._pieces: Iterator[str] | None = None
        """What the model is writing."""
        self._scorer = ThreadPoolExecutor(1)
        self.buffer = DraftBuffer(multiline=True)
        self.entry = Buffer(multiline=False, accept_handler=self._entered)
        self.entry.on_text_changed += lambda _: setattr(self, "scroll", 0)
        self.document = DocumentControl(self.buffer, self._shown_ghost, lambda: self.spans)
        self.messages = message_window(self)
        self.app: Application[None] = Application(
            layout=layout(self),
            key_bindings=key_bindings(self),
            style=style(),
            full_screen=True,
            enable_page_navigation_bindings=False,
            input=input,
            output=output,
        )
        self.asking = Asking(conversation, self.app, show=self._show, fail=self._say)
        self.app.ttimeoutlen = self.app.timeoutlen = _ESCAPE
        self.app.key_processor.after_key_press += lambda _: self._follow()
        self.app.after_render += lambda _: self._look_for_more()

    @property
    def suggestion(self) -> Suggestion | None:
        """The last that was current when it arrived."""
        return self.asking.suggestion

    @property
    def busy(self) -> str:
        """The command that is at work."""
        return self._working[0] if self._working else ""

    @property
    def writing(self) -> bool:
        """Whether the model writes on."""
        return self._pieces is not None

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that would change what is seen."""
        return self.asking.settled and not self.writing and not self.busy

    def run(self) -> None:
        """Until the person leaves; the text is the conversation's.

        Raises:
            StoppedError: a signal ended it.
        """
        try:
            self.app.run(pre_run=self._begin)
        except EOFError:  # the terminal went away
            pass
        finally:
            self.stop()
            self.asking.close()
            self._scorer.shutdown(wait=False, cancel_futures=True)
        if self._signal is not None:
            raise StoppedError(f"stopped by {self._signal.name}", self._signal)

    def _begin(self) -> None:
        self.refresh()
        if threading.current_thread() is threading.main_thread():  # elsewhere nobody can be told of signals
            for number in _SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, self._stopped_by, number)

    def _stopped_by(self, number: signal.Signals) -> None:
        self._signal = number
        self.quit()

    # -- the draft and the buffer -----------------------------------------------------------------------------------

    def _follow(self) -> None:
        """After a key: the draft becomes what the buffer is."""
        draft, buffer = self.conversation.draft, self.buffer
        if buffer.text != draft.text:
            self.stop()
            before = draft.before
            draft.edit(buffer.text, buffer.cursor_position)
            typed = draft.before.removeprefix(before)
            follows = self.ghost and draft.at_end and draft.before == before + typed
            self._changed(self.ghost.typed(typed) if self.ghost and follows else None)
        elif buffer.cursor_position != draft.cursor:
            draft.move(buffer.cursor_position)
            self._changed(None)

    def _changed(self, ghost: Ghost | None) -> None:
        """The draft is another: show it, and ask what comes next."""
        draft = self.conversation.draft
        if (self.buffer.text, self.buffer.cursor_position) != (draft.text, draft.cursor):
            self.buffer.set_document(Document(draft.text, draft.cursor))
        self.ghost, self.choice, self.cycling, self._dismissed = ghost, 0, None, False
        self.message, self.scroll = "", 0
        self.refresh()

    def refresh(self) -> None:
        """Ask for words at the cursor, and for colours if they are on."""
        if self.writing:
            self.asking.pause()
        else:
            self.asking.ask()
        if self.coloured and not self._colouring:
            self._colouring = True
            self.app.create_background_task(self._colour())

    def _show(self, suggestion: Suggestion) -> None:
        if (suggestion.finished or suggestion.ghost) and (self.cycling or not self.choice):  # till then the old one's tail
            self.ghost = suggestion.ghost if self.conversation.draft.at_end and not self._dismissed else None
        self.app.invalidate()

    async def _colour(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self.coloured and self._colours_of != (now := (self.conversation.loaded, self.conversation.text)):
                found = await loop.run_in_executor(self._scorer, self.conversation.surprisals)
                if self.coloured:
                    self._colours_of, self.spans = now, surprise_spans(found)
                    self.app.invalidate()
        except Exception as error:
            self.coloured = False
            self._say(error)
        finally:
            self._colouring = False

    def _current(self) -> Suggestion | None:
        """What is offered for the text as it is now; a key that takes a word waits for it a moment."""
        if not (suggestion := self.asking.current()):
            self.message = self.message or "the model is still reading; try again"
        return suggestion

    def _shown_ghost(self) -> str:
        return self.ghost.shown if self.ghost else ""

    # -- what keys do -----------------------------------------------------------------------------------------------

    def take(self, number: int) -> None:
        """Candidate `number` of those that are shown."""
        self.stop()
        suggestion = self.cycling or self._current()
        if suggestion and 1 <= number <= len(suggestion.completion.candidates):
            if self.cycling:
                self.conversation.put_back()
            self.conversation.take(suggestion, number)
            self._changed(None)

    def cycle(self, step: int) -> None:
        """The first candidate; then, with each key, the next one or the one before, instead."""
        self.stop()
        suggestion = self.cycling or self._current()
        if not suggestion or not suggestion.completion.candidates:
            return
        size = len(suggestion.completion.candidates)
        number = (self.choice - 1 + step) % size + 1 if self.cycling else 1 if step > 0 else size
        self.take(number)
        self.cycling, self.choice = suggestion, number

    def accept(self) -> None:
        """The whole ghost."""
        self.stop()
        if self.ghost:
            self.conversation.accept(self.ghost)
            self._changed(None)

    def accept_word(self) -> None:
        """Its next word."""
        self.stop()
        if self.ghost:
            self._changed(self.conversation.accept_word(self.ghost))

    def other_ghost(self, step: int) -> None:
        """The ghost of the next candidate, or of the one before, however unlikely."""
        self.stop()
        suggestion = self._current()
        if suggestion and self.conversation.draft.at_end and (size := len(suggestion.completion.candidates)):
            number = (max(self.choice, 1) - 1 + step) % size + 1
            self.choice = number
            self.ghost = suggestion.ghost if number == 1 and suggestion.ghost else suggestion.ghost_of(number)

    def dismiss(self) -> None:
        """No ghost, message or cycling until the next edit; a word that Tab has put in is taken back."""
        self.stop()
        if self.cycling:
            self.conversation.put_back()
            self._changed(None)
        self.ghost, self.choice, self.message, self._dismissed = None, 0, "", True

    def undo(self) -> None:
        """One step back."""
        self.stop()
        self.execute("/undo", "")

    def write_on(self, max_tokens: int | None = None) -> None:
        """Let the model write at the cursor until it is stopped."""
        self.stop()
        draft = self.conversation.draft
        try:
            self._pieces = self.conversation.continuation(draft.before, max_tokens)
        except LstmlmError as error:
            self._say(error)
            return
        draft.put("", keys=0)
        self._changed(None)
        self.app.create_background_task(self._write(self._pieces))

    async def _write(self, pieces: Iterator[str]) -> None:
        try:
            while (piece := await self.asking.in_thread(next, pieces, None)) is not None:
                if self._pieces is not pieces:  # it was stopped while the model thought about this piece
                    return
                self.conversation.draft.extend(piece)
                self._changed(None)
        except Exception as error:
            self._say(error)
        if self._pieces is pieces:
            self.stop()

    def stop(self) -> bool:
        """End the model's writing, what it wrote staying; whether it was writing."""
        writing, self._pieces = self.writing, None
        if writing and self.app.is_running:
            self.refresh()
        return writing

    def interrupt(self) -> None:
        """Ctrl-C: stop writing, leave the line for commands, or say how to quit."""
        if self.stop():
            return
        if self.app.layout.has_focus(self.entry):
            self.close_entry()
        else:
            self.message = "Ctrl-D quits; the text is printed then. /save FILE keeps it in a file."

    def toggle_colours(self) -> None:
        """Surprisal colours on the text."""
        self.coloured = not self.coloured
        self._colours_of, self.spans = None, []
        self.refresh()

    def help(self) -> None:
        """The keys; the commands show themselves with the first letter of one."""
        self.message, self.scroll = KEYS, 0

    def page(self, direction: int) -> None:
        """A screen further in the message, if there is one, or else in the text."""
        rows = max(self.app.output.get_size().rows // 2, 1)
        if self.message or self.app.layout.has_focus(self.entry):
            self.scroll = max(self.scroll + direction * rows, 0)
        else:
            self.document.vertical(direction * rows)

    def _look_for_more(self) -> None:
        info = self.messages.render_info
        shown = self.message or self.app.layout.has_focus(self.entry)
        more = bool(shown and info and info.content_height > info.window_height)
        if more != self.more:
            self.more = more
            self.app.invalidate()

    def suspend(self) -> None:
        """Ctrl-Z: back to the shell, until `fg`."""
        self.app.suspend_to_background()

    def quit(self) -> None:
        """The text is the conversation's to keep."""
        self.conversation.over = True
        self.app.exit()

    # -- commands ---------------------------------------------------------------------------------------------------

    def open_entry(self) -> None:
        """The line for commands."""
        self.entry.document = Document("/")
        self.app.layout.focus(self.entry)

    def close_entry(self) -> None:
        self.entry.reset()
        self.app.layout.focus(self.buffer)

    def complete_entry(self) -> None:
        """The first command, or setting, that goes on from what was typed."""
        if found := completions(self.conversation, self.entry.text):
            self.entry.document = Document(found[0])

    def _entered(self, entry: Buffer) -> bool:
        """Enter in the line for commands; what is no command is text."""
        self.app.layout.focus(self.buffer)
        line = entry.text
        try:
            name, argument = parsed(line)
        except LstmlmError as error:
            self._say(error)
            return False
        if name:
            self.execute(name, argument)
        else:
            self.conversation.draft.put(line + "\n", keys=len(line) + 1)
            self._changed(None)
        return False

    def execute(self, name: str, argument: str) -> None:
        """A command; one that asks the model leaves the keys free meanwhile."""
        self.stop()
        if name == "/gen":
            try:
                self.write_on(tokens(argument))
            except LstmlmError as error:
                self._say(error)
        elif name == "/color":
            self.toggle_colours()
        elif COMMANDS[name].slow:
            self._working.append(name)
            self.app.create_background_task(self._execute_slowly(name, argument))
        else:
            try:
                self._done("".join(execute(self.conversation, name, argument)))
            except Exception as error:  # whatever it is, the text must stay in reach
                self._say(error)

    async def _execute_slowly(self, name: str, argument: str) -> None:
        try:
            self._done(await self.asking.in_thread(lambda: "".join(execute(self.conversation, name, argument))))
        except Exception as error:
            self._say(error)
        finally:
            self._working.remove(name)

    def _done(self, said: str) -> None:
        if self.conversation.over:
            self.app.exit()
        else:
            self._changed(None)
            self.message = said

    def _say(self, error: Exception) -> None:
        self.message = str(error) if isinstance(error, LstmlmError) else f"{type(error).__name__}: {error}"
        self.app.invalidate()
