"""Where everything stands on the screen: the text, the bar of candidates right below it, the status at the bottom."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import ConditionalContainer, Dimension, FormattedTextControl, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import BaseStyle, DynamicStyle, merge_styles
from prompt_toolkit.utils import get_cwidth, is_dumb_terminal

from lstmlm.repl.commands import usages
from lstmlm.repl.document import row_starts
from lstmlm.repl.drawing import (
    STYLE,
    WITHOUT_COLOURS,
    candidate_bar,
    harmless,
    in_a_row,
    surprise_legend,
    watched_words,
)

if TYPE_CHECKING:
    from lstmlm.repl.editor import Editor

_FIRST = 10
"""How much sooner than others text and messages get a row more, where rows are few."""
_MARGIN, _WIDE = 2, 60
"""Columns left free on both sides, on a screen that has so many."""


def can_draw() -> bool:
    """Whether the terminal can move its cursor (`TERM` is not `dumb`)."""
    return not is_dumb_terminal()


def message_window(editor: Editor) -> Window:
    """What commands say, and which there are."""
    height = Dimension(min=1, weight=_FIRST)
    return Window(FormattedTextControl(lambda: _message(editor)), dont_extend_height=True, height=height)


def layout(editor: Editor) -> Layout:
    """The windows, from top to bottom; those that have nothing to show take no room."""
    commanding = has_focus(editor.entry)
    watching = Condition(lambda: bool(editor.suggestion and editor.suggestion.watched))
    saying = Condition(lambda: bool(editor.message)) | commanding

    def bar() -> StyleAndTextTuples:
        return [] if editor.writing else candidate_bar(editor.cycling or editor.suggestion, _width(), editor.choice)

    rows = HSplit(
        [
            _gap(),
            Window(editor.document, dont_extend_height=True, height=Dimension(min=1, weight=_FIRST)),
            _gap(),
            ConditionalContainer(_row(bar), ~commanding),
            ConditionalContainer(Window(BufferControl(editor.entry), height=1), commanding),
            ConditionalContainer(_row(lambda: watched_words(editor.suggestion, _width())), watching),
            ConditionalContainer(_row(lambda: surprise_legend(_width())), Condition(lambda: editor.coloured)),
            ConditionalContainer(_gap(), saying & ~commanding),
            ConditionalContainer(editor.messages, saying),
            Window(),
            Window(char="─", height=Dimension(min=0, max=1), style="class:rule"),
            _row(lambda: status(editor, _width())),
        ]
    )
    margin = Window(width=lambda: Dimension.exact(_margin()))
    return Layout(VSplit([margin, rows, margin]), focused_element=editor.buffer)


def style() -> BaseStyle:
    """Colours, or what stands for them where there are none (`NO_COLOR`, a terminal of one colour)."""
    without = merge_styles([STYLE, WITHOUT_COLOURS])
    return DynamicStyle(lambda: without if get_app().color_depth == ColorDepth.DEPTH_1_BIT else STYLE)


def status(editor: Editor, width: int) -> StyleAndTextTuples:
    """The model, its temperature, tokens, milliseconds, what it learns; and the keys that matter now, at the right."""
    conversation, suggestion = editor.conversation, editor.suggestion
    left: list[StyleAndTextTuples] = [
        [("class:name", harmless(conversation.name))],
        [("class:status", f"temperature {conversation.sampling.temperature:g}")],
    ]
    if editor.writing:
        left.insert(1, [("class:on", "writing")])
    if editor.busy:
        left.insert(1, [("class:on", editor.busy)])
    if conversation.learning:
        left.insert(1, [("class:on", "learning")])
    if conversation.cache:
        left.insert(1, [("class:on", f"cache {conversation.cache:,}")])
    if suggestion:
        left.append([("class:status", f"{suggestion.tokens:,} tokens")])
        left.append([("class:status", f"{editor.asking.milliseconds:.0f} ms")])
    shown = in_a_row(left, width)
    room = width - _size(shown) - 3
    hints = in_a_row([[("class:key", key), ("class:status", f" {what}")] for key, what in _hints(editor)], room)
    if _size(hints) > room:
        return shown
    return [*shown, ("", " " * (width - _size(shown) - _size(hints))), *hints]


def _hints(editor: Editor) -> list[tuple[str, str]]:
    if editor.app.layout.has_focus(editor.entry):
        return [*[("PgDn", "more")] * editor.more, ("Enter", "run"), ("Tab", "complete"), ("Esc", "back")]
    if editor.writing:
        return [("Ctrl-C", "stop")]
    if editor.more:
        return [("PgDn", "more"), ("Esc", "close")]
    first = [("→", "accept")] if editor.ghost else []
    return [*first, ("Tab", "take"), ("Ctrl-G", "write on"), ("F1", "help"), ("Ctrl-D", "quit")]


def _message(editor: Editor) -> StyleAndTextTuples:
    """What was said, or while a command is typed, the commands that begin so; from the row on to which it was scrolled."""
    said = editor.message
    if editor.app.layout.has_focus(editor.entry):
        said = usages(editor.entry.text.partition(" ")[0]) or "Enter writes this line into the text"
    starts = [*row_starts(said, _width() + 1), len(said)]
    editor.scroll = min(editor.scroll, len(starts) - 2)
    rows: StyleAndTextTuples = []
    for start, end in pairwise(starts[editor.scroll :]):
        head, gap, rest = said[start:end].removesuffix("\n").partition("  ")
        rows += [("class:head" if head and rest else "", harmless(head)), ("class:rest", harmless(gap + rest)), ("", "\n")]
    return rows[:-1]


def _row(fragments: Callable[[], StyleAndTextTuples]) -> Window:
    return Window(FormattedTextControl(fragments), height=Dimension(min=0, max=1, preferred=1))


def _gap() -> Window:
    return Window(height=Dimension(min=0, max=1, preferred=1))


def _width() -> int:
    return get_app().output.get_size().columns - 2 * _margin()


def _margin() -> int:
    return _MARGIN if get_app().output.get_size().columns >= _WIDE else 0


def _size(fragments: StyleAndTextTuples) -> int:
    return sum(get_cwidth(text) for _, text, *_ in fragments)
