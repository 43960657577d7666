"""Learning rate schedules and optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lstmlm.config import TrainConfig

_DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda rest: rest,
    "cosine": lambda rest: 0.5 - 0.5 * math.cos(math.pi * rest),
    "one-cycle": lambda rest: 0.5 - 0.5 * math.cos(math.pi * rest),
    "constant": lambda rest: 1.0,
}
_ONE_CYCLE_DIP = 0.1
"""How far one-cycle lowers the momentum while the learning rate is high (Smith 2018, section 4.3)."""


def learning_rate(config: TrainConfig, done: float) -> float:
    """The learning rate when the part `done`, 0 to 1, of the run lies behind: a linear warm-up, then the decay.

    What `done` counts (steps, epochs or seconds) is the caller's business, so a run of any length ends annealed.
    """
    if done < config.warmup:
        return config.learning_rate * max(done, 1e-3 * config.warmup) / config.warmup
    rest = (1.0 - min(done, 1.0)) / (1.0 - config.warmup)
    return config.learning_rate * _DECAYS[config.schedule](rest)


def momentum(config: TrainConfig, done: float) -> float:
    """The momentum (beta1) at the same place: one-cycle lowers it while the learning rate is high."""
    if config.schedule != "one-cycle":
        return config.momentum
    dip = min(_ONE_CYCLE_DIP, config.momentum / 2)  # a small momentum stays above 0
    return config.momentum - dip * learning_rate(config, done) / config.learning_rate


class LazyAdamW(torch.optim.AdamW):
    """AdamW which, where a gradient is sparse, updates only the rows that it holds, as a dense AdamW without momentum would.

    In a step without a gradient such an AdamW lets a row's mean square fade and its weights decay, no more: that is made up
    for when the row is next touched. So a rare symbol, whose mean square has faded, moves far by each of its few gradients.
    Moments that count a row's own updates alone learn less: 4.83 in place of 4.76 nats (`benchmarks/RESULTS.md`).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.grad.is_sparse:
                    self._update_rows(weight, group)
                    weight.grad = None  # done: the rest is dense
        return super().step(closure)

    def _update_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        rows_R, grad_RX = weight.grad._indices()[0], weight.grad._values()  # type: ignore[union-attr]
        state, (_, beta2), rate = self.state[weight], group["betas"], group["lr"]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(weight)
            state["touched"] = weight.new_zeros(len(weight))
        state["step"] += 1
        elapsed_R1 = (state["step"] - state["touched"][rows_R]).view(-1, *[1] * (grad_RX.dim() - 1))
        state["touched"][rows_R] = state["step"].to(weight)
        square_RX = state["exp_avg_sq"][rows_R].mul_(beta2**elapsed_R1).addcmul_(grad_RX, grad_RX, value=1 - beta2)
        state["exp_avg_sq"][rows_R] = square_RX
        scale_RX = square_RX.div_(1 - beta2 ** float(state["step"])).sqrt_().add_(group["eps"])
        decayed_RX = weight[rows_R].mul_((1 - rate * group["weight_decay"]) ** elapsed_R1)
        weight[rows_R] = decayed_RX.addcdiv_(grad_RX, scale_RX, value=-rate)


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
    return LazyAdamW(groups, lr=rate, betas=betas, fused=True)


def set_pace(optimizer: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    """Learning rate and momentum of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def guarded_step(optimizer: torch.optim.Optimizer, wanted: Tensor) -> None:
    """`optimizer.step()` if the boolean `wanted` is true; on a GPU the device finds out for itself, and nothing waits.

    The fused kernels skip an update themselves where `found_inf` is 1, as they do under torch's gradient scaler. Waited for
    are the first update, as SGD's kernel leaves its new memory unset where it skips, and those of rows, which are not fused.
    """
    if wanted.device.type == "cpu" or not _skips_by_itself(optimizer):
        if wanted:
            optimizer.step()
        return
    optimizer.grad_scale, optimizer.found_inf = None, (~wanted).float()  # type: ignore[attr-defined]
    optimizer.step()


def _skips_by_itself(optimizer: torch.optim.Optimizer) -> bool:
    gradients = (weight.grad for group in optimizer.param_groups for weight in group["params"])
    by_rows = any(gradient is not None and gradient.is_sparse for gradient in gradients)
    return getattr(optimizer, "_step_supports_amp_scaling", False) and bool(optimizer.state) and not by_rows


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
