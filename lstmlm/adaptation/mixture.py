"""Several distributions in one: a weighted sum, which is a distribution again.

N tokens of a text, P parts
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
_ROUNDS = 200
_CLOSE = 1e-7


def mixed(parts: Mapping[str, Probabilities], weights: Mapping[str, float]) -> Probabilities:
    """What the mixture gives to each token, [N]; a part that is nan there (an empty cache) leaves its share to the rest."""
    given_PN = np.stack([parts[name] for name in weights])
    weight_PN = np.where(np.isnan(given_PN), 0.0, np.array(list(weights.values()))[:, None])
    total_N: Probabilities = (weight_PN * np.nan_to_num(given_PN)).sum(0) / weight_PN.sum(0)
    return total_N


def fitted_weights(parts: Mapping[str, Probabilities]) -> dict[str, float]:
    """The weights under which a text is likeliest, by expectation maximization (Jelinek & Mercer 1980); they sum to 1."""
    given_PN = np.stack(list(parts.values()))
    given_PN = given_PN[:, ~np.isnan(given_PN).any(0)]
    weight_P = np.full(len(parts), 1 / len(parts))
    for _ in range(_ROUNDS if given_PN.size else 0):
        shares_PN = weight_P[:, None] * given_PN
        before_P, weight_P = weight_P, (shares_PN / shares_PN.sum(0)).mean(1)
        if np.abs(weight_P - before_P).max() < _CLOSE:
            break
    return dict(zip(parts, map(float, weight_P), strict=True))
