"""Initial vectors from neighbours: against a dense recomputation, and whole runs that begin with them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm.checkpoint import load_model, named_weights
from lstmlm.errors import UsageError
from lstmlm.token_store import Ids, open_store
from lstmlm.training.spectral import left_singular_vectors, neighbour_information, spectral_memory, spectral_vectors


def _ids(*ids: int) -> Ids:
    return np.array(ids, dtype=np.uint16)


def _dense(ids: list[int], vocabulary_size: int) -> torch.Tensor:
    """The definition, pair by pair."""
    pairs = Counter(pairwise(ids))
    before, after = Counter(ids[:-1]), Counter(ids[1:])
    table = torch.zeros(vocabulary_size, 2 * vocabulary_size)
    for (first, second), count in pairs.items():
        smooth_before = before[first] ** 0.75 / sum(count**0.75 for count in before.values())
        smooth_after = after[second] ** 0.75 / sum(count**0.75 for count in after.values())
        table[second, first] = max(0.0, math.log(count / after[second] / smooth_before))
        table[first, vocabulary_size + second] = max(0.0, math.log(count / before[first] / smooth_after))
    return table


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=60))
def test_information_is_what_its_definition_says(ids: list[int]) -> None:
    matrix = neighbour_information(_ids(*ids), 9)
    assert (matrix.values_P > 0).all()
    torch.testing.assert_close(matrix.by_rows().times(torch.eye(18)), _dense(ids, 9))
    torch.testing.assert_close(matrix.transposed.by_rows().times(torch.eye(9)), _dense(ids, 9).T)


def test_singular_vectors_span_what_a_dense_decomposition_finds() -> None:
    ids = np.random.default_rng(0).zipf(1.5, 20_000).clip(max=300).astype(np.uint16)
    matrix = neighbour_information(ids, 301)
    found_VQ = left_singular_vectors(matrix, 20, seed=3)
    torch.testing.assert_close(found_VQ.T @ found_VQ, torch.eye(20), atol=1e-4, rtol=0)
    dense_VC = matrix.by_rows().times(torch.eye(602))
    captured, best = (found_VQ.T @ dense_VC).norm(), torch.linalg.svdvals(dense_VC)[:20].norm()
    assert 0.99 * best < captured <= best * (1 + 1e-5)


def test_symbols_with_the_same_neighbours_get_similar_vectors() -> None:
    rng = np.random.default_rng(1)
    ids = np.stack([rng.integers(0, 10, 4_000), rng.integers(10, 30, 4_000)], 1).flatten()
    twins = np.where((ids == 12) & (rng.random(len(ids)) < 0.5), 30, ids).astype(np.uint16)  # 12 under two names
    vectors_VE = spectral_vectors(twins, 31, 2, seed=1)  # what there is to know is the class
    alike = torch.nn.functional.cosine_similarity(vectors_VE[30], vectors_VE, dim=1)
    assert alike[10:].min() > 0.9
    assert alike[:10].max() < 0.1


@pytest.mark.parametrize("ids", [[0], [0, 1], [2, 2, 2, 2], [0, 1, 2, 0, 1, 2]])
def test_a_text_with_little_to_tell_gives_zeros_and_no_accident(ids: list[int]) -> None:
    vectors_VE = spectral_vectors(_ids(*ids), 300, 16, seed=1)
    assert vectors_VE.shape == (300, 16)
    assert vectors_VE.isfinite().all()
    assert not vectors_VE[3:].any(), "never seen"


def test_vectors_depend_on_text_and_seed_alone() -> None:
    ids = np.random.default_rng(2).integers(0, 50, 3_000).astype(np.uint16)
    one = spectral_vectors(ids, 50, 12, seed=5)
    torch.manual_seed(99)
    assert torch.equal(one, spectral_vectors(ids, 50, 12, seed=5))


def _first_weights(run: Path, source: Path, **training: Any) -> dict[str, torch.Tensor]:
    """After one step that moves nothing."""
    building.trained(run, source, steps=1, learning_rate=1e-30, **training)
    return named_weights(load_model(run).model)


def test_a_run_begins_with_them(source: Path, tmp_path: Path) -> None:
    plain = _first_weights(tmp_path / "plain", source)
    told = _first_weights(tmp_path / "told", source, embedding_init="spectral")
    ids = open_store(tmp_path / "told" / "tokens" / "train").ids
    torch.testing.assert_close(told["embedding.weight"], spectral_vectors(ids, *plain["embedding.weight"].shape, seed=1))
    for name in plain.keys() - {"embedding.weight"}:
        torch.testing.assert_close(plain[name], told[name], rtol=0, atol=1e-20)


def test_what_has_no_embedding_or_begins_elsewhere_refuses_them(source: Path, tmp_path: Path) -> None:
    options = building.options(source, embedding_init="spectral")
    with pytest.raises(UsageError, match="needs an embedding, and one-hot input has none"):
        replace(options, model=replace(options.model, input="one-hot", tied=False))
    with pytest.raises(UsageError, match="does not go with --from"):
        replace(options, start="model")


def test_the_memory_that_is_forecast_holds_the_matrices_that_are_alive_together() -> None:
    """Two of both halves of the neighbours, two of the symbols; and of a text no more than is read."""
    symbols, columns = 5_000, 100
    assert spectral_memory(0, symbols, columns) >= 4 * columns * (2 * 2 * symbols + 2 * symbols)
    assert spectral_memory(10**6, symbols, columns) > spectral_memory(10**5, symbols, columns)
    assert spectral_memory(10**8, symbols, columns) == spectral_memory(10**9, symbols, columns)
