"""One update: whatever shortcut it takes, it is the update that its formula says."""

from __future__ import annotations

import copy
from typing import Any

import building
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmlm.batches import UNSCORED, Batches, Window
from lstmlm.config import OPTIMIZERS, RuntimeConfig, TrainConfig
from lstmlm.model import LanguageModel
from lstmlm.runtime import Runtime, choose_runtime
from lstmlm.training import candidates
from lstmlm.training import learner as learner_module
from lstmlm.training.averaging import WeightAverage
from lstmlm.training.candidates import CandidateSampler, Touched
from lstmlm.training.learner import Learner, Update
from lstmlm.training.optimization import build_optimizer, guarded_step, optimizer_tensors

V, T, B = 40, 6, 5
EXACT = Runtime(torch.device("cpu"), "fp32", "")
SHAPES: list[dict[str, Any]] = [
    {},
    {"tied": False, "num_layers": 2},
    {"embedding_size": 16, "cell": "gru"},
    {"traces": (2, 9)},
]
EVERYTHING: dict[str, float] = {
    "dropout_embedding": 0.2,
    "dropout_input": 0.2,
    "dropout_hidden": 0.2,
    "dropout_weight": 0.2,
    "dropout_output": 0.2,
}


def corpus(size: int = V) -> np.ndarray[Any, Any]:
    """Ids that fall off in frequency; `<eos>` is 0."""
    return np.minimum(np.random.default_rng(5).geometric(0.1, 400), size - 3).astype("<u2")


def learner(shape: dict[str, Any] | None = None, runtime: Runtime = EXACT, size: int = V, **training: Any) -> Learner:
    """Float64 where the runtime is exact."""
    config = TrainConfig(**({"steps": 10, "clip": 1e9, "weight_decay": 0.0, "momentum": 0.0} | training))
    model = building.model(size, **(shape or {}))
    started = copy.deepcopy(model.state_dict())
    counts_V = torch.from_numpy(np.bincount(corpus(size), minlength=size))
    built = Learner(model.double() if runtime is EXACT else model, config, counts_V, runtime)
    built.start_afresh(B)
    built.model.load_state_dict(started)  # larger weights than at a start, so that predictions differ
    built.forget()
    return built


def window(step: int, streams: int = B, steps: int = T, size: int = V) -> Window:
    return Batches(corpus(size), batch_size=streams, window=steps, eos=0, seed=1).at(step)


def learn(by: Learner, steps: int = 3, rate: float = 0.02, **of: int) -> list[Update]:
    for step in range(steps):
        by.update(window(step, **of), step, rate=rate, momentum=by.config.momentum)
    return by.collect()


def updated(by: Learner, read: Window, step: int, *, rate: float, momentum: float = 0.0) -> Update:
    """What came of one update."""
    by.update(read, step, rate=rate, momentum=momentum)
    (update,) = by.collect()
    return update


def weights(of: Learner) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in of.model.named_parameters()}


def gradients(shape: dict[str, Any] | None = None, runtime: Runtime = EXACT, size: int = V, **training: Any) -> Tensor:
    """All in one: what a step of plain SGD with rate 1 takes from the weights."""
    one = learner(shape, runtime, size, optimizer="sgd", **training)
    before = weights(one)
    one.update(window(1, size=size), 1, rate=1.0, momentum=0.0)
    return torch.cat([(before[name] - after).flatten() for name, after in weights(one).items()])


def test_the_first_ids_of_an_epoch_are_the_only_ones_not_scored() -> None:
    """So the tests below meet streams with and without scored starts."""
    starts_B = window(0).targets_TB[0] == UNSCORED
    assert starts_B.any()
    update = updated(learner(), window(0), 0, rate=0.0)
    assert update.tokens == T * B - int(starts_B.sum())


def test_every_window_continues_where_the_one_before_ended() -> None:
    """With a rate of 0 the states are those of reading on, from zero at the beginning of every epoch."""
    one, per_epoch = learner({"num_layers": 2}), Batches(corpus(), batch_size=B, window=T, eos=0, seed=1).windows_per_epoch
    inputs = [window(step).inputs_TB for step in range(per_epoch + 2)]
    for step in range(per_epoch + 2):
        one.update(window(step), step, rate=0.0, momentum=0.0)
        read_TB = torch.cat(inputs[step // per_epoch * per_epoch : step + 1])
        _, wanted = one.model.eval()(read_TB, one.model.initial_state(B))
        torch.testing.assert_close(one.state, wanted, rtol=1e-9, atol=1e-9)


def test_the_average_is_of_the_weights_after_each_update() -> None:
    one = learner(averaging=0.5)
    shadow = copy.deepcopy(one.model)
    average = WeightAverage(shadow, 0.5)
    for step in range(20):
        one.update(window(step), step, rate=0.02, momentum=0.0)
        shadow.load_state_dict(one.model.state_dict())
        average.update(step + 1)
        with average.applied(), one.averaged():
            assert all(map(torch.equal, shadow.parameters(), one.model.parameters()))
    assert not all(map(torch.equal, weights(one).values(), averages(one)))


def averages(of: Learner) -> list[Tensor]:
    with of.averaged():
        return list(weights(of).values())


# -- penalties and clipping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "temporal"), [(0.7, 0.0), (0.0, 0.9), (0.7, 0.9)])
def test_penalties_are_of_what_is_dropped_out_and_of_its_undropped_changes(
    monkeypatch: pytest.MonkeyPatch, activation: float, temporal: float
) -> None:
    """With a dropout that doubles: AR sees 2 h, TAR h itself."""
    monkeypatch.setattr(LanguageModel, "drop_output", lambda self, hidden_TBH: 2 * hidden_TBH)
    found = gradients(activation_penalty=activation, temporal_penalty=temporal)
    model = learner().model
    read = window(1)
    hidden_TBH, _ = model(read.inputs_TB, model.initial_state(B))
    goal = functional.cross_entropy(model.logits(2 * hidden_TBH).flatten(0, 1), read.targets_TB.flatten())
    goal = goal + activation * (2 * hidden_TBH).pow(2).mean()
    goal = goal + temporal * (hidden_TBH[1:] - hidden_TBH[:-1]).pow(2).mean()
    wanted = torch.cat([part.flatten() for part in torch.autograd.grad(goal, list(model.parameters()))])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(found, gradients())


def test_a_window_of_one_step_has_no_change_to_penalize() -> None:
    one = learner(temporal_penalty=1.0)
    assert all(update.made for update in learn(one, steps=1))
    assert updated(one, Window(torch.ones(1, B).long(), torch.ones(1, B).long(), False), 1, rate=0.1).made


@pytest.mark.parametrize("negatives", [0, 6])
def test_a_gradient_is_scaled_down_to_the_largest_norm_allowed(negatives: int) -> None:
    free, clipped = gradients(negatives=negatives), gradients(negatives=negatives, clip=0.25)
    one = learner(optimizer="sgd", negatives=negatives, clip=0.25)
    update = updated(one, window(1), 1, rate=1.0)
    assert update.gradient_norm == pytest.approx(float(free.norm()))
    assert float(free.norm()) > 0.25
    torch.testing.assert_close(clipped, free * (0.25 / free.norm()), rtol=1e-4, atol=1e-9)


# -- parts of a batch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [2, 3, 5, 9])
@pytest.mark.parametrize(
    "training",
    [{}, {"negatives": 6}, {"activation_penalty": 2.0, "temporal_penalty": 1.0, "negatives": 6}],
    ids=["full", "sampled", "penalties"],
)
def test_a_batch_in_parts_is_the_batch_at_once(accumulate: int, training: dict[str, Any]) -> None:
    """Parts of uneven size, more parts than streams, and starts of streams that are not scored."""
    whole, parts = learner(**training), learner(accumulate=accumulate, **training)
    for one, other in zip(learn(whole), learn(parts), strict=True):
        assert other.nats == pytest.approx(one.nats, rel=1e-6)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-6)
        assert (one.tokens, one.made) == (other.tokens, other.made)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(parts.state, whole.state, rtol=1e-6, atol=1e-8)


# -- sampled softmax --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_every_symbol_as_a_candidate_sampling_is_the_full_softmax(optimizer: str, shape: dict[str, Any]) -> None:
    """20,000 draws from 40 symbols leave none out: its correction is 0, every row is touched at every step.

    AdamW, whose rows have no momentum, therefore has none in either run.
    """
    momentum = 0.0 if optimizer == "adamw" else 0.8
    training = {"optimizer": optimizer, "weight_decay": 0.1, "momentum": momentum, "clip": 0.5}
    full, sampled = learner(shape, **training), learner(shape, negatives=20_000, **training)
    for one, other in zip(learn(full), learn(sampled), strict=True):
        assert other.nats == pytest.approx(one.nats, rel=1e-9)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-9)
    torch.testing.assert_close(weights(sampled), weights(full), rtol=1e-7, atol=1e-8)


@pytest.fixture
def touches(monkeypatch: pytest.MonkeyPatch) -> list[Touched]:
    """What every step touched."""
    seen: list[Touched] = []
    touch = CandidateSampler.touch

    def watched(self: CandidateSampler, inputs_TB: Tensor, targets_N: Tensor) -> Touched:
        seen.append(touch(self, inputs_TB, targets_N))
        return seen[-1]

    monkeypatch.setattr(CandidateSampler, "touch", watched)
    return seen


def dense_step(model: LanguageModel, optimizer: torch.optim.Optimizer, read: Window, touched: Touched, clip: float) -> None:
    """The same, with the logits of all symbols and dense gradients."""
    hidden_TBH, _ = model(read.inputs_TB, model.initial_state(B))
    targets_N = read.targets_TB.flatten()
    correction_V = torch.zeros(V).index_copy(0, touched.symbols_R, touched.log_inclusion_R)
    seen_NV = torch.arange(V) == targets_N[:, None]
    seen_NV[:, touched.symbols_R[: touched.candidates]] = True
    logits_NV = (model.logits(hidden_TBH).flatten(0, 1) - correction_V).masked_fill(~seen_NV, -torch.inf)
    optimizer.zero_grad()
    functional.cross_entropy(logits_NV, targets_N, ignore_index=UNSCORED).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_sampled_update_is_the_one_with_dense_gradients(
    touches: list[Touched], optimizer: str, shape: dict[str, Any]
) -> None:
    """The first, without momentum yet. AdamW leaves rows alone that the step did not touch; others see zeros there."""
    training = {"optimizer": optimizer, "weight_decay": 0.1, "momentum": 0.8, "clip": 0.5, "learning_rate": 0.02}
    one = learner(shape, negatives=6, **training)
    model, before = copy.deepcopy(one.model), weights(one)
    reference = build_optimizer(model, one.config)
    read = window(0)
    one.update(read, 0, rate=0.02, momentum=0.8)
    dense_step(model, reference, read, touches[0], 0.5)
    untouched = sorted(set(range(V)) - set(touches[0].symbols_R.tolist()))
    assert untouched
    outside = touches[0].place_V[read.targets_TB[read.targets_TB != UNSCORED]] >= touches[0].candidates
    assert 0 < int(outside.sum()) < len(outside)
    for name, found in weights(one).items():
        wanted = model.get_parameter(name).detach().clone()
        if len(wanted) == V and optimizer == "adamw":
            wanted[untouched] = before[name][untouched]
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_symbols_that_only_fill_up_change_nothing(
    monkeypatch: pytest.MonkeyPatch, touches: list[Touched], shape: dict[str, Any]
) -> None:
    """Their corrected logits are -infinity, and so their gradients 0."""
    size, runs = 150, []
    for multiple in (1, 16):
        monkeypatch.setattr(candidates, "_MULTIPLE", multiple)
        one = learner(shape, size=size, negatives=20, momentum=0.8, clip=0.5)
        runs.append((learn(one, steps=4, size=size), weights(one)))
    for exact, filled in zip(touches[:4], touches[4:], strict=True):
        assert filled.candidates % 16 == len(filled.symbols_R) % 16 == 0
        assert len(exact.symbols_R) < len(filled.symbols_R) == len(filled.symbols_R.unique())
        (fillers,) = torch.isinf(filled.log_inclusion_R).nonzero(as_tuple=True)
        assert fillers.tolist() == list(range(exact.candidates, filled.candidates))
    for plain, filling in zip(runs[0][0], runs[1][0], strict=True):
        assert filling.nats == pytest.approx(plain.nats, rel=1e-12)
        assert filling.gradient_norm == pytest.approx(plain.gradient_norm, rel=1e-12)
    torch.testing.assert_close(runs[1][1], runs[0][1], rtol=1e-10, atol=1e-12)


def test_what_the_optimizer_knows_of_untouched_rows_stays(touches: list[Touched]) -> None:
    one = learner({"tied": False}, negatives=4, optimizer="adamw", momentum=0.8)
    learn(one, steps=4)
    before = {name: part.clone() for name, part in optimizer_tensors(one.optimizer).items()}
    old = weights(one)
    one.update(window(4), 4, rate=0.02, momentum=0.8)
    untouched = sorted(set(range(V)) - set(touches[-1].symbols_R.tolist()))
    rows = [name for name, part in before.items() if part.dim() and len(part) == V]
    assert len(rows) == 2 * 3, "a mean square and the step of the last update, of embedding, output and its bias"
    after = optimizer_tensors(one.optimizer)
    assert all(torch.equal(after[name][untouched], before[name][untouched]) for name in rows)
    assert all(torch.equal(new[untouched], old[name][untouched]) for name, new in weights(one).items() if len(new) == V)


# -- precision, randomness, numbers that are not finite ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "training"),
    [
        ({}, {}),
        ({"embedding_size": 40}, {"negatives": 64}),
        ({"embedding_size": 40, "traces": (2, 9)}, {"negatives": 64, "activation_penalty": 1.0}),
        ({"tied": False}, {"negatives": 64, "activation_penalty": 1.0, "temporal_penalty": 1.0}),
        ({"softmax": "adaptive", "cutoffs": (20, 60)}, {}),
        ({"dropout_weight": 0.4, "dropout_hidden": 0.2, "dropout_output": 0.2}, {}),
    ],
    ids=["full", "sampled", "sampled-traces", "sampled-penalties", "adaptive", "dropout"],
)
def test_a_bf16_update_is_close_to_a_float32_update(shape: dict[str, Any], training: dict[str, Any]) -> None:
    fast = choose_runtime(RuntimeConfig(device="cpu"), "lstm")
    if fast.precision != "bf16":
        pytest.skip(fast.reason)
    shape = {"num_layers": 2, "embedding_size": 64, "hidden_size": 64, "scale": 1.0} | shape
    exact = Runtime(fast.device, "fp32", "")
    found, wanted = (gradients(shape, runtime, 200, **training) for runtime in (fast, exact))
    assert found.dtype == torch.float32
    assert 0 < float((found - wanted).norm() / wanted.norm()) < 1e-2


@pytest.mark.parametrize("negatives", [0, 6])
def test_an_update_is_a_function_of_seed_and_step(negatives: int) -> None:
    shape = EVERYTHING | {"num_layers": 2}

    def after(seed: int, step: int) -> Tensor:
        torch.manual_seed(step * 100)  # the global state has no say
        one = learner(shape, seed=seed, negatives=negatives, optimizer="sgd")
        one.update(window(1), step, rate=0.1, momentum=0.0)
        return torch.cat([weight.flatten() for weight in weights(one).values()])

    first = after(1, 1)
    assert torch.equal(first, after(1, 1))
    assert not torch.equal(first, after(1, 2))
    assert not torch.equal(first, after(2, 1))


class Elsewhere(Tensor):
    """Says that it is on a GPU; an optimizer can still use it here."""

    device = torch.device("cuda")  # type: ignore[assignment]


def elsewhere(value: Tensor) -> Tensor:
    return value.as_subclass(Elsewhere)


@pytest.fixture(params=["waiting", "not-waiting"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice: as on a CPU, and as where the kernels of the device itself leave an update out."""
    if request.param == "not-waiting":
        monkeypatch.setattr(learner_module, "guarded_step", lambda by, wanted: guarded_step(by, elsewhere(wanted)))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("training", [{"optimizer": name} for name in OPTIMIZERS] + [{"negatives": 6}], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_an_update_with_bad_numbers_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, value: float, training: dict[str, Any]
) -> None:
    """Hidden states times nan, infinity, or so much that the loss is absurd. To the average it is a step as any other."""
    one = learner(momentum=0.8, averaging=0.5, **training)
    assert all(update.made for update in learn(one))

    def everything() -> list[Tensor]:
        parts = [*weights(one).values(), *optimizer_tensors(one.optimizer).values(), *one.state]
        return [part.clone() for part in parts]

    before, before_averages = everything(), averages(one)
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "drop_output", lambda self, hidden_TBH: hidden_TBH * value)
        update = updated(one, window(3), 3, rate=0.1, momentum=0.8)
    assert not update.made
    assert all(map(torch.equal, before, everything()))
    half_way = [mean.lerp(weight, 0.5) for mean, weight in zip(before_averages, weights(one).values(), strict=True)]
    torch.testing.assert_close(averages(one), half_way)
    assert updated(one, window(4), 4, rate=0.1, momentum=0.8).made, "what was left of that step does no harm"
    assert not all(map(torch.equal, before, everything()))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_first_update_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    """The next one is what it would have been as the first."""
    one, other = (learner(optimizer=optimizer, momentum=0.8) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "drop_output", lambda self, hidden_TBH: hidden_TBH * float("nan"))
        assert not updated(one, window(0), 0, rate=0.1, momentum=0.8).made
    for each in (one, other):
        learn(each)
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


def test_updates_are_told_once_and_in_order_and_not_after_a_new_beginning() -> None:
    one, other = learner(), learner()
    told = [updated(other, window(step), step, rate=0.02) for step in range(3)]
    assert len({update.nats for update in told}) == 3
    assert learn(one) == told
    assert one.collect() == []
    one.update(window(3), 3, rate=0.02, momentum=0.0)
    one.forget()
    assert one.collect() == []
