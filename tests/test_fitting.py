"""Fit to the budget: what was left open is chosen, by whatever rules; what was given stays."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from test_resume import finish, outcome, stop_after
from test_training import of

from lstmlm.batches import Batches
from lstmlm.checkpoint import load_model
from lstmlm.cli.main import run as run_command
from lstmlm.config import TOKENIZERS, ModelConfig, RuntimeConfig, TokenizerConfig, TrainConfig
from lstmlm.errors import UsageError
from lstmlm.training import FITTED, RunOptions, train, trainer
from lstmlm.training.events import Ended, Event, Fitted, Prepared, Progressed
from lstmlm.training.fitting import fitted_vocabulary_size, regularized, shaped
from lstmlm.training.optimization import learning_rate

OTHER: dict[str, Any] = dict.fromkeys(FITTED, 0.77) | {
    "vocabulary_size": 555,
    "embedding_size": 77,
    "hidden_size": 99,
    "num_layers": 3,
    "batch_size": 7,
    "window": 33,
    "learning_rate": 0.0123,
    "embedding_init": "uniform",
    "traces": (7,),
}
"""For every setting that can be fitted, a value that no rule comes to (the last one: for words and bpe)."""

kinds = some.sampled_from(TOKENIZERS)
sizes = some.sampled_from([50, 400, 5_000, 200_000, 2_000_000, 100_000_000]) | some.integers(50, 100_000_000)
works = some.sampled_from([1.0, 20.0, 90.0, 600.0, 3600.0, 36_000.0]) | some.floats(1.0, 36_000.0)
epochs = some.floats(0.001, 1e5)
several = settings(max_examples=80, deadline=None)


def left_open(source: Path | str = "text.txt", kind: str = "bpe", *given: str, **training: Any) -> RunOptions:
    """Everything, but for what is `given` (as in `OTHER`)."""
    chosen = {name: OTHER[name] for name in given}
    of_model = {name: value for name, value in chosen.items() if name in ModelConfig.__dataclass_fields__}
    training = {"budget": 60.0} | {name: value for name, value in chosen.items() if name not in of_model} | training
    if training.keys() & {"steps", "epochs"}:
        del training["budget"]
    return RunOptions(
        sources=(str(source),),
        tokenizer=TokenizerConfig(kind=kind, vocabulary_size=chosen.get("vocabulary_size")),
        model=ModelConfig(**of_model),
        training=TrainConfig(**training),
        runtime=RuntimeConfig(device="cpu", precision="fp32", threads=1),
        fit=FITTED - set(given),
    )


def fitted(options: RunOptions, tokens: int, work: float, epochs: float = 3.0) -> RunOptions:
    return regularized(shaped(options, tokens, work), epochs)


def settings_of(options: RunOptions) -> dict[str, Any]:
    about = options.to_mapping()
    return about["model"] | about["training"] | {"vocabulary_size": about["tokenizer"]["vocabulary_size"]}


# -- the rules --------------------------------------------------------------------------------------------------------


@several
@given(kinds.filter(lambda kind: kind != "byte"), sizes, works, epochs, some.sets(some.sampled_from(sorted(FITTED))))
def test_what_was_given_is_never_touched(kind: str, tokens: int, work: float, epochs: float, given: set[str]) -> None:
    options = left_open("text.txt", kind, *given)
    before, after = settings_of(options), settings_of(fitted(options, tokens, work, epochs))
    assert {name: after[name] for name in given} == {name: OTHER[name] for name in given}
    assert {name for name in before if before[name] != after[name]} <= FITTED - given


@several
@given(kinds, sizes, works, epochs)
def test_every_text_and_every_time_has_settings_that_can_be_used(kind: str, tokens: int, work: float, epochs: float) -> None:
    """That their values are in range, the configurations see to themselves."""
    options = fitted(left_open("text.txt", kind), tokens, work, epochs)
    training = options.training
    batches = Batches(
        np.broadcast_to(np.uint16(0), tokens), batch_size=training.batch_size, window=training.window, eos=0, seed=1
    )
    assert batches.batch_size * batches.window <= tokens
    if tokens >= 1000:
        assert (batches.batch_size, batches.window) == (training.batch_size, training.window), "the text has room for them"
    assert RunOptions.from_mapping(options.to_mapping(), "here") == replace(options, fit=frozenset())
    assert 1e-5 < training.learning_rate < 0.1


@several
@given(kinds, sizes, works, works)
def test_more_work_never_makes_a_narrower_model_nor_a_larger_rate(kind: str, tokens: int, one: float, other: float) -> None:
    less, more = (fitted(left_open("text.txt", kind), tokens, work) for work in sorted((one, other)))
    assert less.model.hidden_size <= more.model.hidden_size
    assert less.training.learning_rate >= more.training.learning_rate
    assert less.training.batch_size <= more.training.batch_size


@several
@given(kinds, sizes, sizes, works)
def test_a_larger_text_never_makes_a_narrower_model_nor_a_smaller_vocabulary(
    kind: str, one: int, other: int, work: float
) -> None:
    small, large = sorted((one, other))
    assert fitted_vocabulary_size(small) <= fitted_vocabulary_size(large)
    smaller, larger = (fitted(left_open("text.txt", kind), tokens, work) for tokens in (small, large))
    assert smaller.model.hidden_size <= larger.model.hidden_size
    assert smaller.training.batch_size <= larger.training.batch_size


@several
@given(kinds, sizes, works)
def test_traces_are_for_the_words_of_texts_that_are_not_small(kind: str, tokens: int, work: float) -> None:
    traces = fitted(left_open("text.txt", kind), tokens, work).model.traces
    assert bool(traces) == (kind in ("bpe", "word") and tokens > 99_999)


@several
@given(kinds, epochs, epochs, some.sampled_from([1, 2]))
def test_more_passes_never_make_less_dropout(kind: str, one: float, other: float, layers: int) -> None:
    options = shaped(left_open("text.txt", kind), 100_000, 90.0)
    options = replace(options, model=replace(options.model, num_layers=layers))
    few, many = (regularized(options, epochs).model for epochs in sorted((one, other)))
    for name in ("dropout_input", "dropout_hidden", "dropout_weight", "dropout_output"):
        assert getattr(few, name) <= getattr(many, name)


@pytest.mark.parametrize("size", [1, 100, 10**6, 10**9, 10**12])
def test_a_vocabulary_can_be_trained(size: int) -> None:
    assert TokenizerConfig(kind="bpe", vocabulary_size=fitted_vocabulary_size(size))


def test_only_settings_that_rules_choose_can_be_left_open() -> None:
    with pytest.raises(UsageError, match="schedule cannot be fitted; expected some of averaging, batch_size"):
        RunOptions(sources=("text.txt",), training=TrainConfig(budget=60), fit=frozenset({"hidden_size", "schedule"}))


@several
@given(kinds, sizes, works)
def test_settings_follow_those_that_were_given(kind: str, tokens: int, work: float) -> None:
    """A wider model learns more slowly, a longer window leaves room for fewer streams."""
    options = left_open("text.txt", kind)
    narrow, wide = (
        shaped(replace(options, model=replace(options.model, hidden_size=width), fit=FITTED - {"hidden_size"}), tokens, work)
        for width in (64, 1024)
    )
    assert narrow.training.learning_rate >= wide.training.learning_rate
    assert narrow.model.embedding_size <= 64
    long = replace(options, training=replace(options.training, window=10_000), fit=FITTED - {"window"})
    assert shaped(long, tokens, work).training.batch_size <= shaped(options, tokens, work).training.batch_size


# -- runs -------------------------------------------------------------------------------------------------------------


def trained(run: Path, options: RunOptions) -> list[Event]:
    events = list(train(run, options))
    assert math.isfinite(of(Ended, events)[0].loss)
    return events


WAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{kind: (kind, {}, {}) for kind in TOKENIZERS},
    "one-hot": ("char", {"input": "one-hot", "tied": False}, {}),
    "gru": ("bpe", {"cell": "gru"}, {}),
    "rnn": ("char", {"cell": "rnn", "tied": False}, {}),
    "adaptive": ("word", {"softmax": "adaptive", "cutoffs": (5, 9)}, {}),
    "sampled": ("word", {}, {"negatives": 8}),
    "untied": ("word", {"tied": False}, {}),
    "sgd": ("char", {"residual": True}, {"optimizer": "sgd", "accumulate": 2, "vary_window": True}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_model_trains_when_fitted(source: Path, tmp_path: Path, way: str) -> None:
    kind, shape, training = WAYS[way]
    options = left_open(source, kind, steps=3, **training)
    options = replace(options, model=replace(options.model, **shape))
    events = trained(tmp_path / "run", options)
    (found,), (prepared,) = of(Fitted, events), of(Prepared, events)
    assert events.index(found) < events.index(prepared)
    fit, forecast = found.fit, found.fit.forecast
    assert prepared.model.config == fit.options.model == load_model(tmp_path / "run").model.config
    assert shape.items() <= settings_of(fit.options).items()
    assert fit.reasons
    assert all(fit.reasons)
    assert forecast.epochs > 0
    assert forecast.seconds is None, "of a number of steps it is not known"
    assert forecast.tokens_per_second > 0
    assert forecast.memory_bytes > 4 * prepared.model.num_parameters
    assert fit.seconds > 0
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["forecast"]
    assert recorded == {name: getattr(forecast, name) for name in ("epochs", "seconds", "tokens_per_second", "memory_bytes")}


@pytest.mark.parametrize("length", [{"steps": 5}, {"epochs": 1}], ids=str)
def test_a_number_of_steps_or_epochs_is_fitted_alike_every_time(
    source: Path, tmp_path: Path, length: dict[str, int]
) -> None:
    """And the fitted run is the one with these settings."""
    options = left_open(source, "bpe", **length)
    for name in ("one", "two"):
        trained(tmp_path / name, options)
    recorded = RunOptions.read(tmp_path / "one")
    assert recorded == RunOptions.read(tmp_path / "two")
    assert not of(Fitted, trained(tmp_path / "three", recorded))
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two") == outcome(tmp_path / "three")


def test_a_run_without_anything_to_fit_is_not_fitted(source: Path, tmp_path: Path) -> None:
    assert not of(Fitted, list(building.trained(tmp_path / "run", source, steps=1)))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["forecast"] is None


def test_a_given_vocabulary_is_the_one(source: Path, tmp_path: Path) -> None:
    trained(tmp_path / "open", left_open(source, "bpe", steps=1))
    options = left_open(source, "bpe", "vocabulary_size", "hidden_size", steps=1)
    trained(tmp_path / "chosen", replace(options, tokenizer=replace(options.tokenizer, vocabulary_size=270)))
    loaded = load_model(tmp_path / "chosen")
    assert (loaded.tokenizer.vocabulary_size, loaded.model.config.hidden_size) == (270, OTHER["hidden_size"])
    assert load_model(tmp_path / "open").tokenizer.vocabulary_size > 270


@pytest.mark.parametrize("epochs", [False, True])
def test_a_stopped_run_is_continued_as_it_was_fitted(source: Path, tmp_path: Path, epochs: bool) -> None:
    length: dict[str, Any] = {"epochs": 2} if epochs else {"steps": 12}
    options = left_open(source, "word", "hidden_size", **length, validate_every=4, checkpoint_every="3")
    options = replace(options, model=replace(options.model, hidden_size=16))
    trained(tmp_path / "whole", options)
    run = tmp_path / "run"
    stop_after(run, options, 4)
    about = (run / "run.json").read_bytes()
    with pytest.raises(UsageError, match="hidden size 16, not 24"):
        finish(run, replace(options, model=replace(options.model, hidden_size=24)))
    events = finish(run, options)
    assert not of(Fitted, events)
    assert of(Prepared, events)[0].resumed_at is not None
    assert (run / "run.json").read_bytes() == about
    found, whole = outcome(run), outcome(tmp_path / "whole")
    del found["kept"], whole["kept"]
    assert found == whole


def test_a_time_budget_pays_for_the_fit_and_is_continued(source: Path, tmp_path: Path, clock: building.Clock) -> None:
    budget, run = 0.15, tmp_path / "run"
    options = left_open(source, "char", "window", budget=budget, checkpoint_every="5", validate_every=10)
    events = trained(tmp_path / "whole", options)
    (found,), (ended,) = of(Fitted, events), of(Ended, events)
    assert found.fit.forecast.seconds == budget
    assert 0 < found.fit.seconds < 0.5 * budget
    assert all(event.seconds > found.fit.seconds for event in of(Progressed, events))
    assert ended.seconds <= 1.05 * budget
    stop_after(run, options, 5)
    recorded = RunOptions.read(run)
    assert settings_of(recorded) == settings_of(found.fit.options), "by this clock every machine is the same"
    assert of(Ended, finish(run, options))[0].seconds <= 1.05 * budget
    assert RunOptions.read(run) == recorded


@pytest.mark.parametrize("budget", [0.004, 0.2])
def test_the_schedule_begins_when_the_settings_are_chosen(
    source: Path, tmp_path: Path, clock: building.Clock, monkeypatch: pytest.MonkeyPatch, budget: float
) -> None:
    """Also where to choose them took longer than the budget: such a model is trained as well."""
    seen: list[float] = []

    def watched(config: TrainConfig, done: float) -> float:
        seen.append(done)
        return learning_rate(config, done)

    monkeypatch.setattr(trainer, "learning_rate", watched)
    options = left_open(source, "char", "window", "hidden_size", budget=budget, validate_every=10)
    events = trained(tmp_path / "run", options)
    (found,), (ended,) = of(Fitted, events), of(Ended, events)
    assert (found.fit.seconds > budget) == (budget < 0.01)
    assert seen[0] == 0.0
    assert seen == sorted(set(seen))
    assert ended.done == 1.0
    assert ended.seconds < found.fit.seconds + max(budget - found.fit.seconds, 0.5 * budget) + 0.01


@pytest.mark.usefixtures("clean_shell")
def test_the_command_fits_what_was_not_given(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--hidden", "24", "--lr", "0.0123", "--steps", "4", "--threads", "1", "--precision", "fp32", "--device", "cpu"]
    assert run_command(["train", str(source), "-o", "run", "--tokenizer", "char", *given]) == 0
    shown = capsys.readouterr().err
    assert "fitted" in shown
    assert "forecast" in shown
    options = json.loads(Path("run/run.json").read_text())["options"]
    assert (options["model"]["hidden_size"], options["training"]["learning_rate"]) == (24, 0.0123)
    assert "fit" not in options
    for again in ([], given, [str(source)]):
        assert run_command(["train", *again, "-o", "run", "--resume"]) == 0
    assert run_command(["train", "-o", "run", "--resume", "--hidden", "25"]) == 2
    assert run_command(["train", "-o", "run", "--resume", "--window", str(options["training"]["window"] + 1)]) == 2
    assert json.loads(Path("run/run.json").read_text())["options"] == options
