"""What `--resume` must leave alone, and what must be the same as before."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import pytest
import torch
from test_resume import SHORT, finish, messages, outcome, stop_after

from lstmlm.checkpoint import load_model
from lstmlm.cli.main import run as run_command
from lstmlm.config import RuntimeConfig
from lstmlm.errors import ArtefactError, StoppedError, UsageError
from lstmlm.runtime import StopRequest
from lstmlm.training import RunOptions, train
from lstmlm.training.events import Prepared


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    """Of every file: its content (or where it points), and when it was written."""
    return {
        str(path): (
            str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest(),
            path.lstat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def options(source: Path) -> RunOptions:
    return building.options(source, **SHORT)


@pytest.fixture
def half_done(options: RunOptions, tmp_path: Path) -> Path:
    stop_after(tmp_path / "half", options, 7)
    return tmp_path / "half"


@pytest.mark.parametrize(
    "names",
    [("notes.txt", ".tmp-mine"), (".tmp-mine",), (".tmp-mine", "tokens"), ("model.safetensors", "config.json"), (".git",)],
)
def test_a_directory_of_somebody_else_is_refused_and_untouched(
    options: RunOptions, tmp_path: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("mine\n")
    before = everything(folder)
    with pytest.raises(UsageError, match="is not a run: it holds") as caught:
        finish(folder, options)
    assert caught.value.exit_code == 2
    assert everything(folder) == before
    assert run_command(["train", options.sources[0], "-o", str(folder), "--resume", "--steps", "1"]) == 2
    assert "is not a run: it holds" in capsys.readouterr().err
    assert everything(folder) == before


def test_an_empty_directory_may_become_a_run(options: RunOptions, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert "starting from the beginning" in messages(finish(tmp_path / "run", options))


def test_a_finished_run_is_left_as_it_is(options: RunOptions, tmp_path: Path) -> None:
    run = tmp_path / "run"
    list(train(run, options))
    (run / "lock").write_text("whoever trained this\n")
    before = everything(tmp_path)
    assert "nothing left to do" in messages(finish(run, options))
    assert everything(tmp_path) == before
    assert run_command(["train", "-o", str(run), "--resume"]) == 0
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [("training", "seed", 5, "seed"), ("model", "hidden_size", 16, "hidden size"), ("training", "window", 9, "window")],
)
def test_an_altered_run_file_is_noticed_by_its_checkpoints(
    half_done: Path, section: str, name: str, value: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    about: dict[str, Any] = json.loads((half_done / "run.json").read_text())
    about["options"][section][name] = value
    (half_done / "run.json").write_text(json.dumps(about))
    kept = sorted(half_done.glob("step-*"))
    with pytest.raises(ArtefactError, match=rf"run\.json was altered: .*{said} ") as caught:
        finish(half_done, RunOptions.read(half_done))
    assert caught.value.exit_code == 4
    assert run_command(["train", "-o", str(half_done), "--resume"]) == 4
    assert said in capsys.readouterr().err
    assert sorted(half_done.glob("step-*")) == kept


def test_another_precision_is_refused(half_done: Path, options: RunOptions) -> None:
    before = {path: value for path, value in everything(half_done).items() if not path.endswith("lock")}
    other = replace(options, runtime=RuntimeConfig(device="cpu", precision="bf16", threads=1))
    with pytest.raises(UsageError, match="precision fp32, not bf16"):
        finish(half_done, other)
    assert {path: value for path, value in everything(half_done).items() if not path.endswith("lock")} == before


def test_the_precision_is_the_checkpoints(
    half_done: Path, options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a machine that would choose another for a new run."""
    list(train(tmp_path / "whole", options))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    events = finish(half_done, replace(options, runtime=RuntimeConfig(device="cpu", precision="auto", threads=1)))
    assert next(event for event in events if isinstance(event, Prepared)).runtime.precision == "fp32"
    assert load_model(half_done).training["precision"] == "fp32"
    assert outcome(half_done) == outcome(tmp_path / "whole")


def test_a_stop_before_the_first_step_saves_nothing(options: RunOptions, tmp_path: Path) -> None:
    run, stop = tmp_path / "run", StopRequest()
    events = train(run, options, stop=stop)
    while not isinstance(next(events), Prepared):
        pass
    stop.signal_number = signal.SIGINT
    with pytest.raises(StoppedError) as caught:
        list(events)
    assert caught.value.exit_code == 130
    assert ", saved" not in str(caught.value)
    assert not list(run.glob("*step-*"))
    assert not (run / "best").is_symlink()
    assert "starting from the beginning" in messages(finish(run, options))
    list(train(tmp_path / "whole", options))
    assert outcome(run) == outcome(tmp_path / "whole")


@pytest.mark.parametrize("dangling", [True, False])
def test_without_a_best_the_newest_step_stands_for_the_run(half_done: Path, dangling: bool) -> None:
    (half_done / "best").unlink()
    if dangling:
        (half_done / "best").symlink_to("step-000000099")
    assert load_model(half_done).path == max(half_done.glob("step-*"))
