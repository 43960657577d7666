"""How the model came to be: the losses in `metrics.jsonl` of the run that it belongs to.

K step events, P points
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstmlm.predictor import AnyModel

POINTS = 200
_VALIDATION, _STEP = ("seconds", "step", "tokens", "loss", "scored"), ("seconds", "step", "loss")


def training_curves(loaded: AnyModel) -> dict[str, Any] | None:
    """Losses in nats per token: each validation, and those of the steps as at most 200 means of neighbours.

    `scored` is how many tokens a validation was of. `sampled` says whether the steps' losses are those of a sampled softmax,
    which are no perplexities. `None` for a model that does not stand in its run, or where the file is damaged.
    """
    directory = loaded.path.resolve()
    if not directory.name.startswith("step-"):
        return None
    try:
        lines = (directory.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        validations = [event for event in events if event["event"] == "validation"]
        steps = [event for event in events if event["event"] == "step"]
        if not all(math.isfinite(event["loss"]) for event in (*validations, *steps)):
            return None
        return {
            "curve": [{name: event[name] for name in _VALIDATION} for event in validations],
            "steps": _thinned(steps),
            "sampled": any(event.get("sampled", False) for event in steps),
            "options": loaded.training.get("options"),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _thinned(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours as one: their mean loss, weighted by their tokens, where the last of them stands."""
    if not events:
        return []
    loss_K, tokens_K = (np.array([event[name] for event in events], np.float64) for name in ("loss", "tokens"))
    weights_K = np.diff(tokens_K, prepend=0).clip(1)  # after a run went back to a checkpoint there are fewer
    ends_P = np.unique(np.linspace(0, len(events), POINTS + 1).astype(int))[1:]
    starts_P = np.append(0, ends_P[:-1])
    means_P = np.add.reduceat(loss_K * weights_K, starts_P) / np.add.reduceat(weights_K, starts_P)
    kept = [events[end - 1] for end in ends_P]
    return [{name: event[name] for name in _STEP} | {"loss": float(mean)} for event, mean in zip(kept, means_P, strict=True)]
