"""The checks of a report: they pass where all is well, and each fails for the fault that it is there for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch
from torch import Tensor

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import MODES
from lstmlm.evaluation.checks import self_checks
from lstmlm.evaluation.scored import Scored
from lstmlm.model import LanguageModel, State
from lstmlm.scoring import Scores
from lstmlm.token_store import ReadText

TEXT = building.text(60) + "a zebra can't"
NAMES = [
    "probabilities sum to 1",
    "causality, bit for bit",
    "batch and chunk size change nothing",
    "every token scored once",
    "the tokenizer is the model's",
    "dropout is off",
    "agrees with float64",
]
SHAPES: dict[str, dict[str, Any]] = {
    "two layers": {"num_layers": 2, "residual": True},
    "gru": {"cell": "gru"},
    "rnn": {"cell": "rnn", "scale": 1.0},
    "one-hot": {"input": "one-hot"},
    "adaptive": {"softmax": "adaptive", "cutoffs": (5, 12)},
    "traces": {"traces": (2, 30)},
}
Forward = Callable[[LanguageModel, Tensor, State], tuple[Tensor, State]]


def failed(scored: Scored) -> set[str]:
    return {check["name"] for check in self_checks(scored) if not check["passed"]}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # products this small are faster alone


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    return building.saved_model(tmp_path / "model", "bpe")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_all_pass_where_all_is_well(kind: str, mode: str, tmp_path: Path) -> None:
    model = building.saved_model(tmp_path / "model", kind)
    for documents in ("file", "blank-line"):
        checks = self_checks(building.scored(model, TEXT, mode, documents=documents))
        assert [check["name"] for check in checks] == NAMES
        assert {check["name"]: check["detail"] for check in checks if check["passed"] is not True} == {}
        assert all(check["detail"] for check in json.loads(json.dumps(checks)))


@pytest.mark.parametrize("shape", SHAPES)
def test_all_pass_for_every_kind_of_model(shape: str, tmp_path: Path) -> None:
    scored = building.scored(building.saved_model(tmp_path / "model", "char", **SHAPES[shape]), TEXT, "line")
    assert failed(scored) == set()


@pytest.mark.parametrize("text", ["a", "the cat", "\n\n\nthe cat\n\n"])
def test_a_short_text_can_be_checked_too(text: str, loaded: LoadedModel) -> None:
    assert failed(building.scored(loaded, text, "line")) == set()


def test_of_ngrams_is_checked_what_they_have() -> None:
    for kind in ("word", "bpe"):
        checks = self_checks(building.scored(building.ngram(kind), TEXT))
        assert [check["name"] for check in checks] == NAMES[:5]
        assert all(check["passed"] for check in checks)


def test_nothing_is_left_behind(loaded: LoadedModel) -> None:
    scored = building.scored(loaded, TEXT)
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    assert self_checks(scored) == self_checks(scored)
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in loaded.model.modules())


@pytest.mark.parametrize("share", [0.99, 1.01])
def test_a_normalizer_that_is_not_the_sum_fails(share: float, loaded: LoadedModel) -> None:
    """As that of a sampled softmax, of half precision, or of a probability that was kept above some least one."""
    scored = building.scored(loaded, TEXT)
    other = replace(scored, scores=Scores(scored.nats_N - np.log(share), scored.guesses))
    assert failed(other) == {"probabilities sum to 1", "batch and chunk size change nothing", "agrees with float64"}


def test_ngrams_whose_probabilities_are_no_distribution_fail() -> None:
    model = building.ngram("word")
    broken = replace(model, model=replace(model.model, uniform=2 * model.model.uniform))
    assert failed(building.scored(broken, TEXT)) == {"probabilities sum to 1"}


def test_products_in_half_precision_fail(loaded: LoadedModel) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scored = building.scored(loaded, TEXT)
    assert {"agrees with float64", "batch and chunk size change nothing"} <= failed(scored)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_model_that_sees_the_future_fails(steps: int, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step ahead, it sees just the token that it predicts."""
    own: Forward = LanguageModel.forward

    def ahead(model: LanguageModel, ids_TB: Tensor, state: State) -> tuple[Tensor, State]:
        features_TBF, after = own(model, ids_TB, state)
        return features_TBF + 1e-3 * ids_TB.roll(-steps, 0).unsqueeze(-1), after

    monkeypatch.setattr(LanguageModel, "forward", ahead)
    assert "causality, bit for bit" in failed(building.scored(loaded, TEXT))


def test_a_model_that_looks_at_its_neighbours_fails(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own: Forward = LanguageModel.forward

    def beside(model: LanguageModel, ids_TB: Tensor, state: State) -> tuple[Tensor, State]:
        features_TBF, after = own(model, ids_TB, state)
        return features_TBF + 1e-3 * features_TBF.mean(1, keepdim=True), after

    monkeypatch.setattr(LanguageModel, "forward", beside)
    assert failed(building.scored(loaded, TEXT, "stream")) == set()  # no neighbours
    assert "batch and chunk size change nothing" in failed(building.scored(loaded, TEXT, "line"))


def test_a_state_that_is_lost_between_chunks_fails(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own: Forward = LanguageModel.forward

    def forgetful(model: LanguageModel, ids_TB: Tensor, state: State) -> tuple[Tensor, State]:
        return own(model, ids_TB, tuple(torch.zeros_like(part) for part in state))

    monkeypatch.setattr(LanguageModel, "forward", forgetful)
    assert failed(building.scored(loaded, TEXT)) == {"batch and chunk size change nothing"}


def test_a_segment_that_is_scored_twice_fails(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ReadText.segments
    monkeypatch.setattr(ReadText, "segments", lambda read, mode: [*own(read, mode), own(read, mode)[-1]])
    scored = building.scored(loaded, TEXT, "line")
    assert "every token scored once" in failed(scored)
    once = next(check for check in self_checks(scored) if check["name"] == "every token scored once")
    tokens, last = len(scored.ids_N), int(np.diff(scored.read.line_ends_L)[-1])
    assert f"{tokens + last:,} surprisals, expected {tokens:,}" in once["detail"]


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_a_text_that_is_read_twice_fails(kind: str, tmp_path: Path) -> None:
    """All sums fit, but not to the text."""
    scored = building.scored(building.saved_model(tmp_path / "model", kind), TEXT)
    read, size = scored.read, len(scored.ids_N)
    ends = {name: np.append(getattr(read, name), getattr(read, name) + size) for name in ("file_ends_F", "line_ends_L")}
    doubled = replace(read, ids_N=np.tile(read.ids_N, 2), document_ends_D=ends["file_ends_F"], **ends)
    nats_N = np.tile(scored.nats_N, 2)
    assert failed(replace(scored, read=doubled, scores=Scores(nats_N, None))) == {"every token scored once"}


def test_a_line_that_is_lost_fails(loaded: LoadedModel) -> None:
    scored = building.scored(loaded, TEXT)
    read = replace(scored.read, line_words_L=scored.read.line_words_L[1:], line_ends_L=scored.read.line_ends_L[:-1])
    check = next(check for check in self_checks(replace(scored, read=read)) if check["name"] == "every token scored once")
    assert not check["passed"]
    assert "words in lines" in check["detail"]
    assert "targets in lines" in check["detail"]


def test_another_tokenizer_fails(loaded: LoadedModel) -> None:
    """One of the same kind and size."""
    scored = building.scored(loaded, TEXT)
    other = building.tokenizer("bpe", building.text().swapcase())
    assert other.vocabulary_size == loaded.tokenizer.vocabulary_size
    assert failed(replace(scored, loaded=replace(loaded, tokenizer=other))) >= {"the tokenizer is the model's"}


def test_tokens_that_the_tokenizer_would_not_make_fail(loaded: LoadedModel) -> None:
    """The same text, spelled byte by byte."""
    spelled = [*b"the cat sat on the mat .", loaded.tokenizer.eos]
    scored = building.scored(loaded, "the cat sat on the mat .")
    assert len(spelled) > len(scored.ids_N)
    end = np.array([len(spelled)])
    read = replace(scored.read, ids_N=np.array(spelled, np.uint16), file_ends_F=end, document_ends_D=end, line_ends_L=end)
    assert "the tokenizer is the model's" in failed(replace(scored, read=read, scores=Scores(np.ones(len(spelled)), None)))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_that_is_left_on_fails(dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training mode is noticed also where it changes no figure."""
    model = building.saved_model(tmp_path / "model", "bpe", dropout_hidden=dropout, dropout_output=dropout, num_layers=2)
    monkeypatch.setattr(model.model, "eval", model.model.train)
    found = failed(building.scored(model, TEXT))
    assert found == {"dropout is off"} if dropout == 0.0 else "dropout is off" in found


def test_weights_that_have_changed_since_fail(loaded: LoadedModel) -> None:
    scored = building.scored(loaded, TEXT)
    with torch.no_grad():
        loaded.model.output.bias[0] += 0.5
    assert failed(scored) == {"probabilities sum to 1", "batch and chunk size change nothing", "agrees with float64"}
