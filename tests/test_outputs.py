"""The loss in chunks equals the loss at once, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lstmlm.model import outputs
from lstmlm.model.outputs import FullSoftmax, cross_entropy

N, V, E = 33, 70, 8


def factors(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(N, E), (V, E), (V,)]
    hidden, weight, bias = (torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes)
    return hidden, weight, bias


TARGETS = torch.arange(N) * 7 % V


@pytest.mark.parametrize("rows", [1, 7, 33, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_chunks_change_neither_loss_nor_gradients(
    monkeypatch: pytest.MonkeyPatch, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    monkeypatch.setattr(outputs, "_LOGITS_AT_ONCE", rows * V)
    hidden, weight, bias = factors(dtype)
    wanted = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), TARGETS)
    wanted_grads = torch.autograd.grad(3 * wanted, (hidden, weight, bias))
    found = cross_entropy(hidden, weight, bias, TARGETS)
    found_grads = torch.autograd.grad(3 * found, (hidden, weight, bias))
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)
    for mine, theirs in zip(found_grads, wanted_grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize("columns", [None, 40])
def test_gradients_are_those_of_finite_differences(columns: int | None) -> None:
    given = factors(torch.float64)
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(part.shape, dtype=part.dtype, generator=generator) for part in given]

    def at(shift: float) -> float:
        moved = [part.detach() + shift * direction for part, direction in zip(given, directions, strict=True)]
        return float(cross_entropy(*moved, TARGETS, columns))

    gradients = torch.autograd.grad(cross_entropy(*given, TARGETS, columns), given)
    slope = sum(float((grad * direction).sum()) for grad, direction in zip(gradients, directions, strict=True))
    assert slope == pytest.approx((at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-7)


def test_under_autocast_only_the_products_are_bf16() -> None:
    """The sum over a large vocabulary would lose everything small in bf16: 256 + 1 is 256 there."""
    hidden, weight, bias = factors(torch.float32)
    wanted = cross_entropy(hidden, weight, bias, TARGETS)
    wanted_grads = torch.autograd.grad(wanted, (hidden, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cross_entropy(hidden, weight, bias, TARGETS)
    found_grads = torch.autograd.grad(found, (hidden, weight, bias))
    assert found.dtype == torch.float32
    assert float((found - wanted).detach().abs() / wanted.detach()) < 1e-2
    for mine, theirs in zip(found_grads, wanted_grads, strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-2
    uniform = torch.zeros(2, E), torch.zeros(100_003, E), torch.zeros(100_003)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(cross_entropy(*uniform, torch.tensor([0, 5]))) == pytest.approx(torch.tensor(100_003.0).log().item())


@pytest.mark.parametrize("tied_size", [None, E, 5])
def test_the_loss_of_a_layer_is_that_of_its_logits(tied_size: int | None) -> None:
    layer = FullSoftmax(V, E, tied_size)
    for weight in layer.parameters():
        nn.init.normal_(weight)
    tied = None if tied_size is None else torch.randn(V, tied_size)
    hidden = factors(torch.float32)[0]
    logits = layer(hidden, tied)
    assert logits.shape == (N, V)
    torch.testing.assert_close(layer.loss(hidden, TARGETS, tied), nn.functional.cross_entropy(logits, TARGETS))
