from __future__ import annotations

from pathlib import Path
from typing import Any

import building
import pytest
import torch
from torch import nn

from lstmlm.checkpoint import load_model, read_tensors
from lstmlm.corpus import open_corpus
from lstmlm.evaluation import evaluate
from lstmlm.training.averaging import WeightAverage
from lstmlm.training.events import Validated


def number(start: float = 0.0) -> nn.Linear:
    """A model that is one number."""
    model = nn.Linear(1, 1, bias=False)
    put(model, start)
    return model


def put(model: nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def averaged(model: nn.Linear, average: WeightAverage) -> float:
    with average.applied():
        return model.weight.item()


def test_the_average_by_hand() -> None:
    """Half of the steps so far: shares 1, 1, 1/1.5, 1/2, 1/2.5 of the weights 1, 2, 3, 4 and 5."""
    model = number()
    average = WeightAverage(model, 0.5)
    found = []
    for step in range(1, 6):
        put(model, float(step))
        average.update(step)
        found.append(averaged(model, average))
    assert found == pytest.approx([1, 2, 8 / 3, 10 / 3, 4])


@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9])
def test_it_looks_back_over_the_given_part_of_the_run(part: float) -> None:
    """Of weights that grow by one at every step, such a mean is step / (1 + part)."""
    model = number()
    average = WeightAverage(model, part)
    for step in range(1, 4001):
        put(model, float(step))
        average.update(step)
    assert averaged(model, average) / 4000 == pytest.approx(1 / (1 + part), abs=0.005)


@pytest.mark.parametrize("last", [1, 3, 7, 9, 20, 50])
def test_where_the_run_began_is_forgotten(last: int) -> None:
    """In short runs too: initial weights far away have no part in it."""
    model = number(1e6)
    average = WeightAverage(model, 0.5)
    for step in range(1, last + 1):
        put(model, 2.0)
        average.update(step)
    assert averaged(model, average) == pytest.approx(2.0)


def test_outside_the_block_the_model_has_its_own_weights() -> None:
    model = number()
    average = WeightAverage(model, 0.5)
    for step in (1, 2, 3):
        put(model, float(step))
        average.update(step)
    weight = model.weight

    def fail_inside() -> None:
        with average.applied():
            assert model.weight is weight
            assert model.weight.item() == pytest.approx(8 / 3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert model.weight is weight
    assert model.weight.item() == 3.0
    put(model, 4.0)
    assert averaged(model, average) == pytest.approx(8 / 3), "a copy, not a view"


@pytest.mark.parametrize("training", [{}, {"negatives": 8}], ids=["full", "sampled"])
def test_validation_and_model_directory_are_of_the_averaged_weights(
    source: Path, tmp_path: Path, training: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    events = building.trained(
        run, source, steps=30, validate_every=30, learning_rate=0.02, schedule="constant", averaging=0.5, **training
    )
    (validated,) = [event for event in events if isinstance(event, Validated)]
    result = evaluate(load_model(run), open_corpus((str(source),)), "valid")
    assert result["nll_nats"] / result["tokens"] == pytest.approx(validated.loss, abs=1e-9)
    final = max(run.glob("step-*"))
    means, state = read_tensors(final / "model.safetensors"), read_tensors(final / "training.safetensors")
    last = {name.removeprefix("weights."): part for name, part in state.items() if name.startswith("weights.")}
    assert last.keys() == means.keys()
    assert not any(torch.equal(last[name], means[name]) for name in means)
    building.trained(
        tmp_path / "plain", source, steps=30, validate_every=30, learning_rate=0.02, schedule="constant", **training
    )
    plain = read_tensors(tmp_path / "plain" / final.name / "model.safetensors")
    assert all(torch.equal(plain[name], last[name]) for name in plain), "averaging does not change the course of a run"
