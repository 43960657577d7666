"""Validation while training: the exact score of the split or of its beginning; the figure at the end is of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import building
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from test_resume import outcome, stop_after
from test_training import metrics, of

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.cli.main import run as run_command
from lstmlm.corpus import TextCounts, open_corpus
from lstmlm.evaluation import evaluate
from lstmlm.model import LanguageModel
from lstmlm.scoring import score_segments
from lstmlm.token_store import TokenCounts, TokenStore
from lstmlm.training import train, validation
from lstmlm.training.events import Ended, Event, Validated
from lstmlm.training.validation import Validator

V = 30


def store(sizes: list[int]) -> TokenStore:
    """Random ids in files of these sizes."""
    ends = np.cumsum(sizes)
    ids = np.random.default_rng(3).integers(V, size=ends[-1]).astype(np.uint16)
    return TokenStore(ids, ends.tolist(), TokenCounts(len(ids), 0, 0), TextCounts(), "")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return building.model(V)


@settings(max_examples=25, deadline=None)
@given(some.lists(some.integers(0, 40), min_size=1, max_size=6).filter(any), some.data())
def test_a_part_is_scored_as_it_is_within_the_whole(model: LanguageModel, sizes: list[int], data: some.DataObject) -> None:
    """Whatever comes after a token has no part in its score; every file begins anew."""
    split = store(sizes)
    validator = Validator(split, eos=0)
    assert validator.total == sum(sizes)
    tokens = data.draw(some.integers(1, sum(sizes)))
    whole = score_segments(model, split.files, eos=0).nats_N
    assert validator.score(model, tokens) * tokens == pytest.approx(whole[:tokens].sum(), abs=1e-4)


def test_without_a_time_budget_or_with_little_text_everything_is_scored(model: LanguageModel) -> None:
    for budget, size in ((None, 50_000), (1.0, 4000), (1e-3, 1)):
        assert Validator(store([size]), eos=0).affordable(model, budget) == size


def test_the_whole_is_scored_at_the_end_where_the_budget_affords_it() -> None:
    """1,000 of 10,000 tokens in one second: the whole takes ten."""
    validator = Validator(store([10_000]), eos=0)
    assert validator.final_tokens(1000, 1.0, budget=None) == 10_000
    assert validator.final_tokens(1000, 1.0, budget=600.0) == 10_000
    assert validator.reserve(1000, 1.0, budget=600.0) == pytest.approx(11.0), "a last part, then the whole"
    assert validator.final_tokens(1000, 1.0, budget=20.0) == 1000
    assert validator.reserve(1000, 1.0, budget=20.0) == pytest.approx(1.0)
    assert validator.reserve(10_000, 10.0, budget=20.0) == pytest.approx(10.0)


def test_more_time_affords_more_tokens(model: LanguageModel, clock: building.Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which the machine scores a fixed number of tokens a second."""
    monkeypatch.setattr(validation, "_TRIAL_TOKENS", 20)
    validator = Validator(store([300, 700]), eos=0)
    affordable = [validator.affordable(model, budget) for budget in (1e-6, 0.01, 0.05, 0.1, 0.5, 1.0, 100.0)]
    assert affordable == sorted(affordable)
    assert affordable[0] >= 20
    assert affordable[-1] == validator.total == 1000
    assert len(set(affordable)) > 3
    assert affordable[4] / 20_000 < 0.05 * 0.5, "a small part of the time"


@pytest.mark.parametrize("cost", [0.0, 0.5, 20.0, 1e4])
def test_validations_take_a_small_part_of_the_time(cost: float) -> None:
    for budget in (1.0, 60.0, 3600.0):
        wait = Validator.wait(budget, cost)
        assert wait >= budget / 30
        assert cost / wait < 0.1


# -- in a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens that can be afforded: 60, and fewer if somebody asks again."""
    asked: list[int] = []

    def affordable(self: Validator, model: LanguageModel, budget: float | None) -> int:
        asked.append(60 - 20 * len(asked))
        return asked[-1]

    monkeypatch.setattr(Validator, "affordable", affordable)
    return asked


def of_best(run: Path, source: Path) -> float:
    """Nats per token, as `lstmlm eval --split valid` says them."""
    result = evaluate(load_model(run), open_corpus((str(source),)), "valid")
    return float(result["nll_nats"] / result["tokens"])


def worsen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part that is scored seems worse than the one before, by more than training can win."""
    score, calls = Validator.score, iter(range(1000))

    def worse(self: Validator, model: LanguageModel, tokens: int) -> float:
        return score(self, model, tokens) + (next(calls) if tokens < self.total else 0)

    monkeypatch.setattr(Validator, "score", worse)


@pytest.mark.parametrize("averaging", [0.0, 0.5])
@pytest.mark.parametrize("early", [True, False])
def test_the_final_figure_is_that_of_the_best_model_on_the_whole_split(
    source: Path, tmp_path: Path, part: list[int], monkeypatch: pytest.MonkeyPatch, early: bool, averaging: float
) -> None:
    """Of one that was saved earlier, or of the last one."""
    if early:
        worsen(monkeypatch)
    events = list(building.trained(tmp_path / "run", source, steps=30, learning_rate=0.02, averaging=averaging))
    (ended,), validated = of(Ended, events), of(Validated, events)
    assert {event.scored for event in validated} == {60}
    assert part == [60], "asked once: all validations of a run score the same tokens"
    best = min(validated, key=lambda event: event.loss)
    assert (best.step, ended.step) == (10 if early else 30, 30)
    assert ended.best_step == best.step
    assert ended.loss == pytest.approx(of_best(tmp_path / "run", source), abs=1e-9)
    assert ended.loss != pytest.approx(best.loss, abs=1e-3), "of 60 tokens it is another one"
    assert metrics(tmp_path / "run")[-1]["loss"] == ended.loss
    assert [line["scored"] for line in metrics(tmp_path / "run") if line["event"] == "validation"] == [60] * len(validated)


def test_a_whole_validation_is_the_final_figure(trained_run: Path) -> None:
    lines = metrics(trained_run)
    assert lines[-1]["loss"] == min(line["loss"] for line in lines if line["event"] == "validation")
    loaded = load_model(trained_run)
    tokens = evaluate(loaded, open_corpus(loaded.training["options"]["sources"]), "valid")["tokens"]
    assert {line["scored"] for line in lines if line["event"] == "validation"} == {tokens}


def test_it_is_the_figure_of_the_command(
    source: Path, tmp_path: Path, part: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    (ended,) = of(Ended, list(building.trained(tmp_path / "run", source, steps=20)))
    capsys.readouterr()
    assert run_command(["eval", str(tmp_path / "run"), "--split", "valid", "--json", "-"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["nll_nats"] / about["tokens"] == pytest.approx(ended.loss, abs=1e-9)


def test_a_continued_run_goes_on_with_the_same_part(source: Path, tmp_path: Path, part: list[int]) -> None:
    options = building.options(source, steps=24, validate_every=4, checkpoint_every="5", batch_size=2)
    list(train(tmp_path / "whole", options))
    part.clear()
    stop_after(tmp_path / "run", options, 9)
    events: list[Event] = list(train(tmp_path / "run", options, resume=True))
    assert part == [60]
    assert {event.scored for event in of(Validated, events)} == {60}
    found, whole = outcome(tmp_path / "run"), outcome(tmp_path / "whole")
    assert {name: part for name, part in found.items() if name != "kept"} == {
        name: part for name, part in whole.items() if name != "kept"
    }


def test_a_start_is_validated_once(start: LoadedModel, diary: Path, tmp_path: Path) -> None:
    """Not again by a run that was stopped right then."""
    options = building.warm(diary, start.path)
    list(train(tmp_path / "whole", options))
    stop_after(tmp_path / "run", options, 0)
    list(train(tmp_path / "run", options, resume=True))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(("budget", "whole"), [(0.3, False), (0.5, True)])
def test_a_time_budget_is_kept_with_the_final_figure(
    source: Path, tmp_path: Path, clock: building.Clock, monkeypatch: pytest.MonkeyPatch, budget: float, whole: bool
) -> None:
    """By a clock that every token scored takes on: 0.1 ms each, of about 300, which a twelfth of half a second affords."""
    score = Validator.score

    def slow(self: Validator, model: LanguageModel, tokens: int) -> float:
        clock.seconds += 1e-4 * tokens
        return score(self, model, tokens)

    monkeypatch.setattr(Validator, "score", slow)
    monkeypatch.setattr(validation, "_TRIAL_TOKENS", 16)
    options = building.options(source, budget=budget, learning_rate=0.02)
    options = replace(options, training=replace(options.training, validate_every=None))
    events = list(train(tmp_path / "run", options))
    (ended,), validated = of(Ended, events), of(Validated, events)
    assert {event.scored for event in validated} < set(range(16, 200)), "a part"
    assert 0.8 * budget < ended.seconds <= 1.02 * budget
    assert len(validated) > 3
    if whole:
        assert ended.loss == pytest.approx(of_best(tmp_path / "run", source), abs=1e-9)
    else:
        assert (ended.loss, ended.scored) == min((event.loss, event.scored) for event in validated)
