"""Intervals: the bootstrap against what is known of it, clusters that are whole documents or blocks of lines."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import building
import numpy as np
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.corpus.reading import Piece
from lstmlm.evaluation.intervals import bootstrap_ratios, cluster_ends, confidence, row_confidence, sums
from lstmlm.evaluation.scored import Scored, score
from lstmlm.token_store import read_text


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return building.saved_model(tmp_path_factory.mktemp("model") / "model", "bpe")


def scored(model: LoadedModel, documents: int, lines: int) -> Scored:
    line = "the cat sat on the mat with a dog .\n"
    pieces = [Piece(line * lines + f"{number}\n", ends_document=True) for number in range(documents)]
    return score(model, read_text(model.tokenizer, [pieces]))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    nats_C = np.random.default_rng(3).normal(5.0, 1.0, 400)
    low, high = bootstrap_ratios(nats_C, {"mean": np.ones(400)})["mean"]
    error = 1.96 * nats_C.std() / math.sqrt(400)
    assert low == pytest.approx(nats_C.mean() - error, abs=0.012)
    assert high == pytest.approx(nats_C.mean() + error, abs=0.012)


def test_equal_clusters_have_no_width() -> None:
    found = bootstrap_ratios(np.full(50, 6.0), {"a": np.full(50, 2.0), "nothing": np.zeros(50)})
    assert found == {"a": (3.0, 3.0)}


def test_clusters_are_documents_where_there_are_enough(model: LoadedModel) -> None:
    many, few = scored(model, 40, 2), scored(model, 5, 300)
    ends, kind = cluster_ends(many)
    assert kind == "documents"
    assert ends.tolist() == many.read.document_ends_D.tolist()
    ends, kind = cluster_ends(few)
    assert kind == "blocks of lines"
    assert set(ends.tolist()) <= set(few.read.line_ends_L.tolist())
    assert np.diff(ends, prepend=0).min() >= 1_000
    assert ends[-1] == len(few.ids_N)
    assert cluster_ends(scored(model, 1, 3))[0].tolist() == [len(scored(model, 1, 3).ids_N)]


@pytest.mark.parametrize("documents", [40, 5])
def test_every_token_word_and_byte_is_in_one_cluster(model: LoadedModel, documents: int) -> None:
    found = scored(model, documents, 300 if documents == 5 else 2)
    ends, _ = cluster_ends(found)
    lines = np.searchsorted(found.read.line_ends_L, ends, side="left") + 1
    assert sums(found.nats_N, ends).sum() == pytest.approx(found.scores.nll_nats)
    assert sums(found.read.line_bytes_L, lines).sum() == found.text.bytes
    assert sums(found.read.line_words_L, lines).sum() == found.text.words


def test_the_figures_lie_in_their_intervals_and_repeat(model: LoadedModel) -> None:
    found = scored(model, 40, 2)
    nats, interval = found.scores.nll_nats, confidence(found)
    for name, value in (
        ("perplexity_token", math.exp(nats / len(found.ids_N))),
        ("perplexity_word", math.exp(nats / found.text.words)),
        ("bits_per_byte", nats / math.log(2) / found.text.bytes),
    ):
        low, high = interval[name]
        assert low <= value * (1 + 1e-12)
        assert value <= high * (1 + 1e-12)
    assert interval == confidence(found)
    assert (interval["method"], interval["clusters"]) == ("bootstrap, documents", 40)
    assert row_confidence(found, found.nats_N) == pytest.approx(interval["perplexity_token"])
    assert row_confidence(found, np.full(len(found.ids_N), 1e4)) is None  # beyond every number


def test_where_the_text_is_less_even_the_interval_is_wider(model: LoadedModel) -> None:
    found = scored(model, 40, 2)
    nats_N = found.nats_N.copy()
    nats_N[: len(nats_N) // 2] *= 2
    uneven = replace(found, scores=replace(found.scores, nats_N=nats_N))
    widths = [np.log(confidence(each)["perplexity_token"]) for each in (found, uneven)]
    assert widths[1][1] - widths[1][0] > 3 * (widths[0][1] - widths[0][0])


def test_few_clusters_are_warned_of(model: LoadedModel, tmp_path: Path) -> None:
    from lstmlm.config import CorpusConfig
    from lstmlm.corpus import open_texts
    from lstmlm.evaluation import evaluate

    (tmp_path / "text.txt").write_text("the cat sat .\n" * 20)
    result = evaluate(model, open_texts([tmp_path / "text.txt"], CorpusConfig(), None))
    assert any("there is no 95% interval: the text has too few lines" in warning for warning in result["warnings"])
