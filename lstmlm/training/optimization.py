"""Learning rate schedules and optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from lstmlm.config import TrainConfig

_DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda rest: rest,
    "cosine": lambda rest: 0.5 - 0.5 * math.cos(math.pi * rest),
    "constant": lambda rest: 1.0,
}


def learning_rate(config: TrainConfig, done: float) -> float:
    """The learning rate when the part `done`, 0 to 1, of the run lies behind: a linear warm-up, then the decay.

    What `done` counts (steps, epochs or seconds) is the caller's business, so a run of any length ends annealed.
    """
    if done < config.warmup:
        return config.learning_rate * max(done, 1e-3 * config.warmup) / config.warmup
    rest = (1.0 - min(done, 1.0)) / (1.0 - config.warmup)
    return config.learning_rate * _DECAYS[config.schedule](rest)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer over all parameters; weight decay acts on matrices, not on biases."""
    parameters = list(model.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in parameters if weight.dim() == 1], "weight_decay": 0.0},
    ]
    rate, betas = config.learning_rate, (config.momentum, config.beta2)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, fused=True)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, alpha=config.beta2, momentum=config.momentum)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=betas, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's memory, by parameter number and name, as it goes into a checkpoint."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{number}.{name}": torch.as_tensor(value)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `optimizer_tensors`, on an optimizer built with the same configuration."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        owner, _, place = name.partition(".")
        if owner == "optimizer":
            number, _, field = place.partition(".")
            state.setdefault(int(number), {})[field] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for weight, values in optimizer.state.items():
        for field, tensor in values.items():
            if tensor.shape == weight.shape:  # fused kernels take for granted that both lie in memory alike
                values[field] = torch.empty_like(weight).copy_(tensor)
