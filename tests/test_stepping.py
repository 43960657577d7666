"""Steps of few rows against the model's own way."""

from __future__ import annotations

from typing import Any

import building
import pytest
import torch

from lstmlm.model import LanguageModel, Stepper

SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "three layers, residual": {"num_layers": 3, "residual": True},
    "traces": {"traces": (3, 20), "num_layers": 2},
    "untied": {"tied": False},
    "gru": {"cell": "gru"},
    "rnn": {"cell": "rnn", "tied": False},
    "one-hot": {"input": "one-hot"},
    "adaptive": {"softmax": "adaptive", "cutoffs": (5, 12)},
}


@pytest.fixture(params=list(SHAPES))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return building.model(31, **SHAPES[request.param])


@pytest.mark.parametrize("rows", [1, 3, 8, 33])
@torch.no_grad()
def test_a_step_is_the_models(model: LanguageModel, rows: int) -> None:
    stepper = Stepper(model)
    generator = torch.Generator().manual_seed(1)
    state = expected_state = model.initial_state(rows)
    for _ in range(3):
        ids_B = torch.randint(31, (rows,), generator=generator)
        features_BF, state = stepper.step(ids_B, state)
        expected_TBF, expected_state = model(ids_B[None], expected_state)
        torch.testing.assert_close(features_BF, expected_TBF[0], rtol=1e-4, atol=1e-5)
        for part, expected in zip(state, expected_state, strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stepper.logits(features_BF), model.logits(expected_TBF[0]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_where_weights_cannot_be_laid_out_steps_are_the_same(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        plain = Stepper(model)
    ids_B, state = torch.tensor([3, 9]), model.initial_state(2)
    features_BF, _ = plain.step(ids_B, state)
    expected_BF, _ = Stepper(model).step(ids_B, state)
    torch.testing.assert_close(features_BF, expected_BF, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.logits(features_BF), Stepper(model).logits(features_BF), rtol=1e-4, atol=1e-4)
