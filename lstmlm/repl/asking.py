"""Questions to the model while a person types on: one thread owns it, and an answer to an older question is dropped.

The newest question is answered at once, as well as can be, then better, then in full. After that the answers to the
likeliest next questions are found, until there is a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillBusyError
from functools import partial
from typing import TypeVar

from prompt_toolkit.application import Application

from lstmlm.durations import after, either
from lstmlm.repl.conversation import Conversation
from lstmlm.repl.suggestions import Suggestion

_AT_ONCE, _LEAST = 0.005, 0.002
"""Seconds after a key when the best words so far are shown, and what is left for them if other work ends late."""
_SOON, _TRIES = 0.1, 20
"""Seconds between better ones, and how often, until they are left as they are."""
_AHEAD = 1.0
"""Seconds that are spent, after that, on what may be typed next."""
_PATIENCE = 0.5
"""Seconds that a key waits for the list it takes a word from."""
T = TypeVar("T")


class Asking:
    """What to offer at the cursor, asked anew with each change."""

    def __init__(
        self,
        conversation: Conversation,
        app: Application[None],
        *,
        show: Callable[[Suggestion], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """`show` gets each answer that is current; `fail`, whatever went wrong in place of one."""
        self._conversation, self._app, self._show, self._fail = conversation, app, show, fail
        self._model = ThreadPoolExecutor(1)
        self._asked = self._shown = self._answered = 0
        """The last question, the last of which an answer was shown, and the last that was answered in full."""
        self._busy = self._paused = False
        self._waiting = 0
        """Other work for the model that is not done."""
        self.suggestion: Suggestion | None = None
        """The last one that was current when it arrived."""
        self.milliseconds = 0.0
        """From the last question that was answered with words to those."""
        self._offered, self._asked_at = 0, 0.0

    @property
    def settled(self) -> bool:
        """Whether the newest question is answered in full."""
        return self._answered == self._asked

    def ask(self) -> None:
        """The text, or what is wanted, is another."""
        self._asked += 1
        self._asked_at = time.perf_counter()
        self._paused = False
        if not self._busy:
            self._busy = True
            self._app.create_background_task(self._answer())

    def pause(self) -> None:
        """The text is another, but the model has other work, until the next question."""
        self._asked += 1
        self._paused = True

    def current(self) -> Suggestion | None:
        """What is offered for the text as it is now, after a moment if need be; `None`: not yet, or something went wrong."""
        if self._shown != self._asked:
            future = self._model.submit(self._conversation.suggest, self._conversation.draft.before)
            try:
                self._take(self._asked, future.result(_PATIENCE))
            except StillBusyError:
                future.cancel()
                return None
            except Exception as error:
                self._failed(error)
        return self.suggestion

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Let the model do something else; looking ahead makes room for it."""
        self._waiting += 1
        try:
            return await self._run(function, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self.pause()
        self._model.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._model, function, *arguments)

    async def _answer(self) -> None:
        while not self._paused and not self.settled:
            question = self._asked
            try:
                await self._answer_to(question, self._conversation.draft.before)
            except Exception as error:  # whatever it is, the text must stay in reach
                if not self._is_old(question):
                    self._failed(error)
        self._busy = False

    async def _answer_to(self, question: int, before: str) -> None:
        is_old = partial(self._is_old, question)
        at_once = max(_LEAST, self._asked_at + _AT_ONCE - time.perf_counter())
        for seconds in (at_once, *[_SOON] * _TRIES):
            found = await self._run(self._conversation.suggest, before, either(is_old, after(seconds)))
            if is_old():
                return
            self._take(question, found)
            if found.finished:
                break
        self._answered = question
        enough = either(is_old, after(_AHEAD), lambda: self._waiting > 0)
        await self._run(self._conversation.look_ahead, before, enough)

    def _is_old(self, question: int) -> bool:
        return question != self._asked

    def _take(self, question: int, suggestion: Suggestion) -> None:
        if suggestion.completion.candidates and question != self._offered:
            self._offered, self.milliseconds = question, 1e3 * (time.perf_counter() - self._asked_at)
            self._conversation.offered(suggestion, self.milliseconds)
        self._shown, self.suggestion = question, suggestion
        if suggestion.finished:
            self._answered = question
        self._show(suggestion)

    def _failed(self, error: Exception) -> None:
        self.suggestion, self._answered, self._shown = None, self._asked, self._asked
        self._fail(error)
