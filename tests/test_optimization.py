from __future__ import annotations

import math
from collections.abc import Callable

import building
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.nn import functional

from lstmlm.checkpoint import pack_tensors
from lstmlm.config import OPTIMIZERS, SCHEDULES, TrainConfig
from lstmlm.model import LanguageModel
from lstmlm.training.optimization import (
    LazyAdamW,
    build_optimizer,
    guarded_step,
    learning_rate,
    momentum,
    optimizer_tensors,
    restore_optimizer,
    set_pace,
)

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
    [
        ("linear", (0.3, 0.2, 0.1)),
        ("cosine", (0.3414214, 0.2, 0.0585786)),
        ("one-cycle", (0.3414214, 0.2, 0.0585786)),
        ("constant", (0.4,) * 3),
    ],
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


def test_one_cycle_lowers_the_momentum_where_the_rate_is_high() -> None:
    """From 0.8 down to 0.7 at the peak, and up again; any other schedule leaves it alone."""
    chosen = config(schedule="one-cycle", warmup=0.2, momentum=0.8)
    assert [momentum(chosen, done) for done in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx(
        [0.8, 0.75, 0.7, 0.75, 0.8], abs=1e-4
    )
    for schedule in set(SCHEDULES) - {"one-cycle"}:
        assert momentum(config(schedule=schedule, momentum=0.8), 0.2) == 0.8


@pytest.mark.parametrize("lowest", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_cycle_works_with_a_small_momentum(name: str, lowest: float) -> None:
    """At the first step, where it is lowest, it must neither be negative nor keep an optimizer from remembering."""
    chosen = config(optimizer=name, schedule="one-cycle", warmup=0.0, momentum=lowest, learning_rate=1e-3)
    model = building.model(V)
    optimizer = build_optimizer(model, chosen)
    for number in range(3):
        assert (momentum(chosen, number / 3) > 0) == (lowest > 0)
        set_pace(optimizer, learning_rate(chosen, number / 3), momentum(chosen, number / 3))
        step(model, optimizer, number)
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_pace_acts_like_an_optimizer_built_with_it(name: str) -> None:
    models = [building.model(V), building.model(V)]
    set_later, built = (
        build_optimizer(model, config(optimizer=name, learning_rate=rate, momentum=amount))
        for model, rate, amount in zip(models, (0.3, 0.01), (0.9, 0.6), strict=True)
    )
    set_pace(set_later, 0.01, 0.6)
    for number in range(3):
        for model, optimizer in zip(models, (set_later, built), strict=True):
            step(model, optimizer, number)
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


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
@pytest.mark.parametrize("amount", [0.9, 0.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str, amount: float, input: str) -> None:
    chosen = config(optimizer=name, learning_rate=0.02, momentum=amount)
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


# -- rows -------------------------------------------------------------------------------------------------------------


def sparse(rows: list[int], shape: torch.Size, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A gradient of the given rows, in the given order."""
    values = torch.randn(len(rows), *shape[1:], dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, shape, is_coalesced=True, check_invariants=False)


def matrix_and_bias() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((V, 4), (V,), (3, 2))]


def lazy(parameters: list[torch.nn.Parameter], weight_decay: float = 0.1) -> LazyAdamW:
    return LazyAdamW(parameters, lr=0.02, betas=(0.8, 0.95), weight_decay=weight_decay, fused=True)


def test_rows_are_updated_as_by_a_dense_optimizer_without_momentum() -> None:
    """However seldom they are touched, while another parameter has a dense gradient and keeps its momentum."""
    mine, theirs = matrix_and_bias(), matrix_and_bias()
    optimizer = lazy(mine)
    dense = [
        torch.optim.AdamW(theirs[:2], lr=0.02, betas=(0.0, 0.95), weight_decay=0.1),
        torch.optim.AdamW(theirs[2:], lr=0.02, betas=(0.8, 0.95), weight_decay=0.1),
    ]
    touched = [[7, 2], [2, 10], [2], [4, 7], [10, 4, 2], list(range(V))]
    for number, rows in enumerate(touched):
        for place, (left, right) in enumerate(zip(mine, theirs, strict=True)):
            gradient = sparse(rows, left.shape, 10 * number + place) if place < 2 else torch.ones(left.shape)
            left.grad = gradient
            right.grad = gradient.to_dense()
        for each in (optimizer, *dense):
            each.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_rows_that_are_not_touched_stay_as_they_are_and_so_does_what_is_known_of_them() -> None:
    parameters = matrix_and_bias()[:2]
    optimizer = lazy(parameters)
    for number, rows in enumerate([list(range(V)), [7, 2], [2, 10]]):
        before = {name: part.clone() for name, part in optimizer_tensors(optimizer).items()}
        weights = [weight.detach().clone() for weight in parameters]
        for weight in parameters:
            weight.grad = sparse(rows, weight.shape, number)
        optimizer.step()
        rest = sorted(set(range(V)) - set(rows))
        for old, weight in zip(weights, parameters, strict=True):
            assert torch.equal(old[rest], weight[rest])
            assert (old[rows] != weight.detach()[rows]).all()
        for name, part in optimizer_tensors(optimizer).items():
            if part.dim() and before:
                assert torch.equal(part[rest], before[name][rest])
                assert not torch.equal(part[rows], before[name][rows])


def test_a_restored_optimizer_goes_on_bit_for_bit_with_rows() -> None:
    mine, theirs = matrix_and_bias(), matrix_and_bias()
    optimizer, restored = lazy(mine), lazy(theirs)

    def advance(each: LazyAdamW, parameters: list[torch.nn.Parameter], number: int) -> None:
        for place, weight in enumerate(parameters):
            rows = [number % V, (3 * number + 1) % V]
            weight.grad = sparse(rows, weight.shape, number) if place < 2 else torch.full(weight.shape, 0.1)
        each.step()

    for number in range(4):
        advance(optimizer, mine, number)
    for left, right in zip(mine, theirs, strict=True):
        right.data = left.detach().clone()
    restore_optimizer(restored, {name: part.clone() for name, part in optimizer_tensors(optimizer).items()})
    for number in range(4, 8):
        advance(optimizer, mine, number)
        advance(restored, theirs, number)
    assert all(map(torch.equal, mine, theirs))
    assert pack_tensors(optimizer_tensors(optimizer)) == pack_tensors(optimizer_tensors(restored))


# -- updates that are left out ----------------------------------------------------------------------------------------


class Elsewhere(torch.Tensor):
    """Says that it is on a GPU, and counts how often somebody waits for its value; an optimizer can still use it here."""

    device = torch.device("cuda")  # type: ignore[assignment]
    waits = 0

    def __bool__(self) -> bool:
        Elsewhere.waits += 1
        return super().__bool__()


def elsewhere(value: torch.Tensor) -> torch.Tensor:
    return value.as_subclass(Elsewhere)


@pytest.mark.parametrize("left_out", [{0}, {2}, {0, 1, 3}, set()], ids=str)
@pytest.mark.parametrize("name", [*OPTIMIZERS, "rows"])
@pytest.mark.parametrize("place", [torch.clone, elsewhere], ids=["cpu", "elsewhere"])
def test_an_update_that_is_left_out_is_as_if_it_had_not_been(
    monkeypatch: pytest.MonkeyPatch, place: Callable[[torch.Tensor], torch.Tensor], name: str, left_out: set[int]
) -> None:
    """Weights and memory; its gradient is not even finite. Elsewhere nobody waits to hear, but where it cannot be helped."""
    monkeypatch.setattr(Elsewhere, "waits", 0)
    chosen = config(optimizer="adamw" if name == "rows" else name, learning_rate=0.02, momentum=0.8)
    mine, theirs = (torch.nn.ParameterList(matrix_and_bias()) for _ in range(2))
    optimizer, reference = build_optimizer(mine, chosen), build_optimizer(theirs, chosen)
    for number in range(5):
        wanted = number not in left_out
        for left, right in zip(mine, theirs, strict=True):
            gradient = sparse([number, 7], left.shape, number) if name == "rows" and left.shape[0] == V else left.detach()
            left.grad, right.grad = gradient * (1.0 if wanted else math.nan), gradient.clone()
        guarded_step(optimizer, place(torch.tensor(wanted)))
        if wanted:
            reference.step()
    torch.testing.assert_close(list(mine), list(theirs), rtol=0, atol=0)
    assert pack_tensors(optimizer_tensors(optimizer)) == pack_tensors(optimizer_tensors(reference))
    first = next(number for number in range(5) if number not in left_out) + 1  # until there is a memory to leave alone
    assert Elsewhere.waits == (0 if place is torch.clone else 5 if name in ("rows", "rmsprop") else first)
