from __future__ import annotations

from itertools import pairwise
from typing import Any

import building
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lstmlm.config import DROPOUTS, ModelConfig, RuntimeConfig
from lstmlm.errors import UsageError
from lstmlm.model import LanguageModel
from lstmlm.runtime import Runtime, choose_runtime

V, T, B = 23, 12, 3
SHAPES: list[dict[str, Any]] = [
    {"cell": cell, "input": input, "num_layers": layers, "residual": layers == 2}
    for cell in ("lstm", "gru", "rnn")
    for input in ("embedding", "one-hot")
    for layers in (1, 2)
] + [{"cell": cell, "embedding_size": size, "traces": (2, 30)} for cell in ("lstm", "gru") for size in (12, 16)]


def ids(steps: int = T, streams: int = B, seed: int = 1) -> Tensor:
    return torch.randint(V, (steps, streams), generator=torch.Generator().manual_seed(seed))


def logits(model: LanguageModel, ids_TB: Tensor) -> Tensor:
    hidden_TBH, _ = model(ids_TB, model.initial_state(ids_TB.shape[1]))
    return model.logits(hidden_TBH)


def dropped_logits(model: LanguageModel, ids_TB: Tensor) -> Tensor:
    """As in training, where the output's dropout comes last."""
    hidden_TBH, _ = model(ids_TB, model.initial_state(ids_TB.shape[1]))
    return model.logits(model.drop_output(hidden_TBH))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ids_are_read_alike_in_windows_of_any_length_and_beside_any_others(shape: dict[str, Any]) -> None:
    model, ids_TB = building.model(V, **shape).double(), ids()
    whole, whole_state = model(ids_TB, model.initial_state(B))
    for lengths in ([1] * T, [5, 4, 3], [T]):
        state, parts = model.initial_state(B), []
        for begin, end in pairwise(np.cumsum([0, *lengths]).tolist()):
            part_TBH, state = model(ids_TB[begin:end], state)
            parts.append(part_TBH)
        torch.testing.assert_close((torch.cat(parts), state), (whole, whole_state), rtol=1e-10, atol=1e-10)
    for stream in range(B):
        alone, _ = model(ids_TB[:, [stream]], model.initial_state(1))
        torch.testing.assert_close(alone, whole[:, [stream]], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_prediction_does_not_know_what_comes(shape: dict[str, Any]) -> None:
    """Bit for bit: another id at step 7 changes nothing before it, and something at it."""
    model, ids_TB = building.model(V, **shape), ids()
    other_TB = ids_TB.clone()
    other_TB[7] = (ids_TB[7] + 1) % V
    before, after = logits(model, ids_TB), logits(model, other_TB)
    assert torch.equal(before[:7], after[:7])
    assert not torch.equal(before[7], after[7])


def test_logits_are_a_product_with_the_tied_embedding() -> None:
    same = building.model(V, embedding_size=16, hidden_size=16)
    hidden_BH = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    assert same.embedding is not None
    torch.testing.assert_close(same.logits(hidden_BH), hidden_BH @ same.embedding.weight.T + same.output.bias)
    projected = building.model(V, embedding_size=12, hidden_size=16)
    assert projected.embedding is not None
    assert projected.output.projection is not None
    expected = hidden_BH @ projected.output.projection.weight.T @ projected.embedding.weight.T + projected.output.bias
    torch.testing.assert_close(projected.logits(hidden_BH), expected, rtol=1e-4, atol=1e-4)


def test_parameters_are_counted_once() -> None:
    lstm = 4 * 16 * (12 + 16 + 2)
    assert building.model(V, tied=True).num_parameters == V * 12 + lstm + 12 * 16 + V
    assert building.model(V, tied=False).num_parameters == V * 12 + lstm + V * 16 + V
    assert building.model(V, tied=True, embedding_size=16).num_parameters == V * 16 + 4 * 16 * (16 + 16 + 2) + V
    assert building.model(V, input="one-hot").num_parameters == 4 * 16 * (V + 16 + 2) + V * 16 + V


def test_tied_weights_learn_from_both_ends() -> None:
    model = building.model(V).double()
    functional.cross_entropy(logits(model, ids())[-1], ids(1, B, seed=2)[0]).backward()  # type: ignore[no-untyped-call]
    assert model.embedding is not None
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad.any(dim=1).all()  # also of symbols that were never an input


def test_one_hot_input_has_nothing_to_tie_to() -> None:
    with pytest.raises(UsageError, match="one-hot"):
        ModelConfig(input="one-hot", tied=True)


def test_weights_are_a_function_of_the_seed() -> None:
    config = ModelConfig(vocabulary_size=V, embedding_size=12, hidden_size=16, num_layers=2)
    weights: list[Tensor] = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed * 1000 + len(weights))  # the global state has no say
        model = LanguageModel(config)
        model.reset_parameters(seed)
        weights.append(torch.cat([weight.flatten() for weight in model.parameters()]))
    assert weights[0].isfinite().all()
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_first_predictions_are_those_of_a_unigram_model() -> None:
    """Counts 3, 0 and 6, each one more: 4/12, 1/12 and 7/12, whatever went before."""
    model = LanguageModel(ModelConfig(vocabulary_size=3, embedding_size=4, hidden_size=4))
    model.reset_parameters(1, torch.tensor([3, 0, 6]))
    probabilities = model.logits(torch.zeros(4)).softmax(-1)
    assert probabilities.tolist() == pytest.approx([4 / 12, 1 / 12, 7 / 12])


@pytest.mark.parametrize("input", ["embedding", "one-hot"])
def test_dropout_acts_in_training_only(input: str) -> None:
    """Each kind by itself: without effect on a model that is used, random but for the seed in one that learns."""
    plain, ids_TB = building.model(V, input=input, num_layers=2), ids()
    for name in DROPOUTS:
        if name == "dropout_embedding" and input == "one-hot":
            continue
        model = building.model(V, input=input, num_layers=2, **{name: 0.5})
        assert torch.equal(logits(model, ids_TB), logits(plain, ids_TB)), name
        model.train()
        torch.manual_seed(1)
        first = dropped_logits(model, ids_TB)
        assert not torch.equal(first, logits(plain, ids_TB)), name
        assert not torch.equal(first, dropped_logits(model, ids_TB)), name
        torch.manual_seed(1)
        assert torch.equal(first, dropped_logits(model, ids_TB)), name


def test_output_dropout_is_locked_over_time_and_beside_the_state() -> None:
    torch.manual_seed(2)
    plain, model = building.model(V), building.model(V, dropout_output=0.5).train()
    whole_TBH, whole_state = plain(ids(), plain.initial_state(B))
    hidden_TBH, state = model(ids(), model.initial_state(B))
    assert torch.equal(hidden_TBH, whole_TBH)
    dropped_TBH = model.drop_output(hidden_TBH)
    factors_TBH = dropped_TBH / whole_TBH
    torch.testing.assert_close(factors_TBH, factors_TBH[:1].expand_as(factors_TBH))
    assert factors_TBH[0].detach().round().unique().tolist() == [0.0, 2.0]
    torch.testing.assert_close(state, whole_state)
    assert torch.equal(model.eval().drop_output(whole_TBH), whole_TBH)


def test_a_bf16_step_is_close_to_a_float32_step() -> None:
    """Loss, gradients and carried state of one training step, relative to their size."""
    fast = choose_runtime(RuntimeConfig(device="cpu"), "lstm")
    if fast.precision != "bf16":
        pytest.skip(fast.reason)
    results = []
    for runtime in (Runtime(torch.device("cpu"), "fp32", ""), fast):
        model = building.model(V, num_layers=2, embedding_size=64, hidden_size=64, scale=1.0).train()
        with runtime.step_precision():
            hidden_TBH, state = model(ids(32, 16), model.initial_state(16))
            logits_NV = model.logits(hidden_TBH.flatten(0, 1))
            loss = functional.cross_entropy(logits_NV.float(), ids(32, 16, seed=2).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
        assert all(part_LBH.dtype == torch.float32 for part_LBH in state)
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        results.append([loss.detach()[None], torch.cat(gradients), *(part_LBH.detach() for part_LBH in state)])
    for name, tolerance, exact, found in zip(
        ("loss", "gradient", "h", "c"), (2e-3, 2e-2, 1e-2, 1e-2), *results, strict=True
    ):
        assert float((found - exact).norm() / exact.norm()) < tolerance, name
    assert not torch.equal(results[0][1], results[1][1])  # it did run in another precision
