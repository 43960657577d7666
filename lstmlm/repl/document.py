"""The text on the screen: broken between words, with a ghost behind it and colours on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout.controls import BufferControl, GetLinePrefixCallable, UIContent
from prompt_toolkit.utils import get_cwidth

from lstmlm.repl.drawing import Span, harmless, styled


class DraftBuffer(Buffer):
    """What the keys act on. Its history is the draft's, which does not keep the whole text for every key."""

    def save_to_undo_stack(self, clear_redo_stack: bool = True) -> None:
        pass


class DocumentControl(BufferControl):
    """Draws the buffer with words kept whole at the right edge, and `ghost` behind its end."""

    def __init__(self, buffer: Buffer, ghost: Callable[[], str], spans: Callable[[], Sequence[Span]]) -> None:
        super().__init__(buffer)
        self._ghost = ghost
        self._spans = spans
        self._width = 80
        self._goal = (-1, 0)
        """Where the cursor last stood after moving up or down, and the column it would like to be in."""

    def preferred_height(
        self, width: int, max_available_height: int, wrap_lines: bool, get_line_prefix: GetLinePrefixCallable | None
    ) -> int | None:
        text = self.buffer.text
        rows = len(row_starts(text, width)) + len(self._ghost_rows(text, width)[1])
        return min(rows, max_available_height)

    def create_content(self, width: int, height: int, preview_search: bool = False) -> UIContent:
        self._width = width
        text, cursor = self.buffer.text, self.buffer.cursor_position
        starts = row_starts(text, width)
        beside, below = self._ghost_rows(text, width)
        spans = list(self._spans())
        if self.buffer.selection_state:
            spans = [(*part, "class:selected") for part in self.buffer.document.selection_ranges()] + spans

        def line(number: int) -> StyleAndTextTuples:
            if number >= len(starts):
                return [("class:ghost", below[number - len(starts)]), ("", " ")]
            row = _row(text, starts, number, width)
            ghost = beside if number == len(starts) - 1 else ""
            return [*styled(row, starts[number], spans), ("class:ghost", ghost), ("", " ")]

        row = bisect_right(starts, cursor) - 1
        place = Point(x=min(cursor - starts[row], len(_row(text, starts, row, width))), y=row)
        return UIContent(line, len(starts) + len(below), cursor_position=place)

    def _ghost_rows(self, text: str, width: int) -> tuple[str, list[str]]:
        """What of the ghost stands beside the end of the text, and the rows below; it never moves the text."""
        ghost = harmless(self._ghost())
        starts = row_starts(text, width)
        room = max(width - 1 - get_cwidth(harmless(_row(text, starts, len(starts) - 1, width))), 0)
        fits = row_starts(ghost, room + 1)[1:2] if room else [0]
        beside = ghost[: fits[0]] if fits else ghost
        rest = ghost[len(beside) :].lstrip()
        below = [*row_starts(rest, width), len(rest)] if rest else []
        return beside, [rest[start:end] for start, end in pairwise(below)]

    def vertical(self, rows: int) -> None:
        """Move the cursor by rows of the screen, keeping to its column where rows are long enough."""
        text, cursor = self.buffer.text, self.buffer.cursor_position
        starts = row_starts(text, self._width)
        row = bisect_right(starts, cursor) - 1
        column = get_cwidth(text[starts[row] : cursor])
        if cursor == self._goal[0]:
            column = self._goal[1]
        target = min(max(row + rows, 0), len(starts) - 1)
        shown = _row(text, starts, target, self._width)
        place = next((place for place in range(len(shown)) if get_cwidth(shown[: place + 1]) > column), len(shown))
        if place == len(shown) and target < len(starts) - 1 and text[starts[target + 1] - 1] != "\n":
            place -= 1  # behind the last character would be the row below
        self.buffer.cursor_position = starts[target] + max(place, 0)
        self._goal = (self.buffer.cursor_position, column)


def row_starts(text: str, width: int) -> list[int]:
    """Where each row of the screen begins in `text`, with one column left free for the cursor."""
    starts = []
    begin = 0
    for line in text.split("\n"):
        starts += [begin + start for start in _line_starts(line, max(width - 1, 1))]
        begin += len(line) + 1
    return starts


@lru_cache(1 << 14)
def _line_starts(line: str, width: int) -> tuple[int, ...]:
    """Where the rows of one line begin: behind white space, which hangs over the edge; inside a word too long for a row."""
    starts, used, word = [0], 0, 0
    for place, character in enumerate(line):
        if character.isspace():
            used, word = used + 1, place + 1
            continue
        size = get_cwidth(harmless(character))
        if used + size > width:
            cut = word if word > starts[-1] else place
            if cut > starts[-1]:
                starts.append(cut)
                used = get_cwidth(harmless(line[cut:place]))
        used += size
    return tuple(starts)


def _row(text: str, starts: Sequence[int], number: int, width: int) -> str:
    """The characters of a row that are seen: no line end, and no white space beyond the edge."""
    end = starts[number + 1] if number + 1 < len(starts) else len(text)
    row = text[starts[number] : end].removesuffix("\n")
    while row and row[-1].isspace() and get_cwidth(harmless(row)) > max(width - 1, 1):
        row = row[:-1]
    return row
