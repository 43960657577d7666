from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import pytest

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.evaluation.curves import POINTS, training_curves


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def rewrite(run: Path, content: list[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in content))


def test_they_are_those_of_the_run(run: Path) -> None:
    loaded = load_model(run)
    found = training_curves(loaded)
    assert found is not None
    validations = [event for event in events(run) if event["event"] == "validation"]
    assert [point["loss"] for point in found["curve"]] == [event["loss"] for event in validations]
    assert found["curve"][-1].keys() == {"seconds", "step", "tokens", "loss", "scored"}
    steps = [event for event in events(run) if event["event"] == "step"]
    assert [(point["step"], point["loss"]) for point in found["steps"]] == [
        (event["step"], pytest.approx(event["loss"], rel=1e-12)) for event in steps
    ]
    assert found["options"] == loaded.training["options"]
    assert found["sampled"] is False
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("count", [1, POINTS, POINTS + 1, 1033])
def test_many_steps_become_means_of_neighbours(count: int, run: Path) -> None:
    """Weighted by their tokens, of which every third event has twice as many: no loss is lost."""
    tokens, made = 0, []
    for step in range(1, count + 1):
        tokens += 100 if step % 3 else 200
        made.append({"event": "step", "step": step, "tokens": tokens, "seconds": step / 10, "loss": 9 - step / count})
    rewrite(run, made)
    found = training_curves(load_model(run))
    assert found is not None
    points = found["steps"]
    assert len(points) == min(count, POINTS)
    assert (points[-1]["step"], points[-1]["seconds"]) == (count, count / 10)
    at = {event["step"]: event["tokens"] for event in made}
    read = [at[point["step"]] for point in points]
    total = math.fsum(
        point["loss"] * (after - before) for point, before, after in zip(points, [0, *read], read, strict=False)
    )
    expected = math.fsum(event["loss"] * (100 if event["step"] % 3 else 200) for event in made)
    assert total == pytest.approx(expected, rel=1e-9)


def test_losses_of_a_sampled_softmax_are_called_so(run: Path) -> None:
    rewrite(run, [event | ({"sampled": True} if event["event"] == "step" else {}) for event in events(run)])
    found = training_curves(load_model(run))
    assert found is not None
    assert found["sampled"] is True


@pytest.mark.parametrize(
    "damage",
    [
        "",
        '{"event": "step", "step": 9, "tokens": 9, "seconds": 9, "loss": NaN}',
        '{"event": "step", "ste',
        "{}",
        "[]",
        "17",
        '{"event": "validation"}',
        '{"event": "step"}',
    ],
)
def test_a_damaged_file_gives_none(damage: str, run: Path) -> None:
    file = run / "metrics.jsonl"
    if damage:
        file.write_text(file.read_text() + damage)
    else:
        file.write_bytes(b"\xff\xfe")
    assert training_curves(load_model(run)) is None


def test_without_a_run_there_are_none(run: Path, bpe_model: LoadedModel) -> None:
    assert training_curves(bpe_model) is None
    assert training_curves(replace(bpe_model, path=run / "model")) is None  # a model that was copied to where a run is
    assert training_curves(building.ngram("word")) is None
    loaded = load_model(run)
    (run / "metrics.jsonl").unlink()
    assert training_curves(loaded) is None
