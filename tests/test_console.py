"""Poor terminals, pipes that close, locales that cannot: plain output and no crash."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli import TINY, command

from lstmlm.cli.main import run as run_command
from lstmlm.report.formatting import visible

pytestmark = pytest.mark.usefixtures("clean_shell")


@pytest.fixture
def model(trained_run: Path) -> str:
    return str(trained_run)


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8", tty: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Terminal, Terminal]]:
    def make(**options: Any) -> tuple[Terminal, Terminal]:
        out, err = Terminal(**options), Terminal(**options)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return make


def commands(model: str, source: Path, run: str) -> list[list[str]]:
    return [
        ["train", str(source), "-o", run, *TINY, "--steps", "20"],
        ["eval", model],
        ["compare", model, model, str(source)],
        ["info", model],
        ["complete", model, "the "],
        ["score", model, str(source)],
        ["generate", model, "“the ", "--max-tokens", "3"],
    ]


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"NO_COLOR": "1", "TERM": "xterm-256color"}, {}),
        ({"TERM": "dumb"}, {}),
        ({"TERM": "xterm", "COLUMNS": "20"}, {}),
        ({"COLUMNS": "20"}, {"tty": False}),
        ({}, {"tty": False, "encoding": "latin-1"}),
        ({"TERM": "xterm"}, {"encoding": "ascii"}),
    ],
    ids=["no-color", "dumb", "narrow", "narrow-pipe", "latin-1", "ascii"],
)
def test_no_terminal_is_too_poor(
    model: str,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    faces: Callable[..., tuple[Terminal, Terminal]],
    variables: dict[str, str],
    options: dict[str, Any],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for arguments in commands(model, source, "run"):
        out, err = faces(**options)
        assert run_command(arguments) == 0, err.text
        assert out.text.strip()
        if variables.get("TERM") == "dumb" or options.get("tty") is False:
            assert "\x1b" not in out.text + err.text
        if "NO_COLOR" in variables:
            assert not re.search(r"\x1b\[3\d", out.text)  # no colour; bold and italic are allowed


def test_what_a_model_writes_cannot_act_on_a_terminal(
    tmp_path: Path, faces: Callable[..., tuple[Terminal, Terminal]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e\u200b\x9b"
    (tmp_path / "text.txt").write_text(hostile * 40 + "\n" + (hostile + "\n") * 40)
    assert run_command(["train", "text.txt", "-o", "run", *TINY, "--steps", "5"]) == 0
    for arguments in (["generate", "run", hostile, "--seed", "1"], ["complete", "run", hostile], ["info", "run"]):
        out, err = faces()
        assert run_command(arguments) == 0
        assert not {"\x07", "\u202e", "\u200b", "\x9b"} & set(out.text + err.text)
        assert "\x1b]" not in out.text + err.text
        assert "\x1b[2J" not in out.text + err.text


def test_data_into_a_pipe_is_unchanged(model: str, faces: Callable[..., tuple[Terminal, Terminal]]) -> None:
    out, _ = faces(tty=False)
    assert run_command(["generate", model, "\x1b[31m", "--max-tokens", "0"]) == 0
    assert out.text == "\x1b[31m\n"


def test_visible_writes_control_characters_as_escapes() -> None:
    assert visible("a\tb\nc é 漢 🎉") == "a\tb\nc é 漢 🎉"
    assert visible("\x1b[31m\x00\r\x7f\x9b\u202e\u2028\ufeff") == (r"\x1b[31m\x00\r\x7f\x9b\u202e\u2028\ufeff")


def test_an_error_about_a_hostile_name_is_harmless(faces: Callable[..., tuple[Terminal, Terminal]]) -> None:
    _, err = faces()
    assert run_command(["eval", "\x1b[31mred"]) == 2
    assert err.text == "lstmlm: \\x1b[31mred does not exist\n"


def test_head_is_quiet(model: str) -> None:
    process = command("info", model)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_head_is_quiet_in_the_middle_of_a_text(model: str) -> None:
    process = command("generate", model, "the ", "--max-tokens", "20000")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_closed_streams_are_no_error(model: str) -> None:
    script = f'exec {sys.executable} -m lstmlm complete "$0" "the " >&- <&-'
    process = subprocess.run(["sh", "-c", script, model], check=False, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", [["complete"], ["score"], ["repl"], ["generate"], ["info"], ["eval"]])
@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_any_stream_may_be_closed(model: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str], closed: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the ")))
    monkeypatch.setattr(sys, closed, None)
    assert run_command([*arguments, model]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_a_full_disk_behind_stdout_is_exit_5(model: str) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "lstmlm", "complete", model, "the "],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (process.returncode, process.stderr) == (5, "lstmlm: input/output: No space left on device\n")
