"""What a run has to remember to go on exactly where it stopped: numbers, optimizer memory, the state of every stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lstmlm.checkpoint import (
    TRAINING_STATE,
    TRAINING_TENSORS,
    WEIGHTS,
    named_weights,
    pack_tensors,
    read_tensors,
    restore_weights,
)
from lstmlm.config import TrainConfig, from_mapping
from lstmlm.model import LanguageModel
from lstmlm.storage import read_json, to_json
from lstmlm.training.learner import Learner
from lstmlm.training.optimization import optimizer_tensors, restore_optimizer


@dataclass
class Standing:
    """The numbers in `training.json`. Batches and dropout masks need none: they are functions of (seed, step)."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    fit_seconds: float = 0.0
    """How many of these had passed before the first step: settings were chosen."""
    best_loss: float | None = None
    """Nats per token of the best validation so far."""
    best_step: int = 0
    worse_validations: int = 0
    """Validations since the best one."""
    validation_tokens: int = 0
    """How many tokens a validation scores (`validation.py`); 0 before the first one."""
    validated_seconds: float = 0.0
    """When the last validation ended, in seconds of training time."""
    validation_cost: float = 0.0
    """Seconds it took."""
    skipped: int = 0
    """Updates left out in a row because a number was not finite."""
    rolled_back: bool = False
    learning_rate_scale: float = 1.0
    pending_nats: float = 0.0
    """Loss since the last `step` event, so that an interrupted interval is reported whole."""
    pending_tokens: int = 0
    metrics_bytes: int = 0
    """Length of `metrics.jsonl`: what was written later is written again."""
    finished: bool = False


def pack_training(standing: Standing, learner: Learner) -> dict[str, bytes]:
    """The files that make a model directory a checkpoint."""
    tensors = optimizer_tensors(learner.optimizer)
    tensors |= {f"state.{index}": part_LBH for index, part_LBH in enumerate(learner.state)}
    if learner.average is not None:  # the model directory holds the averages
        tensors |= {f"weights.{name}": weight for name, weight in named_weights(learner.model).items()}
    return {TRAINING_STATE: to_json(asdict(standing)), TRAINING_TENSORS: pack_tensors(tensors)}


def restore_training(checkpoint: Path, learner: Learner) -> Standing:
    """Load a verified checkpoint into `learner`; returns the numbers."""
    model, tensors = learner.model, read_tensors(checkpoint / TRAINING_TENSORS)
    restore_weights(model, read_tensors(checkpoint / WEIGHTS))
    learner.forget()
    if learner.average is not None:
        restore_weights(model, {name.removeprefix("weights."): tensor for name, tensor in tensors.items()})
    restore_optimizer(learner.optimizer, tensors)
    learner.state = tuple(tensors[name].to(model.device) for name in sorted(tensors) if name.startswith("state."))
    return from_mapping(Standing, read_json(checkpoint / TRAINING_STATE), str(checkpoint / TRAINING_STATE))


def diagnostics(symptom: str, standing: Standing, model: LanguageModel, config: TrainConfig) -> dict[str, Any]:
    """What is known about a divergence; a number that is not finite is given as text."""
    norms = {name: str(float(weight.detach().norm())) for name, weight in model.named_parameters()}
    return {"symptom": symptom, "standing": asdict(standing), "weight_norms": norms, "options": asdict(config)}
