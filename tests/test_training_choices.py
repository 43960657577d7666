"""A whole run with the options of its training: sampled, adaptive, regularized, averaged, in parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import pytest
from test_resume import SHORT, finish, outcome, stop_after

from lstmlm.checkpoint import load_model
from lstmlm.config import DROPOUTS
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.training import RunOptions, train
from lstmlm.training.events import Ended, Prepared, Stepped, Validated

DROPPING: dict[str, Any] = {"num_layers": 2} | dict.fromkeys(DROPOUTS, 0.2)
REGULARIZED: dict[str, Any] = {
    "accumulate": 2,
    "activation_penalty": 1.0,
    "temporal_penalty": 1.0,
    "averaging": 0.9,  # of 12 steps: first an average at every step, later at every eighth
    "vary_window": True,
    "schedule": "one-cycle",
}


@pytest.mark.parametrize(
    ("shape", "training"),
    [
        (DROPPING, REGULARIZED | {"negatives": 8, "embedding_init": "spectral"}),
        (DROPPING | {"tied": False}, REGULARIZED | {"negatives": 8, "optimizer": "sgd"}),
        (DROPPING | {"softmax": "adaptive", "cutoffs": (5, 9)}, REGULARIZED),
        ({"input": "one-hot", "tied": False}, {"averaging": 0.3, "vary_window": True}),
    ],
    ids=["sampled", "sampled-untied", "adaptive", "averaged"],
)
def test_stopped_twice_is_bit_equal(source: Path, tmp_path: Path, shape: dict[str, Any], training: dict[str, Any]) -> None:
    options = building.options(source, **SHORT, learning_rate=0.02, **training)
    options = replace(options, model=replace(options.model, **shape))
    list(train(tmp_path / "whole", options))
    run = tmp_path / "run"
    stop_after(run, options, 3)
    stop_after(run, options, 8)
    finish(run, options)
    assert outcome(run) == outcome(tmp_path / "whole")


def test_the_rate_is_in_proportion_to_the_length_of_a_varying_window(source: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"schedule": "constant", "warmup": 0.0, "learning_rate": 0.01, "window": 12, "steps": 100}
    events = building.trained(tmp_path / "run", source, vary_window=True, **chosen)
    (batches,) = [event.batches for event in events if isinstance(event, Prepared)]
    reported = [event for event in events if isinstance(event, Stepped)]
    lengths = [len(batches.at(event.step - 1).targets_TB) for event in reported]
    assert len(set(lengths)) > 1
    assert [event.learning_rate for event in reported] == pytest.approx([0.01 * length / 12 for length in lengths])


@pytest.mark.parametrize("shape", [{"softmax": "adaptive"}, {"input": "one-hot", "tied": False}], ids=str)
def test_only_a_full_softmax_with_an_embedding_is_sampled(source: Path, shape: dict[str, Any]) -> None:
    options = building.options(source, negatives=8)
    with pytest.raises(UsageError, match="negatives"):
        replace(options, model=replace(options.model, **shape))
    mapping = options.to_mapping()
    mapping["model"] |= shape
    with pytest.raises(ArtefactError, match=r"here.*negatives"):
        RunOptions.from_mapping(mapping, "here")


@pytest.mark.parametrize(("negatives", "gain"), [(1, 0.01), (3, 0.1), (10_000, 0.3)])
def test_the_exact_loss_falls_with_any_number_of_negatives(
    source: Path, tmp_path: Path, negatives: int, gain: float
) -> None:
    events = building.trained(tmp_path / "run", source, steps=100, learning_rate=0.02, batch_size=8, negatives=negatives)
    losses = [event.loss for event in events if isinstance(event, Validated)]
    assert losses[0] - min(losses) >= gain


@pytest.mark.parametrize("negatives", [0, 8])
def test_a_sampled_loss_is_marked_as_such(source: Path, tmp_path: Path, negatives: int) -> None:
    events = building.trained(tmp_path / "run", source, negatives=negatives)
    assert {event.sampled for event in events if isinstance(event, Stepped)} == {negatives > 0}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    marks = {line["event"]: line.get("sampled") for line in lines}
    assert marks["step"] is (True if negatives else None)
    assert {mark for name, mark in marks.items() if name != "step"} == {None}, "every other figure is exact"


def test_so_small_a_text_that_everything_is_cut_short(tmp_path: Path) -> None:
    """One stream for two parts, windows of a few ids, more candidates than symbols."""
    (tmp_path / "few.txt").write_text("a b\nc d\n")
    events = building.trained(tmp_path / "run", tmp_path / "few.txt", "char", DROPPING, **REGULARIZED, negatives=50, steps=9)
    (ended,) = [event for event in events if isinstance(event, Ended)]
    assert 0 < ended.loss < 10
    assert load_model(tmp_path / "run").model.config.dropout_weight == 0.2
