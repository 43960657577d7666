"""What `lstmlm tune` finds, and the rows of `lstmlm eval` that stand on it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest

from lstmlm import storage, tuning
from lstmlm.adaptation import load_adaptation
from lstmlm.adaptation.mixture import ROWS
from lstmlm.adaptation.rows import Reading, mix_row, read_parts
from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.cli.main import run
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation import evaluate
from lstmlm.scoring import score_segments
from lstmlm.storage import lock
from lstmlm.token_store import read_segments
from lstmlm.tuning import Tried, Tuned, tune

Out = pytest.CaptureFixture[str]


@pytest.fixture
def model(trained_run: Path, tmp_path: Path) -> LoadedModel:
    """A trained model of one's own, to add to."""
    shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    return load_model(tmp_path / "run")


def figures(model: LoadedModel, capsys: Out, *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["eval", str(model.path), *options, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("lowest", [0.5, 3.0, 8.0, 100.0])
def test_the_search_goes_to_the_lowest(lowest: float) -> None:
    tried = []

    def measure(value: float) -> Tried:
        tried.append(value)
        return Tried("cache", {"window": value}, abs(math.log(value / lowest)))

    search = tuning._best(measure(3.0), 2.0, measure, "window")
    while True:
        try:
            next(search)
        except StopIteration as end:
            found = end.value.setting["window"]
            break
    assert abs(math.log2(found / lowest)) <= 0.5
    assert len(tried) == len(set(tried))


def test_tuning_never_makes_the_text_it_tunes_on_less_likely(model: LoadedModel) -> None:
    events = list(tune(model))
    (tuned,) = [event for event in events if isinstance(event, Tuned)]
    _, valid, sha256 = tuning._texts(model)
    assert tuned.adaptation.tuned_on == {
        "split": "valid",
        "sha256": sha256,
        "tokens": sum(map(len, valid)),
        "tokens_dynamic": sum(map(len, valid)),
    }
    assert set(tuned.adaptation.weights) == {row.name for row in ROWS}
    static = math.exp(score_segments(model.model, valid, eos=model.tokenizer.eos).nats_N.mean())
    last = {event.row: event.perplexity for event in events if isinstance(event, Tried)}
    assert all(last[name] <= static * (1 + 1e-3) for name in ("cache", "model+ngram", "cache+ngram"))
    assert last["cache+dynamic"] <= last["dynamic"] * (1 + 1e-3)
    assert last["cache+ngram"] <= last["cache"] * (1 + 1e-3)
    assert sum(tuned.adaptation.weights["cache+dynamic+ngram"].values()) == pytest.approx(1)


def test_what_learns_stands_below_the_model_on_the_same_tokens(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_DYNAMIC_TOKENS", 40)
    tried = [event for event in tune(model) if isinstance(event, Tried)]
    _, valid, _ = tuning._texts(model)
    nats_N = score_segments(model.model, tuning._beginning(valid, 40), eos=model.tokenizer.eos).nats_N
    above = None
    for event in tried:
        if event.row == "model":
            above = event
        elif "dynamic" in event.row:
            assert above is not None
            assert (above.setting, above.perplexity) == ({"tokens": 40}, pytest.approx(math.exp(nats_N.mean())))


def test_rows_stand_beside_the_headline(model: LoadedModel, capsys: Out) -> None:
    alone = figures(model, capsys)
    assert alone["rows"] == {}
    assert run(["tune", str(model.path)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "tuned in" in err
    all_rows = figures(model, capsys, "--cache", "--dynamic", "--ngram")
    assert list(all_rows["rows"]) == [row.name for row in ROWS]
    assert all_rows["nll_nats"] == alone["nll_nats"]
    some = figures(model, capsys, "--cache", "--ngram")
    assert list(some["rows"]) == ["cache", "ngram", "model+ngram", "cache+ngram"]
    for name, row in some["rows"].items():
        assert row["nll_nats"] == pytest.approx(all_rows["rows"][name]["nll_nats"])
        assert row["perplexity"] == pytest.approx(math.exp(row["nll_nats"] / some["tokens"]))
        assert row["bits_per_byte"] == pytest.approx(row["nll_nats"] / math.log(2) / some["text"]["bytes"])
    assert set(some["rows"]["cache"]["parameters"]["cache"]) == {"window", "sharpness"}
    assert sum(some["rows"]["cache+ngram"]["parameters"]["weights"].values()) == pytest.approx(1)


def test_what_adapts_begins_anew_where_the_state_does(model: LoadedModel, tmp_path: Path, capsys: Out) -> None:
    assert run(["tune", str(model.path)]) == 0
    path = tmp_path / "whole.txt"
    path.write_text(building.text(9) + "the end\n")
    by_line = figures(model, capsys, str(path), "--cache", "--dynamic", "--ngram", "--mode", "line")["rows"]
    adaptation, eos = load_adaptation(load_model(model.path)), model.tokenizer.eos
    segments, _ = read_segments(model.tokenizer, open_texts([path], CorpusConfig(), None).files("test"), "line")
    assert len(segments) == 10
    for row in ROWS:
        nats = 0.0
        for segment in segments:
            static = Reading(np.exp(-score_segments(model.model, [segment], eos=eos).nats_N), 0.0)
            readings = {"model": static} | read_parts(model.model, eos, adaptation, [segment], [row])
            nats -= float(np.log(mix_row(row, readings, adaptation).probabilities_N).sum())
        assert by_line[row.name]["nll_nats"] == pytest.approx(nats, rel=1e-5)


def test_the_rows_are_drawn(model: LoadedModel, capsys: Out) -> None:
    assert run(["tune", str(model.path)]) == 0
    capsys.readouterr()
    assert run(["eval", str(model.path), "--cache", "--dynamic", "--ngram"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{row.name} " in out for row in ROWS)
    assert "All tuned on validation text." in out
    assert "dynamic: segment 20, learning rate" in out


def test_figures_that_flatter_say_so(model: LoadedModel, capsys: Out) -> None:
    assert run(["tune", str(model.path)]) == 0
    assert not any("flatters" in warning for warning in figures(model, capsys, "--cache")["warnings"])
    assert "were tuned on this text" in figures(model, capsys, "--cache", "--split", "valid")["warnings"][-1]
    assert not any("tuned" in warning for warning in figures(model, capsys, "--split", "valid")["warnings"])
    assert "trained on" in figures(model, capsys, "--ngram", "--split", "train")["warnings"][-1]


def test_a_directory_that_cannot_be_added_to_is_refused_before_the_work(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setattr(storage.os, "access", lambda path, mode: False)
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("worked first"))
    assert run(["tune", str(model.path)]) == 5
    assert "cannot be written to" in capsys.readouterr().err


def test_the_beginnings_of_several_texts_are_shared_fairly() -> None:
    texts = [np.arange(length, dtype=np.uint16) for length in (5, 100, 1, 40)]
    assert [len(ids) for ids in tuning._beginning(texts, 60)] == [1, 5, 27, 27]
    assert [len(ids) for ids in tuning._beginning(texts, 1000)] == [1, 5, 40, 100]


def test_unknown_parts_are_refused(model: LoadedModel, source: Path) -> None:
    corpus = open_texts([source], CorpusConfig(), None)
    for asked in (["neural-cache"], "cache"):
        with pytest.raises(UsageError, match="expected some of cache, dynamic, ngram"):
            evaluate(model, corpus, adapt=asked)


def test_rows_need_what_was_tuned(model: LoadedModel, capsys: Out) -> None:
    assert run(["eval", str(model.path), "--cache"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "lstmlm tune" in err


def test_ngrams_do_not_adapt(model: LoadedModel, source: Path, tmp_path: Path, capsys: Out) -> None:
    assert run(["ngram", str(source), "-o", str(tmp_path / "ngrams")]) == 0
    capsys.readouterr()
    assert run(["eval", str(tmp_path / "ngrams"), "--cache"]) == 2
    assert "expected a neural one" in capsys.readouterr().err
    assert run(["tune", str(tmp_path / "ngrams")]) == 4


def test_a_model_without_its_text_cannot_be_tuned(
    model: LoadedModel, trained_run: Path, word_model: LoadedModel, capsys: Out
) -> None:
    with pytest.raises(UsageError, match="does not know what it was trained on"):
        list(tune(word_model))
    text = trained_run.parent / "text.txt"
    before = text.read_text()
    try:
        text.write_text(before.replace("cat", "cow"))
        with pytest.raises(DataError, match="has changed since"):
            list(tune(model))
    finally:
        text.write_text(before)


def test_a_run_that_trains_is_left_alone(model: LoadedModel, capsys: Out) -> None:
    with lock(model.path.parent):
        assert run(["tune", str(model.path.parent)]) == 3
    assert not (model.path / "adaptation.json").exists()


def test_the_same_text_gives_the_same_parameters(model: LoadedModel) -> None:
    first, second = (next(e for e in tune(model) if isinstance(e, Tuned)).adaptation for _ in range(2))
    assert (first.cache, first.dynamic, first.weights) == (second.cache, second.dynamic, second.weights)
