"""What the commands share: stdout for data, stderr for people, errors as one or two lines, progress."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

DEBUG = "LSTMLM_DEBUG"
WIDTH_WITHOUT_TERMINAL = 100
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def errors_console() -> Console:
    """stderr, for progress, warnings and errors."""
    return _console(stderr=True)


def data_console() -> Console:
    """stdout, for what a command was asked for."""
    return _console(stderr=False)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:  # rich's own would exit with code 1
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    if stream is None:  # closed by the caller
        stream = io.StringIO()
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return PipedConsole(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=not stream.isatty())


def program() -> str:
    """How to call this program again: by its name if the shell finds it, else by its path."""
    found, here = shutil.which("lstmlm"), Path(sys.executable).with_name("lstmlm")
    if here.exists() and not (found and os.path.samefile(found, here)):
        return os.path.relpath(here)
    return "lstmlm" if found else f"{os.path.relpath(sys.executable)} -m lstmlm"


def command_line() -> str:
    """The command as it was typed, to be noted."""
    return shlex.join(["lstmlm", *sys.argv[1:]])


def say(message: str) -> None:
    """One line on stderr, in which no file's name can act on a terminal."""
    if not all(character.isprintable() or character in "\n\t" for character in message):
        from lstmlm.report.formatting import visible

        message = visible(message)
    click.echo(message, err=True)


def safe(text: str) -> str:
    """`text` for stdout: as it is into a pipe or file, with control characters made visible on a terminal."""
    if sys.stdout is not None and sys.stdout.isatty():
        from lstmlm.report.formatting import visible

        return visible(text)
    return text


def tsv_row(cells: Sequence[str | float], *, quoted: bool = False) -> str:
    r"""A line of tab-separated values, with \t \n \r \\ for what would break it.

    `quoted`: a cell that begins with a quote stands in quotes, as R, pandas and spreadsheets read and write it.
    """

    def shown(cell: str | float) -> str:
        if not isinstance(cell, str):
            return f"{cell:.6f}" if isinstance(cell, float) else str(int(cell))
        escaped = cell.translate(_ESCAPES)
        return '"' + escaped.replace('"', '""') + '"' if quoted and cell.startswith('"') else escaped

    return "\t".join(map(shown, cells)) + "\n"


def check_outputs(*paths: str | None, read: Sequence[str] = ()) -> None:
    """Refuse, before any work is done, files that could not be written, or are `read`; `-` is stdout, for one of them.

    Raises:
        UsageError: as it says.
    """
    from lstmlm.storage import check_output

    given = [path for path in paths if path is not None]
    if given.count("-") > 1:
        raise click.UsageError("only one output can be printed; expected a FILE for the others")
    if len(set(given)) < len(given):
        raise click.UsageError("two outputs have the same name; expected a FILE for each")
    for path in paths:
        if path not in (None, "-"):
            check_output(Path(path), read=[Path(name) for name in read])


def write_outputs(*outputs: tuple[str | None, Callable[[], str]]) -> bool:
    """Write each where it was asked for, if it was; whether one of them went to stdout, where it stands alone."""
    from lstmlm.storage import write_output

    for path, made in outputs:
        if path == "-":
            write(made())
        elif path is not None:
            write_output(Path(path), made().encode())
    return any(path == "-" for path, _ in outputs)


def write(text: str) -> None:
    """Text on stdout, at once and as it is (`click.echo` drops escape sequences on the way into a pipe)."""
    if sys.stdout is not None:  # not closed by the caller
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def token_progress(label: str) -> Iterator[ProgressBar]:
    """A bar on a terminal's stderr, nothing elsewhere."""
    bar = ProgressBar(label)
    try:
        yield bar
    finally:
        bar.close()


class ProgressBar:
    """Appears with the first report of progress, and leaves no trace."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._progress: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._progress is None:
            console = errors_console()
            if not console.is_terminal:
                return
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=console, transient=True)
            self._task = self._progress.add_task(self._label, total=total)
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def run_paths(argument: str) -> list[str]:
    """The runs that a MODEL names, joined by commas: itself, where there is a directory of that name with all of them.

    Raises:
        UsageError: there is nothing between two commas, or after the last.
    """
    paths = [argument] if os.path.exists(argument) else [path.strip() for path in argument.split(",")]
    if not all(paths):
        raise click.UsageError(f"{argument!r} names a run without a name; expected RUN, or RUN,RUN and so on")
    return paths


def stdin_lines() -> Iterator[str]:
    """Lines of stdin without their line ends, strictly UTF-8.

    Raises:
        DataError: naming the line and the byte that is not UTF-8.
    """
    from lstmlm.errors import DataError

    if sys.stdin is None:  # closed by the caller
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode()
            text = text.removeprefix("\ufeff") if number == 1 else text
            yield from text.removesuffix("\n").removesuffix("\r").split("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} of stdin is not UTF-8: byte 0x{line[error.start]:02x} at {error.start}"
            ) from error
