"""The real program in a terminal emulator: what a person sees."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import conversing
import pexpect
import pyte
import pytest

ENTER, TAB, BACKSPACE, ESCAPE = "\r", "\t", "\x7f", "\x1b"
CTRL_C, CTRL_D, CTRL_G, UNDO = "\x03", "\x04", "\x07", "\x1f"
CTRL_RIGHT, RIGHT, F2 = "\x1b[1;5C", "\x1b[C", "\x1bOQ"
READS = 4000


class Terminal:
    """A terminal with `lstmlm repl` in it; the keyboard is `type`, the screen is `rows`."""

    def __init__(self, model: Path, columns: int = 90, rows: int = 16, **environment: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "lstmlm", "repl", str(model), "-k", "3", "--seed", "1"],
            env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
            | {"TERM": "xterm-256color"}
            | environment,
            encoding="utf-8",
            dimensions=(rows, columns),
            timeout=30,
        )
        self.screen.write_process_input = self.child.send  # answers to the program's questions

    @property
    def rows(self) -> list[str]:
        """What is to be seen: rows without the margin, but for empty ones."""
        return [row.strip() for row in self.screen.display if row.strip()]

    def type(self, keys: str, *expected: str) -> None:
        """Press keys and look until the screen has every row expected; those that end with `...` may go on."""
        self.child.send(keys)
        for _ in range(READS):
            if all(self._has(row) for row in expected):
                return
            self._stream.feed(self.child.read_nonblocking(4096, timeout=30))
        pytest.fail(f"{expected} are not among {self.rows}")

    def _has(self, row: str) -> bool:
        return any(shown.startswith(row[:-3]) if row.endswith("...") else shown == row for shown in self.rows)

    def styles(self, text: str) -> set[tuple[str, bool, bool]]:
        """Colour, bold and underlining of the last place where `text` stands."""
        for number, row in reversed(list(enumerate(self.screen.display))):
            if (place := row.rfind(text)) >= 0:
                cells = [self.screen.buffer[number][column] for column in range(place, place + len(text))]
                return {(cell.fg, cell.bold, cell.underscore) for cell in cells}
        pytest.fail(f"{text!r} is not shown")

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def leave(self, keys: str = CTRL_D) -> str:
        """Quit; what was printed after the screen was given back."""
        self.child.send(keys)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert (self.child.exitstatus, self.child.signalstatus) == (0, None)
        return self.child.before.rpartition("\x1b[?1049l")[2].removeprefix("\x1b[?2004l")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversing.bigram_model(tmp_path_factory.mktemp("bigram") / "demo").path


@pytest.fixture
def terminal(model: Path) -> Iterator[Terminal]:
    opened = Terminal(model)
    yield opened
    opened.child.close(force=True)


def test_a_session(terminal: Terminal) -> None:
    terminal.type("", "1 the 40%   2 cat 24%   3 can 16%   other 20%", "the", "demo  temperature 0.8  0 tokens...")
    terminal.type("the ", "the cat sat on", "1 cat 50%   2 can 40%   3 dog 10%   other 0%")
    assert terminal.styles("cat sat on") == {("brightblack", False, False)}
    terminal.type("c", "the cat sat on", "1 cat 56%   2 can 44%   other 0%")
    terminal.type(CTRL_RIGHT, "the cat sat on the", "1 cat 100%   other 0%")
    terminal.type("x", "the catx", "other 100%")
    terminal.type(BACKSPACE, "the cat sat on the", "1 cat 100%   other 0%")
    terminal.type(" " + ESCAPE + "2", "the cat can the", "1 the 40%   2 cat 24%   3 can 16%   other 20%")
    terminal.type(UNDO, "the cat sat on the", "1 sat 90%   2 can 10%   other 0%")
    terminal.type(ESCAPE + "/ban sat" + ENTER, "never offered: sat", "1 can 10%   other 90%")
    terminal.type(ESCAPE + "/unban sat" + ENTER, "no word is banned", "1 sat 90%   2 can 10%   other 0%")
    terminal.type(ESCAPE + "/learn on" + ENTER, "learns from your text, until you quit", "demo  learning...")
    terminal.type("zorg z", "1 zorg 100%   other 0%")
    terminal.type(UNDO + UNDO, "the cat sat on the", "1 sat...")
    terminal.type(ESCAPE + "/learn off" + ENTER, "learns nothing from your text", "demo  temperature...")
    terminal.type(ESCAPE + "/watch sat dog" + ENTER, "watching  sat 90.00%  dog 0.00%")
    terminal.type(ESCAPE + "/watch" + ENTER, "watching no word")
    terminal.type(ESCAPE + "/set temperature 0" + ENTER, "temperature           0.0", "demo  temperature 0  2 tokens...")
    terminal.type(ESCAPE + "/gen 9999999" + ENTER, "sat on the cat sat on the cat...", "demo  writing...")
    terminal.type(CTRL_C, "demo  temperature 0...")
    terminal.type(UNDO, "the cat sat on the", "1 sat 90%   2 can 10%   other 0%")
    terminal.type(ESCAPE + "/gen 2" + ENTER, "the cat sat on the cat sat", "1 on 100%   other 0%")
    terminal.type(F2, "bits of surprise  under 2  2 to 5  5 to 9  9 to 13  13 and more")
    terminal.type(ESCAPE + "/stats" + ENTER, "keys saved...", "accepted...", "milliseconds...")
    assert terminal.leave() == "the cat sat on\r\n"


def test_a_narrow_screen_without_colours(model: Path) -> None:
    terminal = Terminal(model, columns=20, rows=8, NO_COLOR="1")
    terminal.type("", "1 the 40%", "demo...")
    terminal.type("the cat sat on the ", "the cat sat on the", "cat sat on")  # words are kept whole
    assert terminal.styles("cat sat on") == {("default", False, True)}
    terminal.type("\x1b[200~\x1b[2J\x9b\u202e dog\x1b[201~", "\u241b[2J\ufffd\ufffd dog the")  # and nothing acts
    assert terminal.styles("\ufffd dog") == {("default", False, False)}
    terminal.resize(70, 5)
    terminal.type("\x1bOP", "Right, End, Ctrl-E     accept the ghost at the end of the text")
    terminal.type("\x1b[6~", "Tab, Shift-Tab...")
    terminal.type(" the", "the cat sat on the \u241b[2J\ufffd\ufffd dog the...", "demo  temperature...")
    assert terminal.leave().startswith("the cat sat on the \\x1b[2J")


def test_a_terminal_that_cannot_draw_is_answered_in_lines(model: Path) -> None:
    terminal = Terminal(model, TERM="dumb")
    terminal.type("the " + ENTER, "1 cat 50%  2 can 40%  3 dog 10%  other 0%")
    terminal.type("/quit" + ENTER)
    terminal.leave("")


def test_a_signal_ends_it_and_the_text_is_printed(terminal: Terminal) -> None:
    terminal.type("the c", "the cat sat on")
    terminal.child.kill(signal.SIGTERM)
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert (terminal.child.exitstatus, terminal.child.signalstatus) == (143, None)
    printed = terminal.child.before.rpartition("\x1b[?1049l")[2]
    assert "the c\r\n" in printed
    assert "stopped by SIGTERM" in printed


def test_on_a_terminal_that_cannot_draw_the_text_is_printed_when_one_leaves(model: Path) -> None:
    terminal = Terminal(model, TERM="dumb")
    terminal.type("the\r", "the|")
    terminal.child.send(CTRL_D)
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0
    assert terminal.child.before.endswith("the\r\n")
