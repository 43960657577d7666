"""The keys of the editor, and what of it they call. Those of Emacs that prompt_toolkit brings stay where they do no harm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from prompt_toolkit.filters import Always, Condition, Filter, has_focus
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.utils import suspend_to_background_supported

if TYPE_CHECKING:
    from lstmlm.repl.editor import Editor

KEYS = """\
Right, End, Ctrl-E     accept the ghost at the end of the text
Ctrl-Right, Alt-F      accept its next word
Tab, Shift-Tab         take a word of the bar, then the next or the one before instead
Alt-1 ... Alt-9        take the n-th
Ctrl-Down, Ctrl-Up     other ghosts
Esc                    no ghost until the next edit
Ctrl-G, Ctrl-C         let the model write on; stop it
Ctrl-_                 undo
F2                     colour the text by how surprising it is
/, Alt-/               a command: / at the beginning of a line, Alt-/ anywhere
Ctrl-D, Ctrl-Q         quit"""


def key_bindings(editor: Editor) -> KeyBindings:
    """Bindings for the text and for the line of commands."""
    keys = KeyBindings()
    text, entry = has_focus(editor.buffer), has_focus(editor.entry)
    ghost = text & Condition(lambda: editor.ghost is not None)
    line_begins = text & Condition(lambda: editor.buffer.document.cursor_position_col == 0)
    only_slash = entry & Condition(lambda: len(editor.entry.text) <= 1)
    suspends = Condition(suspend_to_background_supported)

    def bind(filter: Filter, action: Callable[[], object], *names: str | tuple[str, ...]) -> None:
        def handler(event: KeyPressEvent) -> None:
            action()

        for name in names:
            keys.add(*((name,) if isinstance(name, str) else name), filter=filter)(handler)

    bind(ghost, editor.accept, "right", "end", "c-e")
    bind(ghost, editor.accept_word, "c-right", ("escape", "f"))
    bind(text, partial(editor.cycle, 1), "tab")
    bind(text, partial(editor.cycle, -1), "s-tab")
    for number in range(1, 10):
        bind(text, partial(editor.take, number), ("escape", str(number)))
    bind(text, partial(editor.other_ghost, 1), "c-down")
    bind(text, partial(editor.other_ghost, -1), "c-up")
    for character in "0123456789-":  # in Emacs an argument, which would take the next letter
        bind(entry if character in "123456789" else text | entry, lambda: None, ("escape", character))
    bind(text, editor.dismiss, "escape")
    bind(text, editor.write_on, "c-g")
    bind(text, editor.undo, "c-_")
    bind(text, partial(editor.buffer.insert_text, "\n"), "enter")
    bind(text, partial(editor.document.vertical, -1), "up")
    bind(text, partial(editor.document.vertical, 1), "down")
    bind(text | entry, partial(editor.page, -1), "pageup")
    bind(text | entry, partial(editor.page, 1), "pagedown")
    bind(text, editor.toggle_colours, "f2")
    bind(text, editor.help, "f1")
    bind(line_begins, editor.open_entry, "/")
    bind(text, editor.open_entry, ("escape", "/"))

    bind(entry, editor.complete_entry, "tab")
    bind(entry, editor.close_entry, "escape", "c-g")
    bind(only_slash, editor.close_entry, "backspace")

    bind(Always(), editor.interrupt, "c-c", "<sigint>")
    bind(Always(), editor.quit, "c-d", "c-q")
    bind(suspends, editor.suspend, "c-z")
    return keys
