"""The text a person is writing: a cursor, steps to undo, and the keys it took. Knows no model and no terminal."""

from __future__ import annotations

from dataclasses import dataclass

from lstmlm.errors import UsageError


@dataclass
class _Step:
    """At place `at`, `inserted` took the place of `removed`."""

    at: int
    removed: str
    inserted: str
    cursor: int
    """Where it was before."""
    saved: int = 0
    """Keys that it would have taken to type this, beyond those it took."""


class Draft:
    """A text with a cursor; every change is a step that can be undone, typing one step for each word."""

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self.keys = 0
        """Pressed to type, delete and accept text."""
        self.saved = 0
        """Keys that it would have taken besides, had nothing been accepted."""
        self._steps: list[_Step] = []
        self._typing = False
        """Whether the last step may grow."""
        self._closing = ""
        """Characters that take the place of the space before the cursor, which nobody typed."""

    @property
    def before(self) -> str:
        """The text before the cursor."""
        return self.text[: self.cursor]

    @property
    def at_end(self) -> bool:
        return self.cursor == len(self.text)

    def edit(self, text: str, cursor: int) -> None:
        """A person's edit made the draft `text`, with the cursor at `cursor`."""
        text = text.encode(errors="replace").decode()  # bytes that were no text when they were typed
        at, removed, inserted = _difference(self.text, text, cursor)
        if not removed and not inserted:
            self.move(cursor)
            return
        self.keys += len(inserted) <= 1  # more at once is a paste
        if self._closing and not removed and at == self.cursor:
            if inserted == " ":  # it stands there already
                self._closing = ""
                return
            if inserted and inserted in self._closing:
                at, removed = at - 1, " "
        if not self._grown(at, removed, inserted):
            self._steps.append(_Step(at, removed, inserted, self.cursor))
        self._typing, self._closing = True, ""
        self._apply(at, removed, inserted)

    def move(self, cursor: int) -> None:
        """Put the cursor somewhere else, which ends a run of typing."""
        self.cursor = cursor
        self._typing, self._closing = False, ""

    def put(self, inserted: str, replace: int = 0, *, closing: str = "", keys: int = 1) -> None:
        """One step, for which `keys` were pressed: `inserted` in place of `replace` characters before the cursor.

        If `inserted` ends with a space, a character of `closing` takes that space's place when it is typed next.
        """
        at = self.cursor - replace
        removed = self.text[at : self.cursor]
        saved = len(inserted) - replace - keys if keys else 0
        self._steps.append(_Step(at, removed, inserted, self.cursor, saved))
        self._typing, self._closing = False, closing
        self.keys += keys
        self.saved += saved
        self._apply(at, removed, inserted)

    def extend(self, piece: str) -> None:
        """Let the last step go on with `piece`."""
        step = self._steps[-1]
        step.inserted += piece
        cursor, end = self.cursor, step.at + len(step.inserted)
        self._apply(end - len(piece), "", piece)
        self.cursor = cursor + len(piece) * (cursor >= end - len(piece))  # who has gone elsewhere stays there

    def replace(self, text: str) -> None:
        """Another text altogether, as one step."""
        self._steps.append(_Step(0, self.text, text, self.cursor))
        self._typing, self._closing = False, ""
        self.text, self.cursor = text, len(text)

    def undo(self) -> None:
        """Take the last step back.

        Raises:
            UsageError: there is none.
        """
        if not self._steps:
            raise UsageError("there is nothing to undo")
        step = self._steps.pop()
        self._apply(step.at, step.inserted, step.removed)
        self.saved -= step.saved
        self.cursor, self._typing, self._closing = step.cursor, False, ""

    def _apply(self, at: int, removed: str, inserted: str) -> None:
        self.text = self.text[:at] + inserted + self.text[at + len(removed) :]
        self.cursor = at + len(inserted)

    def _grown(self, at: int, removed: str, inserted: str) -> bool:
        """Whether the last step takes this edit in: a letter more of the same word, or one of them deleted."""
        if not self._typing or not self._steps or len(inserted) > 1:
            return False
        step = self._steps[-1]
        end = step.at + len(step.inserted)
        if inserted and not removed and at == end:
            begins_a_word = bool(step.inserted.strip()) and step.inserted[-1].isspace() and not inserted.isspace()
            step.inserted += "" if begins_a_word else inserted
            return not begins_a_word
        if inserted or at + len(removed) != end:
            return False
        beyond = removed[: max(len(removed) - len(step.inserted), 0)]  # what stood before this step
        step.inserted = step.inserted[: max(len(step.inserted) - len(removed), 0)]
        step.at, step.removed = at if beyond else step.at, beyond + step.removed
        return True


def _difference(old: str, new: str, cursor: int) -> tuple[int, str, str]:
    """Where they differ, and the two texts there, given that what stands behind the cursor did not change."""
    tail = new[cursor:]
    if not old.endswith(tail):
        tail = ""
    head, new_head = old[: len(old) - len(tail)], new[: len(new) - len(tail)]
    if new_head.startswith(head):
        return len(head), "", new_head[len(head) :]
    if head.startswith(new_head):
        return len(new_head), head[len(new_head) :], ""
    return 0, head, new_head
