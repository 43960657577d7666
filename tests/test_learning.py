"""Training runs side by side: losses against seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import building
import pytest

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.comparison import compare, learning
from lstmlm.config import CorpusConfig
from lstmlm.corpus import Corpus, open_texts
from lstmlm.report.plots import plot


def logged(run: Path, losses: Sequence[tuple[float, float]], scored: int = 89) -> None:
    """Put another log in the place of a run's: losses after some seconds."""
    events = [
        {"event": "validation", "step": number, "tokens": 10 * number, "seconds": seconds, "loss": loss, "scored": scored}
        for number, (seconds, loss) in enumerate(losses, 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*events, {"event": "end"}]))


def opened(path: Path) -> Corpus:
    return open_texts([path], CorpusConfig(documents="blank-line"), None)


def test_training_runs_stand_side_by_side(pair: list[LoadedModel], source: Path) -> None:
    runs = [loaded.path.parent for loaded in pair]
    logged(runs[0], [(1.0, 3.0), (4.0, 2.5), (8.0, 2.75)])
    logged(runs[1], [(3.0, 2.0), (3.5, 1.0)])
    found = compare(pair, opened(source))["training"]
    assert found["seconds"] == [1.0, 2.0, 4.0, 8.0]
    first, second = found["perplexity"]
    assert first == pytest.approx([math.exp(3), math.exp(3), math.exp(2.5), math.exp(2.5)])
    assert second == [None, None, math.e, math.e]
    assert found["curves"][1]["points"][0] == {"seconds": 3.0, "step": 1, "tokens": 10, "loss": 2.0, "scored": 89}
    together = learning.training_comparison([pair])
    assert together is not None
    assert together["perplexity"] == [[None, None, pytest.approx(math.exp(1.75)), pytest.approx(math.exp(1.75))]]


def test_runs_that_differ_in_more_than_their_seed_are_said_to(pair: list[LoadedModel], source: Path, tmp_path: Path) -> None:
    building.trained(tmp_path / "longer", tmp_path / "train.txt", "bpe", steps=6, validate_every=2, seed=3)
    longer = load_model(tmp_path / "longer")
    said = "the runs of B differ in more than their seed"
    for runs, warned in ((pair, False), ([pair[0], longer], True)):
        assert (said in compare([longer, runs], opened(source), names=["A", "B"])["warnings"]) == warned


def test_losses_of_other_tokens_do_not_stand_side_by_side(
    pair: list[LoadedModel], bpe_model: LoadedModel, tmp_path: Path
) -> None:
    assert learning.training_comparison([[pair[0]], [bpe_model]]) is None  # not of a run
    found = learning.training_comparison([[pair[0]], [pair[1]]])
    assert found is not None
    assert found["left_out"] is None
    logged(pair[1].path.parent, [(1.0, 2.0)], scored=50)
    found = learning.training_comparison([[pair[0]], [pair[1]]])
    assert found is not None
    assert "parts of different length" in found["left_out"]
    assert (found["seconds"], found["perplexity"]) == ([], [[], []])
    building.trained(tmp_path / "char", tmp_path / "train.txt", "char", steps=4, validate_every=2)
    found = learning.training_comparison([[pair[0]], [load_model(tmp_path / "char")]])
    assert found is not None
    assert "different tokenizers" in found["left_out"]
    (tmp_path / "other.txt").write_text(building.text(200))
    for name in ("train", "other"):
        building.trained(tmp_path / f"byte-{name}", tmp_path / f"{name}.txt", "byte", steps=4, validate_every=2)
    found = learning.training_comparison([[load_model(tmp_path / f"byte-{name}")] for name in ("train", "other")])
    assert found is not None
    assert "different text" in found["left_out"]
    (pair[1].path.parent / "metrics.jsonl").write_text('{"event": "valid')
    assert learning.training_comparison([[pair[0]], [pair[1]]]) is None


def test_learning_curves_are_drawn_side_by_side(pair: list[LoadedModel], source: Path) -> None:
    runs = [loaded.path.parent for loaded in pair]
    logged(runs[0], [(1.0, 3.0), (4.0, 2.5), (8.0, 2.75)])
    logged(runs[1], [(3.0, 2.0), (3.5, 1.0)])
    svg = ElementTree.fromstring(plot("learning", compare(pair, opened(source))))
    assert [line.get("class") for line in svg.iter("polyline")] == ["line", "other other0"]
    assert [text.text for text in svg.iter("text")][-2:] == ["A", "B"]
    assert plot("learning", {"training": None}) == ""
