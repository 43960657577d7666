"""Several runs of one configuration: what `lstmlm eval RUN,RUN TEXT` says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.cli.main import run
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.errors import UsageError
from lstmlm.evaluation import evaluate
from lstmlm.evaluation.seeds import FIGURES, differ_in_more


def test_every_run_has_its_own_figures(pair: list[LoadedModel], source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ", ".join(str(loaded.path.parent) for loaded in pair)  # a space is no part of a name
    assert run(["eval", paths, str(source), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    alone = [evaluate(loaded, open_texts([source], CorpusConfig(), None)) for loaded in pair]
    seeds = found["seeds"]
    assert [(one["seed"], one["sha256"]) for one in seeds["runs"]] == [(1, pair[0].sha256), (2, pair[1].sha256)]
    for name in FIGURES:
        part = name.removeprefix("perplexity_")
        expected = [one["bits_per_byte"] if name == "bits_per_byte" else one["perplexity"][part] for one in alone]
        assert expected[0] != expected[1]
        assert [one[name] for one in seeds["runs"]] == pytest.approx(expected)
        assert seeds["mean"][name] == pytest.approx(np.mean(expected))
        assert seeds["sd"][name] == pytest.approx(np.std(expected, ddof=1))
    assert found["nll_nats"] == alone[0]["nll_nats"]  # the headline is that of the first
    assert found["warnings"] == alone[0]["warnings"]


def test_what_differs_in_more_than_its_seed_is_said_to(pair: list[LoadedModel], source: Path, tmp_path: Path) -> None:
    building.trained(tmp_path / "longer", tmp_path / "train.txt", "bpe", steps=6, validate_every=2, seed=3)
    corpus = open_texts([source], CorpusConfig(), None)
    found = evaluate(pair[0], corpus, others=[load_model(tmp_path / "longer")])
    assert found["warnings"][-1] == "the runs differ in more than their seed"


@pytest.mark.parametrize("changes", [{"text_sha256": {"train": "0"}}, {"options": {"start_sha256": "0"}}, {"parameters": 1}])
def test_other_text_another_start_and_another_size_are_more_than_a_seed(
    changes: dict[str, Any], pair: list[LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not differ_in_more(pair)
    about = {**pair[1].training, "text_sha256": pair[1].training["text_sha256"] | changes.get("text_sha256", {})}
    about["options"] = about["options"] | changes.get("options", {})
    if "parameters" in changes:
        monkeypatch.setattr(type(pair[1].model), "num_parameters", property(lambda model: id(model)))
    assert differ_in_more([pair[0], replace(pair[1], training=about)])


def test_what_cannot_be_runs_of_one_configuration_is_refused(
    pair: list[LoadedModel], word_model: LoadedModel, source: Path
) -> None:
    for other, message in ((pair[0], "names the same weights twice"), (word_model, "have different tokenizers")):
        with pytest.raises(UsageError, match=message):
            evaluate(pair[0], open_texts([source], CorpusConfig(), None), others=[other])


@pytest.mark.parametrize("limit", ["--fail-above", "--baseline"])
def test_a_limit_is_for_one_run(
    limit: str, pair: list[LoadedModel], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "90").write_text("{}")
    paths = ",".join(str(loaded.path.parent) for loaded in pair)
    assert run(["eval", paths, str(source), limit, str(tmp_path / "90") if limit == "--baseline" else "90"]) == 2
    assert "--fail-above and --baseline judge one model; expected one run" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["eval", "compare"])
def test_a_run_without_a_name_is_none(
    command: str, pair: list[LoadedModel], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [f"{pair[0].path},"] + [str(pair[1].path)] * (command == "compare")
    assert run([command, *models, str(source)]) == 2
    assert "names a run without a name; expected RUN, or RUN,RUN" in capsys.readouterr().err
