"""The README's picture: the real `lstmlm repl` in a terminal emulator, in which a sentence is typed; its screen as an SVG.

    python benchmarks/picture.py checkpoints/everyday -o docs/editor.svg     # the run that `make demo` trains

Needs the packages that the tests need.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import click
import pexpect
import pyte
from pyte.screens import Char
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

TEXT = "It was late when she came home. She put the keys on the table and made herself a cup of "
NAME = "everyday"
"""The model's, as the status line shows it."""
COLUMNS, ROWS = 88, 9
QUIET = 1.0
"""Seconds without news after which the screen is taken for finished."""
NORMAL = "#181a1f #e06c75 #98c379 #e5c07b #61afef #c678dd #56b6c2 #dcdfe4"
BRIGHT = "#767d8a #f0828a #aad491 #f0d296 #82c3fa #d796eb #78cdd7 #ffffff"
"""Black, red, green, yellow, blue, magenta, cyan, white."""


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path), required=True)
def main(run: Path, output: Path) -> None:
    """Draw the editor with the model of RUN."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(drawn(screen_of(run)), end="")
    output.parent.mkdir(parents=True, exist_ok=True)
    normal, bright = ([Color.parse(name).get_truecolor() for name in names.split()] for names in (NORMAL, BRIGHT))
    theme = TerminalTheme(normal[0], normal[-1], list(normal), list(bright))
    svg = console.export_svg(title=f"lstmlm repl {NAME}", theme=theme, unique_id="editor")
    svg = re.sub(r"@font-face {.*?}\s*", "", svg, flags=re.DOTALL)  # fonts from another site, which no README loads
    output.write_text(svg, encoding="utf-8")


def screen_of(run: Path) -> pyte.Screen:
    """What the command shows when the text was typed."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    with tempfile.TemporaryDirectory() as folder:
        (model := Path(folder, NAME)).symlink_to(run.resolve())
        child = pexpect.spawn(
            sys.executable,
            ["-m", "lstmlm", "repl", str(model)],
            env=os.environ | {"TERM": "xterm-256color"},
            encoding="utf-8",
            dimensions=(ROWS, COLUMNS),
        )
        screen.write_process_input = child.send  # answers to the program's questions
        stream.feed(child.read_nonblocking(1, timeout=60))
        for keys in ("", TEXT[:-3], *TEXT[-3:]):
            child.send(keys)
            try:
                while True:
                    stream.feed(child.read_nonblocking(4096, timeout=QUIET))
            except pexpect.TIMEOUT:
                pass
        child.close(force=True)
    return screen


def drawn(screen: pyte.Screen) -> Text:
    """The screen's characters with their styles, the cursor as a block."""
    text = Text()
    for row in range(screen.lines):
        cells = [(_style(screen.buffer[row][column]), screen.buffer[row][column].data) for column in range(screen.columns)]
        if row == screen.cursor.y:
            style, character = cells[screen.cursor.x]
            cells[screen.cursor.x] = (style + Style(reverse=True), character)
        for style, run in groupby(cells, key=itemgetter(0)):
            text.append("".join(character for _, character in run), style)
        text.append("\n")
    return text


def _style(cell: Char) -> Style:
    colours = {"color": _colour(cell.fg), "bgcolor": _colour(cell.bg)}
    return Style(**colours, bold=cell.bold, underline=cell.underscore, reverse=cell.reverse)


def _colour(name: str) -> str:
    """The name of a colour as rich has it."""
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return name.replace("bright", "bright_").replace("brown", "yellow")


if __name__ == "__main__":
    main()
