"""Statistics of paired differences: what two models say of the same clusters of a text.

C clusters, F flips, M comparisons
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLIPS, SEED = 10_000, 1
LEVEL = 0.05
"""Below this p, a difference counts as found."""
_ROUNDING = 1e-12
"""Of a sum, as a share of what was added without signs: sums in another order count as the same."""
_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class SignFlips:
    """The outcome of a test; `flips` are all there are if it is `exact`, else random ones."""

    p: float
    flips: int
    exact: bool


def sign_flip_test(differences_C: NDArray[np.float64]) -> SignFlips:
    """How often random signs make a sum as far from 0, on either side, as the true ones (Fisher 1935, section 21).

    If two models were equally good, it would be chance which of them did better on a cluster. All flips are tried where
    they are no more than `FLIPS`; else that many random ones, with the true signs as one more (Phipson & Smyth 2010).
    """
    count = len(differences_C)
    exact = 2**count <= FLIPS
    least = abs(differences_C.sum()) - _ROUNDING * np.abs(differences_C).sum()
    flips = 2**count if exact else FLIPS
    signs = _all_signs(count) if exact else _random_signs(count)
    as_far = sum(int((np.abs(signs_FC @ differences_C) >= least).sum()) for signs_FC in signs)
    return SignFlips(as_far / flips if exact else (1 + as_far) / (1 + flips), flips, exact)


def _all_signs(count: int) -> Iterator[NDArray[np.int64]]:
    yield 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)


def _random_signs(count: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(SEED)
    at_once = max(1, _NUMBERS_AT_ONCE // count)
    for begin in range(0, FLIPS, at_once):
        yield 1 - 2 * generator.integers(0, 2, (min(at_once, FLIPS - begin), count))


def holm(p_M: Sequence[float]) -> list[float]:
    """Each p, corrected for there being several (Holm 1979): below a level, all of them hold at that level together."""
    order = np.argsort(p_M, kind="stable")
    rising_M = np.maximum.accumulate(np.array(p_M)[order] * (len(p_M) - np.arange(len(p_M))))
    corrected_M = np.empty(len(p_M))
    corrected_M[order] = np.minimum(rising_M, 1.0)
    return list(map(float, corrected_M))
