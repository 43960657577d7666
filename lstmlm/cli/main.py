"""The group of commands and the one boundary: whatever happens inside, a person sees a line and a shell an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from lstmlm import __version__
from lstmlm.cli.compare import compare_command
from lstmlm.cli.complete import complete_command
from lstmlm.cli.console import DEBUG, say
from lstmlm.cli.demo import demo_command
from lstmlm.cli.evaluate import eval_command
from lstmlm.cli.generate import generate_command
from lstmlm.cli.info import info_command
from lstmlm.cli.ngram import arpa_command, ngram_command
from lstmlm.cli.pairs import pairs_command
from lstmlm.cli.recipes import recipes_command
from lstmlm.cli.regions import regions_command
from lstmlm.cli.repl import repl_command
from lstmlm.cli.score import score_command
from lstmlm.cli.train import train_command
from lstmlm.cli.tune import tune_command
from lstmlm.errors import LstmlmError

_MEMORY_SIGNS = ("not enough memory", "out of memory", "can't allocate memory", "Storage size calculation overflowed")
"""What torch says on its platforms."""
INTERRUPTED, PIPE_CLOSED, IO_FAILED, NO_MEMORY, OUR_MISTAKE = 130, 141, 5, 6, 70


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="lstmlm")
def lstmlm() -> None:
    """Train a language model on your own text, see how good it is, and let it complete your words."""


for command in (
    demo_command,
    train_command,
    eval_command,
    compare_command,
    tune_command,
    ngram_command,
    arpa_command,
    complete_command,
    generate_command,
    score_command,
    pairs_command,
    regions_command,
    repl_command,
    info_command,
    recipes_command,
):
    lstmlm.add_command(command)


def main() -> None:
    """The `lstmlm` program."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a locale that cannot show a character is no reason to fail
    try:
        arguments = None if arguments is None else list(arguments)
        code = lstmlm.main(args=arguments, prog_name="lstmlm", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0  # of a check that failed
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        say(_misuse(error))
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # click makes the latter, with code 1, of a pipe that breaks inside a command
        _forget_stdout()
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        code, message = _explain(error)
        say(f"lstmlm: {message}")
        return code


def _misuse(error: click.ClickException) -> str:
    message = error.format_message()
    if message.startswith("Usage:"):  # a command without arguments asks for help
        return message
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"lstmlm: {message}\nTry '{context.command_path if context else 'lstmlm'} --help'."


def _explain(error: Exception) -> tuple[int, str]:
    if isinstance(error, LstmlmError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _MEMORY_SIGNS):
        return NO_MEMORY, "not enough memory; use a smaller --batch-size, --window, --hidden or --vocab-size"
    if isinstance(error, OSError):
        return IO_FAILED, f"{error.filename or 'input/output'}: {error.strerror or error}"
    return OUR_MISTAKE, f"{type(error).__name__}: {error}\nThis is a mistake in lstmlm; {DEBUG}=1 shows where."


def _forget_stdout() -> None:
    """Keep Python from complaining once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
