"""A run from the first step to the last: what it yields, writes and keeps, and what it does when numbers break."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import pytest
import torch
from test_storage import FaultyOs

from lstmlm import storage
from lstmlm.checkpoint import load_model, read_tensors
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_corpus
from lstmlm.errors import DataError, DivergedError, StorageError, UsageError
from lstmlm.evaluation import evaluate
from lstmlm.model import LanguageModel
from lstmlm.training import train
from lstmlm.training.events import Ended, Event, Prepared, RolledBack, Saved, Stepped, Validated, Warned

KEYS = {
    "step": {"loss", "perplexity", "learning_rate", "tokens_per_second", "gradient_norm"},
    "validation": {"loss", "perplexity"},
    "checkpoint": set(),
    "end": {"loss", "perplexity"},
}


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def steps(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("*step-*"))


def of(kind: type, events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_the_loss_falls_on_simple_text(source: Path, tmp_path: Path) -> None:
    events = list(building.trained(tmp_path / "run", source, steps=100, learning_rate=0.05, window=16, batch_size=8))
    losses = [event.loss for event in of(Validated, events)]
    assert losses[0] > 2.0
    assert min(losses) < 1.5
    reported = [event.loss for event in of(Stepped, events)]
    assert reported[-1] < 0.8 * reported[0]


def test_every_metrics_line_has_the_documented_keys(trained_run: Path) -> None:
    lines = metrics(trained_run)
    assert {line["event"] for line in lines} == set(KEYS)
    for line in lines:
        assert line.keys() >= {"event", "step", "epoch", "tokens", "seconds"} | KEYS[line["event"]]
        if "loss" in line:
            assert line["perplexity"] == pytest.approx(math.exp(line["loss"]))
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[-1]["event"] == "end"


def test_tokens_and_epochs_are_counted(tmp_path: Path, source: Path) -> None:
    events = list(building.trained(tmp_path / "run", source, epochs=2, batch_size=8, window=64))
    (prepared,), (ended,) = of(Prepared, events), of(Ended, events)
    per_epoch = len(prepared.stores["train"].ids) // 8 * 8
    assert (ended.tokens, ended.epoch) == (2 * per_epoch, 2)
    assert ended.step == prepared.total_steps == 2 * prepared.batches.windows_per_epoch


def test_validation_is_what_eval_reports(trained_run: Path) -> None:
    best = min((line for line in metrics(trained_run) if line["event"] == "validation"), key=lambda line: line["loss"])
    loaded = load_model(trained_run)
    assert loaded.training["step"] == best["step"]
    result = evaluate(loaded, open_corpus(loaded.training["options"]["sources"]), "valid")
    assert result["nll_nats"] / result["tokens"] == pytest.approx(best["loss"], abs=1e-6)


def test_validation_keeps_files_apart_as_eval_does(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(building.text(160 if name == "one" else 120))
    options = building.options(tmp_path / "one.txt", steps=10, validate_every=10)
    options = replace(options, sources=(*options.sources, str(tmp_path / "two.txt")))
    (validated,) = of(Validated, list(train(tmp_path / "run", options)))
    result = evaluate(load_model(tmp_path / "run"), open_corpus(options.sources), "valid")
    assert result["text"]["documents"] == 2
    assert result["nll_nats"] / result["tokens"] == pytest.approx(validated.loss, abs=1e-9)


def test_best_points_to_the_best_and_only_it_and_the_two_newest_stay(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # a learning rate that soon does harm: the best model is an early one
    for event in train(run, building.options(source, steps=60, learning_rate=0.3, schedule="constant", patience=0)):
        if isinstance(event, Saved):
            assert os.readlink(run / "best") == f"step-{best_so_far(run):09d}"
    assert steps(run) == [f"step-{step:09d}" for step in sorted({best_so_far(run), 50, 60})]
    assert load_model(run).training["step"] == best_so_far(run)
    assert not list(run.rglob(".tmp-*"))


def best_so_far(run: Path) -> int:
    return min((line for line in metrics(run) if line["event"] == "validation"), key=lambda line: line["loss"])["step"]


def test_patience_ends_the_run_early(source: Path, tmp_path: Path) -> None:
    events = list(
        building.trained(
            tmp_path / "run", source, steps=500, validate_every=5, patience=3, learning_rate=3.0, schedule="constant"
        )
    )
    (ended,) = of(Ended, events)
    assert ended.early
    assert ended.step == ended.best_step + 3 * 5 < 500
    assert [event.best for event in of(Validated, events)][-3:] == [False] * 3
    assert ended.loss == min(event.loss for event in of(Validated, events))


def test_a_time_budget_ends_the_run(source: Path, tmp_path: Path, clock: building.Clock) -> None:
    events = list(building.trained(tmp_path / "run", source, budget=0.3))
    (ended,) = of(Ended, events)
    assert not ended.early
    assert 0.27 <= ended.seconds < 0.31
    assert of(Prepared, events)[0].total_steps is None
    rates = [event.learning_rate for event in of(Stepped, events)]
    assert rates[-1] < max(rates)
    load_model(tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_optimizer_and_cell(source: Path, tmp_path: Path, optimizer: str, cell: str) -> None:
    shape = {"cell": cell, "num_layers": 2, "residual": cell == "gru", "dropout_hidden": 0.1}
    building.trained(tmp_path / "run", source, model_config=shape, optimizer=optimizer, steps=3, learning_rate=1e-3)
    assert load_model(tmp_path / "run").model.config.cell == cell


@pytest.mark.parametrize("kind", ["bpe", "word", "char", "byte"])
@pytest.mark.parametrize("input", ["embedding", "one-hot"])
def test_every_tokenizer_and_input(source: Path, tmp_path: Path, kind: str, input: str) -> None:
    shape = {"input": input, "tied": input == "embedding"}
    building.trained(tmp_path / "run", source, kind, model_config=shape, steps=3)
    loaded = load_model(tmp_path / "run")
    assert (loaded.tokenizer.kind, loaded.model.config.input) == (kind, input)


def test_the_test_split_is_not_looked_at(tmp_path: Path) -> None:
    results = []
    for name, held_out in (("a", "the cat .\n"), ("b", "a dog saw the man .\n" * 9)):
        folder = tmp_path / name
        folder.mkdir()
        for split, content in (("train", building.text()), ("valid", building.text(9)), ("test", held_out)):
            (folder / f"{split}.txt").write_text(content)
        building.trained(tmp_path / f"run-{name}", folder, steps=10)
        results.append(load_model(tmp_path / f"run-{name}").sha256)
    assert results[0] == results[1]


@pytest.mark.parametrize("content", ["a b\nc d\n", "x\ny\n", "one two\n" * 3, "\n\nword\n\nword\n"])
@pytest.mark.parametrize("kind", ["char", "word", "byte", "bpe"])
def test_a_few_words_are_enough(tmp_path: Path, content: str, kind: str) -> None:
    (tmp_path / "few.txt").write_text(content)
    events = building.trained(tmp_path / "run", tmp_path / "few.txt", kind, steps=3)
    (ended,) = of(Ended, list(events))
    assert math.isfinite(ended.loss)


@pytest.mark.parametrize(
    ("content", "said"), [("", "is empty"), ("\n \t\n", "white space"), ("one line\n", "single line"), ("x", "single line")]
)
def test_too_little_text_is_a_clear_error_and_leaves_nothing(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "little.txt").write_text(content)
    with pytest.raises(DataError, match=said) as caught:
        building.trained(tmp_path / "run", tmp_path / "little.txt")
    assert len(str(caught.value).splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_a_source_without_validation_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "the only document"}\n')
    with pytest.raises(DataError):
        building.trained(tmp_path / "run", tmp_path / "text.jsonl")
    assert not (tmp_path / "run").exists()


# -- numbers that are not finite --------------------------------------------------------------------------------------


class Poison:
    """Makes the loss of chosen calls of the model in training NaN; counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
        self.call = 0
        forward = LanguageModel.forward

        def poisoned(model: LanguageModel, ids_TB: torch.Tensor, state: Any) -> Any:
            hidden_TBH, after = forward(model, ids_TB, state)
            if not model.training:
                return hidden_TBH, after
            self.call += 1
            return hidden_TBH * (math.nan if self.call in calls else 1.0), after

        monkeypatch.setattr(LanguageModel, "forward", poisoned)


def weights_on_disk(run: Path) -> Iterator[torch.Tensor]:
    for path in run.rglob("*.safetensors"):
        yield from read_tensors(path).values()


WAYS: list[dict[str, Any]] = [{}, {"negatives": 8, "averaging": 0.5}]


@pytest.mark.parametrize("training", WAYS, ids=str)
def test_up_to_three_bad_steps_in_a_row_are_left_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    Poison(monkeypatch, {5, 6, 7, 20})
    events = list(building.trained(tmp_path / "run", source, **training))
    assert not of(RolledBack, events)
    assert of(Ended, events)[0].step == 40
    assert all(bool(tensor.isfinite().all()) for tensor in weights_on_disk(tmp_path / "run"))


@pytest.mark.parametrize("training", WAYS, ids=str)
def test_a_bad_step_changes_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    building.trained(tmp_path / "short", source, steps=3, schedule="constant", warmup=0.0, **training)
    Poison(monkeypatch, {4})
    building.trained(tmp_path / "long", source, steps=4, schedule="constant", warmup=0.0, **training)
    short, long = (tmp_path / name / f"step-00000000{step}" for name, step in (("short", 3), ("long", 4)))
    assert (short / "training.safetensors").read_bytes() == (long / "training.safetensors").read_bytes()
    if "averaging" not in training:  # the weights stand there too, and the model's are their mean
        assert (short / "model.safetensors").read_bytes() == (long / "model.safetensors").read_bytes()


@pytest.mark.parametrize("training", WAYS, ids=str)
def test_four_bad_steps_go_back_once_with_half_the_learning_rate(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    Poison(monkeypatch, {15, 16, 17, 18})
    events = list(building.trained(run, source, schedule="constant", warmup=0.0, learning_rate=0.01, **training))
    (back,) = of(RolledBack, events)
    assert (back.step, back.learning_rate_scale) == (10, 0.5)
    assert "nan" in back.symptom
    assert {event.learning_rate for event in of(Stepped, events)} == {0.005}
    assert of(Ended, events)[0].step == 40
    lines = metrics(run)
    assert [line["event"] for line in lines].count("rollback") == 1
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


def test_bad_steps_before_the_first_checkpoint_begin_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Poison(monkeypatch, {1, 2, 3, 4})
    events = list(building.trained(tmp_path / "run", source))
    assert [event.step for event in of(RolledBack, events)] == [0]
    assert of(Ended, events)


def test_going_back_twice_is_divergence(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    Poison(monkeypatch, set(range(15, 1000)))
    with pytest.raises(DivergedError, match=r"diagnostics\.json") as caught:
        building.trained(run, source)
    assert caught.value.exit_code == 7
    diagnostics = json.loads((run / "diagnostics.json").read_text())
    assert diagnostics["standing"]["learning_rate_scale"] == 0.5
    assert diagnostics.keys() >= {"symptom", "weight_norms", "options"}
    assert load_model(run).training["step"] == 10
    assert all(bool(tensor.isfinite().all()) for tensor in weights_on_disk(run))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_an_absurd_learning_rate_diverges_with_finite_weights(source: Path, tmp_path: Path, optimizer: str) -> None:
    run = tmp_path / "run"
    with pytest.raises(DivergedError):
        building.trained(run, source, optimizer=optimizer, learning_rate=1e6, steps=200, patience=0)
    assert all(bool(tensor.isfinite().all()) for tensor in weights_on_disk(run))
    assert json.loads((run / "diagnostics.json").read_text())["symptom"]


def test_metrics_stay_json_when_figures_exceed_every_float(source: Path, tmp_path: Path) -> None:
    run, spoilt = tmp_path / "run", False
    for event in train(run, building.options(source, checkpoint_every="30")):
        if isinstance(event, Prepared):
            model = event.model
        elif isinstance(event, Stepped) and not spoilt:
            spoilt = True
            with torch.no_grad():  # every other symbol now costs 1e5 nats
                model.output.bias[0] = 1e5
    assert [line["event"] for line in metrics(run)].count("rollback") == 1
    assert all(line["perplexity"] is not None for line in metrics(run) if "loss" in line)  # what was undone is gone
    assert metrics(run)[-1]["event"] == "end"


def test_broken_weights_are_never_saved(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def train_and_break() -> None:
        for event in train(run, building.options(source)):
            if isinstance(event, Prepared):
                bias_V = event.model.output.bias
            elif isinstance(event, Validated):
                with torch.no_grad():
                    bias_V[0] = math.inf

    with pytest.raises(DivergedError):
        train_and_break()
    assert all(bool(tensor.isfinite().all()) for tensor in weights_on_disk(run))


# -- a disk that says no ----------------------------------------------------------------------------------------------


def full_disk(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """Every write into a directory whose name contains `wanted` finds no space."""
    real = storage._write_synced

    def write(path: Path, data: bytes) -> None:
        if wanted in str(path.parent.name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    monkeypatch.setattr(storage, "_write_synced", write)


def test_a_failed_periodic_save_warns_and_the_next_one_is_tried(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    full_disk(monkeypatch, "step-000000020")
    events = list(building.trained(run, source))
    (warned,) = [event for event in of(Warned, events) if "could not be saved" in event.message]
    assert "step-000000020 (" in warned.message
    assert steps(run) == ["step-000000030", "step-000000040"]
    assert not list(run.glob(".tmp-*"))


def test_a_failed_final_save_names_the_path_and_the_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    full_disk(monkeypatch, "step-000000040")
    with pytest.raises(StorageError, match=r"run/step-000000040 \([\d,]+ bytes\): No space left") as caught:
        building.trained(run, source)
    assert caught.value.exit_code == 5
    assert load_model(run).training["step"] == 30
    monkeypatch.undo()
    (ended,) = of(Ended, list(train(run, building.options(source), resume=True)))
    assert ended.step == 40


def test_any_operation_may_fail_while_a_run_saves(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever one fails: the run ends well, or with an error that says so, and can always be continued to its end."""
    options = building.options(source, steps=4, validate_every=2, checkpoint_every="2", batch_size=2)
    proxy = FaultyOs(0, OSError())
    with monkeypatch.context() as patch:
        patch.setattr(storage, "os", proxy)
        wanted = {event.step for event in train(tmp_path / "whole", options) if isinstance(event, Saved)}
    for number in range(1, proxy.calls + 1, 3):
        run = tmp_path / f"run-{number}"
        with monkeypatch.context() as patch:
            patch.setattr(storage, "os", FaultyOs(number, OSError(errno.EIO, os.strerror(errno.EIO))))
            with contextlib.suppress(StorageError):
                list(train(run, options))
        list(train(run, options, resume=True))
        final = load_model(run)
        assert final.training["step"] in wanted, number
        assert read_tensors(run / "step-000000004" / "model.safetensors").keys()


def test_a_run_below_a_file_fails_before_training(source: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        building.trained(source / "run", source)


def test_a_missing_source_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        building.trained(tmp_path / "run", tmp_path / "none.txt")
    assert not (tmp_path / "run").exists()


def test_the_document_rule_travels_with_the_model(source: Path, tmp_path: Path) -> None:
    options = replace(building.options(source, steps=3), corpus=CorpusConfig(documents="blank-line"))
    list(train(tmp_path / "run", options))
    assert load_model(tmp_path / "run").documents == "blank-line"
