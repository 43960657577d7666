from __future__ import annotations

import math

import building
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.nn import functional

from lstmlm.checkpoint import pack_tensors
from lstmlm.config import OPTIMIZERS, SCHEDULES, TrainConfig
from lstmlm.model import LanguageModel
from lstmlm.training.optimization import build_optimizer, learning_rate, optimizer_tensors, restore_optimizer

V = 11


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**({"steps": 100, "learning_rate": 0.4} | changes))  # type: ignore[arg-type]


def step(model: LanguageModel, optimizer: torch.optim.Optimizer, number: int) -> None:
    ids_TB = torch.randint(V, (7, 3), generator=torch.Generator().manual_seed(number))
    hidden_TBH, _ = model(ids_TB[:-1], model.initial_state(3))
    loss = functional.cross_entropy(model.logits(hidden_TBH).flatten(0, 1), ids_TB[1:].flatten())
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", (0.3, 0.2, 0.1)), ("cosine", (0.3414214, 0.2, 0.0585786)), ("constant", (0.4,) * 3)],
)
def test_the_rate_rises_then_decays(schedule: str, expected: tuple[float, ...]) -> None:
    """Peak 0.4 after a fifth of the run; then at a quarter, half and three quarters of the decay."""
    chosen = config(schedule=schedule, warmup=0.2)
    assert [learning_rate(chosen, done) for done in (0.05, 0.1, 0.2)] == pytest.approx([0.1, 0.2, 0.4])
    assert [learning_rate(chosen, done) for done in (0.4, 0.6, 0.8)] == pytest.approx(expected)
    end = 0.4 if schedule == "constant" else 0.0
    assert [learning_rate(chosen, done) for done in (1.0, 1.5)] == pytest.approx([end, end], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(some.sampled_from(SCHEDULES), some.sampled_from([0.0, 0.05, 0.5, 0.99]), some.floats(0, 1.2))
def test_the_rate_stays_between_zero_and_its_peak(schedule: str, warmup: float, done: float) -> None:
    chosen = config(schedule=schedule, warmup=warmup)
    rate = learning_rate(chosen, done)
    assert 0.0 <= rate <= 0.4 * (1 + 1e-12)
    if done < 1.0:
        assert rate > 0.0, "no step before the last is without effect"
    if warmup <= done:
        assert learning_rate(chosen, done + 0.01) <= rate + 1e-12


def test_the_first_step_without_a_warm_up_has_the_full_rate() -> None:
    assert learning_rate(config(warmup=0.0), 0.0) == 0.4


def test_weight_decay_spares_the_biases() -> None:
    """With no gradient at all, AdamW shrinks matrices by rate times decay and leaves vectors alone."""
    model = building.model(V)
    optimizer = build_optimizer(model, config(weight_decay=0.25, optimizer="adamw"))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():
        factor = 1 - 0.4 * 0.25 if weight.dim() > 1 else 1.0
        torch.testing.assert_close(weight.detach(), factor * before[name])


def test_every_weight_is_trained_by_one_group() -> None:
    model = building.model(V, input="one-hot", num_layers=2)
    groups = build_optimizer(model, config()).param_groups
    assert sorted(id(weight) for group in groups for weight in group["params"]) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("sgd", 1 - 0.5 * 2), ("rmsprop", 1 - 0.5 / math.sqrt(0.25)), ("adam", 1 - 0.5), ("adamw", (1 - 0.5 * 0.5) - 0.5)],
)
def test_the_first_update_by_hand(optimizer: str, expected: float) -> None:
    """A weight of 1 with gradient 2, rate 1/2; AdamW also decays it by rate times 1/2."""
    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(weight.weight)
    decay = 0.5 if optimizer == "adamw" else 0.0
    chosen = config(optimizer=optimizer, learning_rate=0.5, beta2=0.75, momentum=0.5, weight_decay=decay)
    weight.weight.grad = torch.full((1, 1), 2.0)
    build_optimizer(weight, chosen).step()
    assert weight.weight.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("input", ["embedding", "one-hot"])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str, momentum: float, input: str) -> None:
    chosen = config(optimizer=name, learning_rate=0.02, momentum=momentum)
    model = building.model(V, input=input)
    optimizer = build_optimizer(model, chosen)
    for number in range(3):
        step(model, optimizer, number)
    other = building.model(V, input=input, seed=99)
    other.load_state_dict(model.state_dict())
    restored = build_optimizer(other, chosen)
    saved = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer).items()}
    restore_optimizer(restored, saved | {"state.0": torch.zeros(1)})
    for number in range(3, 6):
        step(model, optimizer, number)
        step(other, restored, number)
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    assert pack_tensors(optimizer_tensors(optimizer)) == pack_tensors(optimizer_tensors(restored))


def test_a_new_optimizer_without_memory_differs() -> None:
    """The round trip above carries something: without it the next step is another one."""
    chosen = config(optimizer="adamw", learning_rate=0.02)
    model = building.model(V)
    optimizer = build_optimizer(model, chosen)
    for number in range(3):
        step(model, optimizer, number)
    other = building.model(V, seed=99)
    other.load_state_dict(model.state_dict())
    step(model, optimizer, 3)
    step(other, build_optimizer(other, chosen), 3)
    assert not all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))
