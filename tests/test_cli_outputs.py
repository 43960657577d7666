"""Where commands write: a file the user names, through links and into pipes, and lines for other programs."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from lstmlm import evaluation
from lstmlm.checkpoint import LoadedModel
from lstmlm.cli.main import run as run_command

Out = pytest.CaptureFixture[str]


@pytest.fixture
def scoring(bpe_model: LoadedModel, source: Path) -> list[str]:
    return ["eval", str(bpe_model.path), str(source), "--json"]


@pytest.mark.parametrize("place", ["missing/out.json", "text.txt/out.json", ".", "missing/../out.json"])
def test_a_file_that_cannot_be_is_said_before_scoring(
    scoring: list[str], tmp_path: Path, place: str, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("scored"))
    before = sorted(tmp_path.rglob("*"))
    assert run_command([*scoring, f"{tmp_path}/{place}"]) == 2
    assert "expected a file name in an existing folder" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_result_goes_through_a_link(scoring: list[str], tmp_path: Path, exists: bool) -> None:
    (tmp_path / "results").mkdir()
    target, link = tmp_path / "results" / "real.json", tmp_path / "link.json"
    if exists:
        target.write_text("old")
    link.symlink_to("results/real.json")
    assert run_command([*scoring, str(link)]) == 0
    assert os.readlink(link) == "results/real.json"
    assert json.loads(target.read_text())["schema"] == "lstmlm.eval/1"
    assert [path.name for path in target.parent.iterdir()] == ["real.json"]


@pytest.mark.parametrize("output", ["--markdown", "--html"])
@pytest.mark.parametrize("command", ["eval", "compare"])
def test_a_dash_prints_a_report_and_nothing_else(
    command: str, output: str, bpe_model: LoadedModel, tmp_path: Path, capsys: Out, clean_shell: None
) -> None:
    (tmp_path / "text.txt").write_text("the cat sat .\n")
    models = [str(bpe_model.path)] * (2 if command == "compare" else 1)
    assert run_command([command, *models, "text.txt", output, "-"]) == 0
    printed = capsys.readouterr().out
    assert not Path("-").exists()
    assert run_command([command, *models, "text.txt", output, "report"]) == 0
    written, shown = Path("report").read_text().splitlines(), printed.splitlines()
    changes = [pair for pair in zip(written, shown, strict=True) if pair[0] != pair[1]]
    assert len(changes) < 10  # seconds, and the command itself
    assert capsys.readouterr().out  # of which a terminal has its own report
    assert run_command([command, *models, "text.txt", output, "-", "--json", "-"]) == 2
    assert "only one output can be printed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "MODEL", "text.txt", "--json", "./text.txt"],
        ["eval", "MODEL", "folder", "--markdown", "folder/text.txt"],
        ["eval", "MODEL", "text.txt", "--baseline", "before.json", "--json", "before.json"],
        ["compare", "MODEL", "MODEL", "text.txt", "--html", "text.txt"],
        ["regions", "MODEL", "text.txt", "--json", "text.txt"],
        ["pairs", "MODEL", "text.txt", "--details", "text.txt"],
    ],
)
def test_what_is_read_is_not_written_over(
    arguments: list[str], bpe_model: LoadedModel, tmp_path: Path, capsys: Out, clean_shell: None
) -> None:
    Path("folder").mkdir()
    for name in ("text.txt", "folder/text.txt", "before.json"):
        Path(name).write_text("{}\n")
    assert run_command([str(bpe_model.path) if part == "MODEL" else part for part in arguments]) == 2
    assert "is read, and would be written over" in capsys.readouterr().err
    assert {path.read_text() for path in tmp_path.rglob("*.*")} == {"{}\n"}


def test_info_says_each_option_of_a_run_once_and_cuts_no_name(
    trained_run: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command(["info", str(trained_run)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("checkpoint_every") == 1
    assert "…" not in shown
    assert "model.training.text_sha256.train" in shown


def test_outputs_have_different_names(scoring: list[str], capsys: Out, clean_shell: None) -> None:
    assert run_command([*scoring, "report", "--html", "report"]) == 2
    assert "two outputs have the same name" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["eval", "compare"])
def test_a_name_that_is_not_utf_8_is_no_obstacle(
    command: str, bpe_model: LoadedModel, tmp_path: Path, capsys: Out, clean_shell: None
) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    Path(name).write_text("the cat sat .\n")
    models = [str(bpe_model.path)] * (2 if command == "compare" else 1)
    outputs = ["--json", "report.json", "--markdown", "report.md", "--html", "report.html"]
    assert run_command([command, *models, name, *outputs]) == 0
    assert json.loads(Path("report.json").read_text())["text"]["paths"] == [name]
    for path in ("report.md", "report.html"):
        assert "\\udce9.txt" in Path(path).read_text()


def test_a_result_goes_into_a_pipe(scoring: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run_command([*scoring, str(pipe)]) == 0
    reader.join(timeout=20)
    assert json.loads(read[0])["schema"] == "lstmlm.eval/1"
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_exit_5_and_stays_a_device(scoring: list[str], tmp_path: Path, capsys: Out) -> None:
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    assert run_command([*scoring, str(link)]) == 5
    assert "No space left" in capsys.readouterr().err
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert os.readlink(link) == "/dev/full"


def test_each_result_from_stdin_ends_with_an_empty_line(
    bpe_model: LoadedModel, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["the c", "x" * 3000, "", "the "]  # nothing is known about the second
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(("\n".join(lines) + "\n").encode()), encoding="utf-8"))
    assert run_command(["complete", str(bpe_model.path), "-k", "2"]) == 0
    results = capsys.readouterr().out.split("\n")
    assert results.pop() == ""  # after the last line end
    blocks: list[list[str]] = [[]]
    for line in results:
        blocks[-1].append(line) if line else blocks.append([])
    assert blocks.pop() == []
    assert [len(block) for block in blocks] == [2, 0, 2, 2]
    for line, block in zip(lines, blocks, strict=True):
        assert run_command(["complete", str(bpe_model.path), line, "-k", "2"]) == 0
        alone = capsys.readouterr().out
        assert [row.split("\t")[0] for row in alone.splitlines()] == [row.split("\t")[0] for row in block]
        assert not alone.endswith("\n\n")


def test_info_takes_no_option_that_it_would_ignore(
    trained_run: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["info", str(source), "--vocab-size", "300"]) == 2
    assert "--tokenizer" in capsys.readouterr().err
    assert run_command(["info", str(trained_run), "--tokenizer", "char"]) == 2
    assert "already" in capsys.readouterr().err
