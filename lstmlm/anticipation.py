"""Answers that are there before they are asked for: between two keys a model has time to look at what may be typed next.

A person who types leaves a model 100 to 300 ms from key to key, and most lists take less. So an answer is first given as
good as it can be at once; then it is completed; then those to the text with one more character are made, the likeliest
first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from lstmlm.durations import Stop
from lstmlm.reader import Reader

_REMEMBERED, _CHARACTERS = 512, 4_000_000
"""Answers, so that going back is answered at once, too; and characters of their texts together."""
_LEAST = 0.002
"""Probability of a character for which an answer is made before it is typed."""
T = TypeVar("T")


class Anticipation(Generic[T]):
    """Remembers complete answers about one text in progress, and makes those that may be needed next."""

    def __init__(self, reader: Reader, answer: Callable[[str, Stop], T]) -> None:
        """`answer(text, stop)` asks `stop` now and then, and does with what it has when that says so.

        It must depend on the text alone: whatever else changes the answer needs an anticipation of its own.
        """
        self._reader, self._answer = reader, answer
        self._known: OrderedDict[str, T] = OrderedDict()

    def ask(self, text: str, stop: Stop) -> tuple[T, bool]:
        """The answer for `text`, and whether it is complete: known, or made before `stop` said so."""
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text], True
        stopped = False

        def stop_now() -> bool:
            nonlocal stopped
            stopped = stopped or stop()
            return stopped

        answer = self._answer(text, stop_now)
        if not stopped:
            self._known[text] = answer
            while len(self._known) > min(_REMEMBERED, 1 + _CHARACTERS // (len(text) + 1)):
                self._known.popitem(last=False)
        return answer, not stopped

    def look_ahead(self, text: str, stop: Stop) -> None:
        """Make the answers to `text` with one more character, until all likely ones are known, or `stop`.

        Not for a model that learns from what it reads: it would have to read what was not written.
        """
        if self._reader.predictor.learns or stop():
            return
        for character, share in self._reader.next_characters(text, stop):
            if share < _LEAST or not self.ask(text + character, stop)[1]:
                return
