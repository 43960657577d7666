"""A device that works on its own is asked only now and then what came of the updates: the run is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import building
import pytest
from test_learner import elsewhere
from test_resume import finish, outcome, stop_after
from test_training import Poison, of, weights_on_disk

from lstmlm.runtime import Runtime
from lstmlm.training import learner, train
from lstmlm.training.events import Ended, RolledBack, Stepped
from lstmlm.training.optimization import guarded_step

WAYS: list[dict[str, Any]] = [{}, {"negatives": 8, "averaging": 0.5}, {"optimizer": "sgd"}, {"optimizer": "rmsprop"}]
LENGTH: dict[str, Any] = {"steps": 50, "validate_every": 15, "checkpoint_every": "7", "batch_size": 2}
"""Reports, validations and checkpoints fall on different steps."""


def work_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Runtime, "asynchronous", property(lambda self: True))
    patch.setattr(learner, "guarded_step", lambda optimizer, wanted: guarded_step(optimizer, elsewhere(wanted)))


@pytest.mark.parametrize("bad", [set(), {3, 4, 5, 17, 31}], ids=["good", "bad"])
@pytest.mark.parametrize("training", WAYS, ids=str)
def test_the_run_is_the_same(source: Path, tmp_path: Path, training: dict[str, Any], bad: set[int]) -> None:
    """Also where some updates are left out."""
    options = building.options(source, **LENGTH, **training)
    for name in ("alone", "waiting"):
        with pytest.MonkeyPatch.context() as patch:
            if name == "alone":
                work_alone(patch)
            Poison(patch, bad)
            list(train(tmp_path / name, options))
    assert outcome(tmp_path / "alone") == outcome(tmp_path / "waiting")


@pytest.mark.parametrize("training", WAYS, ids=str)
def test_too_many_bad_updates_are_noticed_later(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    work_alone(monkeypatch)
    Poison(monkeypatch, set(range(16, 21)))
    events = list(building.trained(tmp_path / "run", source, **LENGTH, **training))
    (back,) = of(RolledBack, events)
    assert back.step == 15
    assert "at step 20" in back.symptom
    (ended,) = of(Ended, events)
    assert ended.step == 50
    assert all(bool(tensor.isfinite().all()) for tensor in weights_on_disk(tmp_path / "run"))
    assert all(event.loss < 10 for event in of(Stepped, events))


def test_bad_updates_before_a_stop_are_not_forgotten(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody had noticed them; the continued run goes back at once."""
    work_alone(monkeypatch)
    options, run = building.options(source, **LENGTH), tmp_path / "run"
    Poison(monkeypatch, set(range(12, 16)))
    stop_after(run, options, 15)
    (back, ended) = [event for event in finish(run, options) if isinstance(event, RolledBack | Ended)]
    assert isinstance(back, RolledBack)
    assert back.learning_rate_scale == 0.5
    assert isinstance(ended, Ended)
    assert ended.step == 50
