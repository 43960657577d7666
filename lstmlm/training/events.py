"""What happens in a training run, as values; a face draws them, `metrics.jsonl` keeps those with a `record`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmlm.batches import Batches
from lstmlm.corpus import Overlap
from lstmlm.model import LanguageModel
from lstmlm.runtime import Runtime
from lstmlm.scoring import perplexity
from lstmlm.token_store import TokenStore
from lstmlm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from lstmlm.training.probing import Fit


@dataclass(frozen=True)
class Tokenizing:
    """Text is being turned into ids."""

    split: str
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class Fitted:
    """Settings that were left open are chosen."""

    fit: Fit


@dataclass(frozen=True)
class Prepared:
    """Everything stands ready; training begins."""

    run: Path
    stores: dict[str, TokenStore]
    overlaps: dict[str, Overlap]
    """Of valid and test with train."""
    tokenizer: Tokenizer
    model: LanguageModel
    runtime: Runtime
    total_steps: int | None
    """`None` under a time budget."""
    batches: Batches
    resumed_at: int | None
    """The step of the checkpoint this run continues from."""
    start: str | None
    """The model whose weights this run began with."""


@dataclass(frozen=True)
class Warned:
    """Something a person should know; training goes on."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """Where the run stands. Losses are nats per token."""

    step: int
    epoch: int
    tokens: int
    """Training tokens read so far."""
    seconds: float
    """Training time so far, with validation and saving, over all resumptions."""
    done: float
    """Part of the run, 0 to 1."""

    def record(self) -> dict[str, Any]:
        """The line in `metrics.jsonl`, without its event name."""
        return {"step": self.step, "epoch": self.epoch, "tokens": self.tokens, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, kw_only=True)
class Stepped(Progressed):
    """A few training steps were made; `loss` is their mean."""

    loss: float
    learning_rate: float
    tokens_per_second: float
    gradient_norm: float
    sampled: bool
    """Whether the loss is that of a sampled softmax, which is lower than the full one's."""

    def record(self) -> dict[str, Any]:
        return {
            "event": "step",
            **super().record(),
            "loss": self.loss,
            "perplexity": _finite(perplexity(self.loss, 1)),
            "learning_rate": self.learning_rate,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "gradient_norm": _finite(self.gradient_norm),
            **({"sampled": True} if self.sampled else {}),
        }


@dataclass(frozen=True, kw_only=True)
class Validated(Progressed):
    """The validation split was scored as `lstmlm eval` scores it: all of it, or (time budgets) its beginning."""

    loss: float
    best: bool
    scored: int
    """Tokens."""

    def record(self) -> dict[str, Any]:
        return {
            "event": "validation",
            **super().record(),
            "loss": self.loss,
            "perplexity": _finite(perplexity(self.loss, 1)),
            "best": self.best,
            "scored": self.scored,
        }


@dataclass(frozen=True, kw_only=True)
class Saved(Progressed):
    """A checkpoint is on the disk, verified."""

    path: Path

    def record(self) -> dict[str, Any]:
        return {"event": "checkpoint", **super().record()}


@dataclass(frozen=True, kw_only=True)
class RolledBack(Progressed):
    """Numbers were not finite several times in a row: back to the last checkpoint with half the learning rate."""

    symptom: str
    learning_rate_scale: float

    def record(self) -> dict[str, Any]:
        return {
            "event": "rollback",
            **super().record(),
            "symptom": self.symptom,
            "learning_rate_scale": self.learning_rate_scale,
        }


@dataclass(frozen=True, kw_only=True)
class Ended(Progressed):
    """The run is complete; `loss` is that of the model that `best` points to.

    It is over the whole validation split, unless that would take too much of a time budget.
    """

    loss: float
    scored: int
    """Tokens."""
    best_step: int
    early: bool
    """Whether patience ran out before the end."""

    def record(self) -> dict[str, Any]:
        return {
            "event": "end",
            **super().record(),
            "loss": self.loss,
            "perplexity": _finite(perplexity(self.loss, 1)),
            "scored": self.scored,
            "best_step": self.best_step,
            "early": self.early,
        }


def _finite(value: float) -> float | None:
    """JSON has no infinity: a perplexity beyond every float, the gradient of a step that was left out, are null."""
    return value if math.isfinite(value) else None


Event = Tokenizing | Fitted | Prepared | Warned | Stepped | Validated | Saved | RolledBack | Ended
