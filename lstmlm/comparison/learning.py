"""How training runs got to where they are: their validation losses side by side, from `metrics.jsonl`.

    curves      one for each run: {"model" (its place in `models`), "path",
                "points": each validation, as in `evaluation.curves`}
    seconds     common times, each half of the next, the last of them the longest run's
    perplexity  one row for each model: at each of these times, the best so far; null before a run's first validation.
                Of several runs, exp of the mean of their best losses
    left_out    why there is no such table; else null

Nothing is said between two validations but what the earlier one said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lstmlm.evaluation import trained_sha256
from lstmlm.evaluation.curves import training_curves
from lstmlm.predictor import AnyModel
from lstmlm.scoring import perplexity

_TIMES = 8


def training_comparison(models: Sequence[Sequence[AnyModel]]) -> dict[str, Any] | None:
    """The curves of all runs, and a table where their losses are of the same tokens; `None` unless all are training runs."""
    curves = []
    for number, runs in enumerate(models):
        for loaded in runs:
            found = training_curves(loaded)
            if found is None or not found["curve"]:
                return None
            curves.append({"model": number, "path": str(loaded.path.parent), "points": found["curve"]})
    left_out = _incomparable(models, curves)
    seconds = [] if left_out else _common_times(curves)
    best = [[_best(curves, number, until) for until in seconds] for number in range(len(models))]
    return {"curves": curves, "seconds": seconds, "perplexity": best, "left_out": left_out}


def _incomparable(models: Sequence[Sequence[AnyModel]], curves: Sequence[dict[str, Any]]) -> str | None:
    every = [loaded for runs in models for loaded in runs]
    if len({loaded.tokenizer.fingerprint for loaded in every}) > 1:
        return "the models have different tokenizers, and training keeps nats per token alone"
    texts = {trained_sha256(loaded, "valid") for loaded in every}
    if len(texts) > 1 or None in texts:
        return "the runs were validated on different text"
    if len({point["scored"] for curve in curves for point in curve["points"]}) > 1:
        return "the runs were validated on parts of different length of the text"
    return None


def _common_times(curves: Sequence[dict[str, Any]]) -> list[float]:
    first = min(curve["points"][0]["seconds"] for curve in curves)
    last = max(curve["points"][-1]["seconds"] for curve in curves)
    halvings = min(_TIMES - 1, int(math.log2(last / first))) if first > 0 else 0
    return [last / 2**halving for halving in range(halvings, -1, -1)]


def _best(curves: Sequence[dict[str, Any]], number: int, until: float) -> float | None:
    losses = [
        min((point["loss"] for point in curve["points"] if point["seconds"] <= until), default=math.inf)
        for curve in curves
        if curve["model"] == number
    ]
    value = perplexity(fmean(losses), 1)
    return value if math.isfinite(value) else None
