"""Commands as co-processes of another program: a line in, its answer out before the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lstmlm
from lstmlm.checkpoint import LoadedModel

pytestmark = pytest.mark.usefixtures("clean_shell")


@contextmanager
def co_process(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The real program, with pipes at all three ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "lstmlm", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(lstmlm.__file__).parents[1])},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def answer(process: subprocess.Popen[bytes]) -> list[list[str]]:
    """The rows of the next answer, which an empty line ends."""
    assert process.stdout is not None
    rows = []
    while row := process.stdout.readline().decode().removesuffix("\n"):
        rows.append(row.split("\t"))
    return rows


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Exit code, and what is left on stdout and stderr, after the end of input."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_complete_answers_line_by_line(bpe_model: LoadedModel) -> None:
    with co_process("complete", bpe_model.path, "-k", 3) as process:
        for typed in ("the c", "the ", "caf\u00e9 s"):
            tell(process, f"{typed}\n".encode())
            rows = answer(process)
            assert len(rows) == 3
            assert {int(replace) for _, _, replace, _ in rows} == {len(typed.split(" ")[-1])}
        assert end(process) == (0, b"", b"")


def test_score_answers_line_by_line(bpe_model: LoadedModel) -> None:
    with co_process("score", bpe_model.path) as process:
        given = "the cat sat", "", "  caf\u00e9\tat", "the cat sat"
        answers = []
        for line in given:
            tell(process, f"{line}\r\n".encode())
            answers.append(answer(process))
            assert [row[0] for row in answers[-1]] == line.split()
        assert answers[0] == answers[3]  # nothing is remembered
        tell(process, b"the dog")  # without a line end
        code, out, err = end(process)
        assert (code, out.decode().count("\n"), err) == (0, 3, b"")


def test_a_line_that_is_not_utf8_is_named(bpe_model: LoadedModel) -> None:
    with co_process("score", bpe_model.path, "--format", "jsonl") as process:
        assert process.stdout is not None
        tell(process, b"the cat \n")
        assert json.loads(process.stdout.readline())["text"] == "the cat "
        tell(process, b"ca\xff\n")
        assert end(process) == (4, b"", b"lstmlm: line 2 of stdin is not UTF-8: byte 0xff at 2\n")


@pytest.mark.parametrize("command", ["complete", "score"])
def test_a_reader_that_went_away_ends_it_quietly(bpe_model: LoadedModel, command: str) -> None:
    """As `| head -1` does."""
    with co_process(command, bpe_model.path) as process:
        assert process.stdout is not None
        tell(process, b"the cat\n")
        assert process.stdout.readline()
        process.stdout.close()
        tell(process, b"the dog\n")
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_lines_are_those_of_the_text_policy(bpe_model: LoadedModel) -> None:
    """No byte order mark, and a lone carriage return ends a line."""
    ask = [sys.executable, "-m", "lstmlm", "complete", str(bpe_model.path), "--format", "jsonl"]
    found = subprocess.run(ask, input=b"\xef\xbb\xbfthe \na cat\rthe\r\n", capture_output=True, check=True, timeout=60)
    assert [json.loads(line)["text"] for line in found.stdout.splitlines()] == ["the ", "a cat", "the"]
