"""However a run is stopped or killed: continued, it ends bit-equal to one that was not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import pytest
from test_storage import FaultyOs, damages

from lstmlm import storage
from lstmlm.checkpoint import load_model
from lstmlm.errors import ArtefactError, BusyError, LstmlmError, StoppedError, UsageError
from lstmlm.runtime import StopRequest
from lstmlm.storage import lock
from lstmlm.training import RunOptions, train
from lstmlm.training.events import Ended, Event, Prepared, Stepped, Tokenizing, Validated, Warned

CLOCK = {"seconds", "fit_seconds", "tokens_per_second", "validated_seconds", "validation_cost", "metrics_bytes"}
SHORT: dict[str, Any] = {"steps": 12, "validate_every": 4, "checkpoint_every": "3", "batch_size": 2}


class Killed(BaseException):
    """Like SIGKILL, no `except Exception` sees it."""


def outcome(run: Path) -> dict[str, Any]:
    """All that a run leaves which does not depend on the clock."""
    final = max(run.glob("step-*"))
    kept = {path.name for path in run.iterdir()} - {"lock"}
    assert not [name for name in kept if name.startswith(".tmp-")]
    return {
        "kept": kept,
        "best": (run / "best").readlink(),
        "weights": (final / "model.safetensors").read_bytes(),
        "state": (final / "training.safetensors").read_bytes(),
        "standing": timeless(json.loads((final / "training.json").read_text())),
        "metrics": [timeless(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()],
    }


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in CLOCK}


def finish(run: Path, options: RunOptions) -> list[Event]:
    return list(train(run, options, resume=True))


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(folder.rglob("*"))}


def messages(events: list[Event]) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Warned))


@pytest.fixture
def options(source: Path) -> RunOptions:
    return building.options(source, **SHORT)


@pytest.fixture
def whole(options: RunOptions, tmp_path: Path) -> dict[str, Any]:
    """What an uninterrupted run leaves."""
    list(train(tmp_path / "whole", options))
    return outcome(tmp_path / "whole")


def stop_after(run: Path, options: RunOptions, step: int) -> None:
    """Run until SIGTERM arrives during `step`; it is saved."""
    stop = StopRequest()

    def advance() -> None:
        for event in train(run, options, stop=stop, resume=run.exists()):
            if getattr(event, "step", -1) >= step:
                stop.signal_number = signal.SIGTERM

    with pytest.raises(StoppedError) as caught:
        advance()
    assert caught.value.exit_code == 143


@pytest.mark.parametrize(
    ("shape", "training"),
    [
        ({}, {}),
        ({"cell": "gru", "num_layers": 2, "dropout_hidden": 0.2}, {"optimizer": "sgd"}),
        ({"cell": "rnn", "residual": True}, {"optimizer": "rmsprop", "schedule": "cosine"}),
        ({"input": "one-hot", "tied": False}, {"optimizer": "adam", "window": 500}),
        ({"traces": (3, 30)}, {"negatives": 8}),
    ],
    ids=["lstm-adamw", "gru-sgd", "rnn-rmsprop", "onehot-adam-long", "traces-sampled"],
)
def test_stopped_twice_is_bit_equal(source: Path, tmp_path: Path, shape: dict[str, Any], training: dict[str, Any]) -> None:
    options = building.options(source, **SHORT, learning_rate=0.02, **training)
    options = replace(options, model=replace(options.model, **shape))
    list(train(tmp_path / "whole", options))
    run = tmp_path / "run"
    stop_after(run, options, 3)
    stop_after(run, options, 8)
    events = finish(run, options)
    assert next(event for event in events if isinstance(event, Prepared)).resumed_at in (8, 9)
    assert outcome(run) == outcome(tmp_path / "whole")


def test_dropped_after_any_event_is_bit_equal(options: RunOptions, whole: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    count = len(list(train(run, options)))
    assert outcome(run) == whole
    for length in range(1, count):
        shutil.rmtree(run)
        events = train(run, options)
        for _ in range(length):
            next(events)
        events.close()  # type: ignore[attr-defined]
        finish(run, options)
        assert outcome(run) == whole, length


def test_killed_at_any_disk_operation_is_bit_equal(
    options: RunOptions, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed_at(number: int, run: Path) -> int:
        proxy = FaultyOs(number, Killed())
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(storage, "os", proxy)
            list(train(run, options, resume=run.exists()))
        return proxy.calls

    count = killed_at(0, tmp_path / "counted")
    assert count > 100
    for number in [*range(1, count - 12, 9), *range(count - 12, count + 1)]:
        run = tmp_path / f"run-{number}"
        killed_at(number, run)
        killed_at(count // 3, run)  # and once more while continuing
        finish(run, options)
        assert outcome(run) == whole, number
        shutil.rmtree(run)


DRIVER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import building
from pathlib import Path
from test_storage import FaultyOs
from lstmlm import storage
from lstmlm.training import train

class Deadly(FaultyOs):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "calls" and value == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)

storage.os = Deadly(0, OSError())
for event in train(Path(sys.argv[2]), building.options(sys.argv[3], **eval(sys.argv[5]))):
    pass
"""


@pytest.mark.parametrize("number", [37, 101])
def test_sigkill_is_bit_equal(options: RunOptions, whole: dict[str, Any], source: Path, tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    arguments = [str(Path(__file__).parent), str(run), str(source), str(number), repr(SHORT)]
    killed = subprocess.run([sys.executable, "-c", DRIVER, *arguments], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finish(run, options)
    assert outcome(run) == whole


def test_early_stopping_is_bit_equal(source: Path, tmp_path: Path) -> None:
    options = building.options(
        source, steps=400, validate_every=2, patience=3, learning_rate=0.5, schedule="constant", checkpoint_every="5"
    )
    (ended,) = [event for event in train(tmp_path / "whole", options) if isinstance(event, Ended)]
    assert ended.early
    stop_after(tmp_path / "run", options, ended.step - 3)
    finish(tmp_path / "run", options)
    found, whole = outcome(tmp_path / "run"), outcome(tmp_path / "whole")
    assert "best" in found.pop("kept") & whole.pop("kept")  # being stopped made one checkpoint more
    assert found == whole


def test_time_budgets_count_the_seconds_already_used(source: Path, tmp_path: Path) -> None:
    options = building.options(source, budget=30.0, checkpoint_every="1", validate_every=1000)
    run = tmp_path / "run"
    stop_after(run, options, 20)
    path = max(run.glob("step-*"))
    standing = json.loads((path / "training.json").read_text())
    assert 0 < standing["seconds"] < 30
    files = {entry.name: entry.read_bytes() for entry in path.iterdir() if entry.name != "MANIFEST.json"}
    files["training.json"] = storage.to_json(standing | {"seconds": 29.9999})
    shutil.rmtree(path)
    storage.publish(path, files)
    (ended,) = [event for event in finish(run, options) if isinstance(event, Ended)]
    assert ended.seconds >= 29.9999
    assert ended.step <= standing["step"] + 5


def test_a_finished_run_is_left_as_it_is(options: RunOptions, tmp_path: Path) -> None:
    run = tmp_path / "run"
    list(train(run, options))
    before = listing(run)
    events = finish(run, options)
    assert "finished" in messages(events)
    assert not [event for event in events if not isinstance(event, Warned)]
    assert {name: seen for name, seen in listing(run).items() if not name.endswith("/lock")} == {
        name: seen for name, seen in before.items() if not name.endswith("/lock")
    }


def test_an_existing_run_is_not_touched_without_resume(options: RunOptions, tmp_path: Path) -> None:
    run = tmp_path / "run"
    list(train(run, options))
    before = listing(tmp_path)
    with pytest.raises(UsageError, match="--resume") as caught:
        list(train(run, options))
    assert caught.value.exit_code == 2
    assert listing(tmp_path) == before


def test_without_a_checkpoint_it_starts_over_and_says_so(options: RunOptions, whole: dict[str, Any], tmp_path: Path) -> None:
    for stage in (Tokenizing, Prepared):
        run = tmp_path / f"run-{stage.__name__}"
        events = train(run, options)
        while not isinstance(next(events), stage):
            pass
        events.close()  # type: ignore[attr-defined]
        again = finish(run, options)
        assert "starting from the beginning" in messages(again)
        assert outcome(run) == whole


def test_stopped_while_reading_leaves_the_name_free(options: RunOptions, tmp_path: Path) -> None:
    stop = StopRequest()
    stop.signal_number = signal.SIGINT
    with pytest.raises(StoppedError):
        list(train(tmp_path / "run", options, stop=stop))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda options: replace(options, tokenizer=replace(options.tokenizer, kind="byte")), "kind char, not byte"),
        (lambda options: replace(options, training=replace(options.training, batch_size=3)), "batch size 2, not 3"),
        (lambda options: replace(options, training=replace(options.training, seed=5)), "seed 1, not 5"),
        (lambda options: replace(options, training=replace(options.training, steps=13)), "steps 12, not steps 13"),
        (lambda options: replace(options, training=replace(options.training, negatives=9)), "negatives 0, not 9"),
        (lambda options: replace(options, training=replace(options.training, averaging=0.5)), "averaging 0.0, not 0.5"),
        (
            lambda options: replace(options, model=replace(options.model, softmax="adaptive", cutoffs=(4,))),
            "softmax full, not adaptive",
        ),
        (lambda options: replace(options, model=replace(options.model, hidden_size=13)), "hidden size 12, not 13"),
        (lambda options: replace(options, sources=("other.txt",)), "text.txt, not other.txt"),
        (lambda options: replace(options, corpus=replace(options.corpus, split=(80, 10, 10))), "split"),
    ],
    ids=["tokenizer", "batch", "seed", "steps", "negatives", "averaging", "softmax", "model", "data", "split"],
)
def test_other_options_are_refused_by_name(
    options: RunOptions, tmp_path: Path, change: Callable[[RunOptions], RunOptions], named: str
) -> None:
    run = tmp_path / "run"
    stop_after(run, options, 4)
    before = listing(run)
    with pytest.raises(UsageError) as caught:
        finish(run, change(options))
    assert named in str(caught.value)
    assert set(listing(run)) == set(before)


def test_a_changed_text_is_refused(options: RunOptions, source: Path, tmp_path: Path) -> None:
    stop_after(tmp_path / "run", options, 4)
    source.write_text(source.read_text().replace("hat", "cap"))
    with pytest.raises(UsageError, match="text of text has changed since this run was started"):
        finish(tmp_path / "run", options)


def test_a_second_run_in_the_directory_is_busy(options: RunOptions, tmp_path: Path) -> None:
    run = tmp_path / "run"
    events = train(run, options)
    next(events)
    for resume in (False, True):
        with pytest.raises(BusyError, match=f"process {os.getpid()}") as caught:
            next(train(run, options, resume=resume))
        assert caught.value.exit_code == 3
    events.close()  # type: ignore[attr-defined]
    with lock(run):
        pass


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def half_done(options: RunOptions, tmp_path: Path) -> Path:
    """A run stopped with checkpoints of several steps."""
    run = tmp_path / "half"
    stop_after(run, options, 7)
    assert len(list(run.glob("step-*"))) >= 2
    return run


@pytest.mark.parametrize(
    "name",
    ["MANIFEST.json", "config.json", "model.safetensors", "tokenizer.json", "training.json", "training.safetensors"],
)
def test_a_damaged_checkpoint_is_set_aside_for_an_older_one(
    half_done: Path, options: RunOptions, whole: dict[str, Any], tmp_path: Path, name: str
) -> None:
    newest, second = sorted(half_done.glob("step-*"), reverse=True)[:2]
    for number, damage in enumerate(damages(newest / name)):
        if number % 5 and damage != "removed":  # all of them are tried on the manifest itself, elsewhere
            continue
        run = tmp_path / f"run-{number}"
        shutil.copytree(half_done, run, symlinks=True)
        events = finish(run, options)
        assert f"corrupt-{newest.name}; continuing from {run / second.name}" in messages(events), damage
        found = outcome(run)
        assert f"corrupt-{newest.name}" in found.pop("kept"), damage
        assert found == {part: value for part, value in whole.items() if part != "kept"}, damage
        shutil.rmtree(run)


def test_if_none_is_whole_it_never_starts_over(half_done: Path, options: RunOptions) -> None:
    names = sorted(path.name for path in half_done.glob("step-*"))
    for name in names:
        (half_done / name / "training.safetensors").write_bytes(b"")
    for _ in range(2):  # also when asked again
        with pytest.raises(ArtefactError, match="all are damaged") as caught:
            finish(half_done, options)
        assert caught.value.exit_code == 4
        assert all(f"corrupt-{name}" in str(caught.value) for name in names)
    assert sorted(path.name for path in half_done.glob("corrupt-*")) == [f"corrupt-{name}" for name in names]


def test_the_best_model_may_be_the_damaged_one(options: RunOptions, half_done: Path) -> None:
    best = half_done / (half_done / "best").readlink()
    (best / "model.safetensors").unlink()
    finish(half_done, options)
    loaded = load_model(half_done)
    validations = [json.loads(line) for line in (half_done / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in validations if line["event"] == "validation"}
    assert losses[loaded.training["step"]] == min(losses.values())


def test_a_shortened_metrics_file_is_noticed(half_done: Path, options: RunOptions) -> None:
    (half_done / "metrics.jsonl").write_text("")
    with pytest.raises(ArtefactError, match=r"metrics\.jsonl"):
        finish(half_done, options)


def test_a_damaged_run_file_is_refused(half_done: Path, options: RunOptions) -> None:
    whole = (half_done / "run.json").read_text()
    for content in ("", "{}", "[]", "{", whole[: len(whole) // 2], '{"format": "lstmlm-run", "options": {"sources": 1}}'):
        (half_done / "run.json").write_text(content)
        with pytest.raises(LstmlmError) as caught:
            finish(half_done, options)
        assert caught.value.exit_code == 4


def test_leftovers_of_a_killed_save_are_cleaned(half_done: Path, options: RunOptions, whole: dict[str, Any]) -> None:
    (half_done / ".tmp-step-000000009-ab").mkdir()
    (half_done / ".tmp-step-000000009-ab" / "model.safetensors").write_bytes(b"half")
    (half_done / "tokens" / ".tmp-train.json-cd").write_bytes(b"half")
    finish(half_done, options)
    assert outcome(half_done) == whole
    assert not list(half_done.rglob(".tmp-*"))


def test_metrics_do_not_repeat_what_a_killed_run_wrote_after_its_checkpoint(
    options: RunOptions, whole: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    events = train(run, replace(options, training=replace(options.training, checkpoint_every="5")))
    while not (isinstance(event := next(events), Validated | Stepped) and event.step >= 8):
        pass
    events.close()  # type: ignore[attr-defined]
    finish(run, options)
    assert [line["event"] for line in outcome(run)["metrics"]].count("validation") == 3
    assert outcome(run)["weights"] == whole["weights"]
