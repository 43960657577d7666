"""Vectors to begin with: what the neighbours of a symbol in the training text say about it.

Symbols with similar neighbours get similar vectors before the first step: the leading left singular vectors of the positive
pointwise mutual information between the symbols and those right before and right after them, where the contexts' frequencies
are smoothed (Levy, Goldberg & Dagan 2015). What that is worth stands in `benchmarks/RESULTS.md`.

V vocabulary, E embedding, P pairs of neighbours, C contexts (every symbol before, every symbol after), Q columns of a basis
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lstmlm.token_store import Ids

_TOKENS_READ = 1 << 22
"""Of a longer text the beginning: enough to know the neighbours of its frequent symbols."""
_SMOOTHING = 0.75
"""Exponent of the contexts' frequencies: a rare context tells less than its mutual information says."""
_LENGTH = 2.0
"""Of every vector; a random one has 0.58. Left as long as the decomposition makes them, those of frequent symbols spoil
training where the vocabulary is large."""
_OVERSAMPLING, _ROUNDS = 32, 2
"""Columns of the basis beyond those that are kept, and how often it is refined."""

_BYTES_A_TOKEN, _MATRICES = 60, 7
"""Memory that is taken: for counting neighbours, and as [V, Q] matrices of float32. 0.39 GB for WikiText-2, where 0.46 GB
were measured; they decide how much a run of many words holds at its peak."""


@dataclass(frozen=True)
class SparseMatrix:
    """Few numbers in many rows and columns, each place at most once."""

    rows_P: Tensor
    columns_P: Tensor
    values_P: Tensor
    shape: tuple[int, int]

    @property
    def transposed(self) -> SparseMatrix:
        return SparseMatrix(self.columns_P, self.rows_P, self.values_P, self.shape[::-1])

    def by_rows(self) -> SparseMatrix:
        """The same matrix, its numbers in the order of their rows: what `times` needs."""
        order_P = torch.argsort(self.rows_P, stable=True)
        return SparseMatrix(self.rows_P[order_P], self.columns_P[order_P], self.values_P[order_P], self.shape)

    def times(self, dense_XQ: Tensor) -> Tensor:
        """The matrix product; a bag of rows for every row, as torch's sparse products are slow or not on every platform."""
        starts = torch.searchsorted(self.rows_P, torch.arange(self.shape[0]))
        return torch.nn.functional.embedding_bag(
            self.columns_P, dense_XQ, starts, mode="sum", per_sample_weights=self.values_P
        )


def spectral_vectors(ids: Ids, vocabulary_size: int, size: int, seed: int) -> Tensor:
    """A vector of length `_LENGTH` for every symbol, [V, E]; zeros for one without neighbours.

    Where the text has fewer than E dimensions, the last columns are zeros.
    """
    information = neighbour_information(ids[:_TOKENS_READ], vocabulary_size)
    vectors_VQ = left_singular_vectors(information, min(size, vocabulary_size), seed)
    vectors_VE = torch.zeros(vocabulary_size, size)
    vectors_VE[:, : vectors_VQ.shape[1]] = vectors_VQ
    return _LENGTH * torch.nn.functional.normalize(vectors_VE)


def spectral_memory(tokens: int, vocabulary_size: int, size: int) -> int:
    """About how many bytes `spectral_vectors` takes while it works."""
    matrix = 4 * vocabulary_size * min(size + _OVERSAMPLING, vocabulary_size)
    return _MATRICES * matrix + _BYTES_A_TOKEN * min(tokens, _TOKENS_READ)


def neighbour_information(ids: Ids, vocabulary_size: int) -> SparseMatrix:
    """Positive pointwise mutual information, nats, [V, 2V]: with the symbol right before, then with the one right after."""
    codes_P, counts_P = np.unique(ids[:-1].astype(np.int64) * vocabulary_size + ids[1:], return_counts=True)
    before_P, after_P = torch.from_numpy(codes_P // vocabulary_size), torch.from_numpy(codes_P % vocabulary_size)
    weights_P = torch.from_numpy(counts_P).double()
    halves = []
    for symbols_P, contexts_P, offset in ((after_P, before_P, 0), (before_P, after_P, vocabulary_size)):
        symbols_V = torch.bincount(symbols_P, weights_P, vocabulary_size)
        contexts_V = torch.bincount(contexts_P, weights_P, vocabulary_size) ** _SMOOTHING
        expected_P = symbols_V[symbols_P] * (contexts_V / contexts_V.sum())[contexts_P]
        nats_P = (weights_P / expected_P).log().float()
        more_P = nats_P > 0
        halves.append((symbols_P[more_P], contexts_P[more_P] + offset, nats_P[more_P]))
    rows_P, columns_P, values_P = (torch.cat(parts) for parts in zip(*halves, strict=True))
    return SparseMatrix(rows_P, columns_P, values_P, (vocabulary_size, 2 * vocabulary_size))


def left_singular_vectors(matrix: SparseMatrix, count: int, seed: int) -> Tensor:
    """The first `count`, or all, in columns, by randomized subspace iteration (Halko, Martinsson & Tropp 2011)."""
    by_rows, by_columns = matrix.by_rows(), matrix.transposed.by_rows()
    width = min(count + _OVERSAMPLING, *matrix.shape)
    generator = torch.Generator().manual_seed(seed)
    part_CQ = torch.randn(matrix.shape[1], width, generator=generator)
    for _ in range(1 + _ROUNDS):
        basis_VQ = torch.linalg.qr(by_rows.times(part_CQ)).Q
        part_CQ = by_columns.times(basis_VQ)
    squares_Q, turn_QQ = torch.linalg.eigh(part_CQ.T @ part_CQ)  # ascending
    kept = min(count, int((squares_Q > 1e-6 * squares_Q[-1]).sum()))
    vectors_VQ: Tensor = basis_VQ @ turn_QQ.flip(1)[:, :kept]
    return vectors_VQ
