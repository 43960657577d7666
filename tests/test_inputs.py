from __future__ import annotations

import building
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lstmlm.model.inputs import Embedding, one_hot_product
from lstmlm.model.recurrent import RecurrentStack

V, G, T, B = 19, 12, 9, 4


def ids_and_weight(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Ids that repeat within and across streams, among them the first and the last; a weight."""
    generator = torch.Generator().manual_seed(5)
    ids_TB = torch.randint(V, (T, B), generator=generator)
    ids_TB[0], ids_TB[-1], ids_TB[3] = 0, V - 1, ids_TB[4]
    return ids_TB, torch.randn(G, V, dtype=dtype, generator=generator, requires_grad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hot_is_the_product_with_written_out_one_hot_vectors(dtype: torch.dtype) -> None:
    ids_TB, weight_GV = ids_and_weight(dtype)
    explicit_TBG = functional.one_hot(ids_TB, V).to(dtype) @ weight_GV.T
    found_TBG = one_hot_product(ids_TB, weight_GV)
    assert torch.equal(found_TBG, explicit_TBG)
    cotangent_TBG = torch.randn(T, B, G, dtype=dtype, generator=torch.Generator().manual_seed(6))
    (found_grad,) = torch.autograd.grad(found_TBG, weight_GV, cotangent_TBG)
    (explicit_grad,) = torch.autograd.grad(explicit_TBG, weight_GV, cotangent_TBG)
    torch.testing.assert_close(found_grad, explicit_grad, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_one_hot_dropout_is_that_of_the_vectors_locked_over_time() -> None:
    """A symbol is dropped in a stream or it is not, at every step, and what is kept is scaled up; gradients follow."""
    torch.manual_seed(11)
    ids_TB, weight_GV = ids_and_weight()
    found_TBG = one_hot_product(ids_TB, weight_GV, dropout=0.4)
    plain_TBG = functional.one_hot(ids_TB, V).double() @ weight_GV.T
    factors_TBG = (found_TBG / plain_TBG).detach()
    kept_TB = factors_TBG[:, :, 0] != 0
    torch.testing.assert_close(factors_TBG, (kept_TB.double() / 0.6)[:, :, None].expand_as(factors_TBG), rtol=1e-6, atol=0)
    mask_VB = torch.zeros(V, B).double()
    for time, stream in ((t, b) for t in range(T) for b in range(B)):
        mask_VB[ids_TB[time, stream], stream] = float(kept_TB[time, stream]) / 0.6
    assert 0 < int(kept_TB.sum()) < T * B
    masked_TBV = functional.one_hot(ids_TB, V).double() * mask_VB.T  # one mask [B, V] for all steps
    explicit_TBG = masked_TBV @ weight_GV.T
    torch.testing.assert_close(found_TBG, explicit_TBG, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(out.square().sum(), weight_GV)[0] for out in (found_TBG, explicit_TBG)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_one_hot_dropout_differs_between_streams_and_keeps_the_mean() -> None:
    torch.manual_seed(12)
    streams = 20_000
    found_BG = one_hot_product(torch.zeros(1, streams, dtype=torch.int64), torch.ones(G, V), dropout=0.3)[0]
    assert found_BG.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert found_BG.mean().item() == pytest.approx(1.0, abs=0.02)  # six standard errors


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_a_one_hot_model_is_a_stack_on_one_hot_vectors(cell: str, dtype: torch.dtype, tolerance: float) -> None:
    model = building.model(V, cell=cell, input="one-hot", num_layers=2, scale=1.0).to(dtype)
    stack = RecurrentStack(cell, V, 16, 2).to(dtype)
    stack.load_state_dict(model.rnn.state_dict())
    ids_TB, _ = ids_and_weight()
    found = model(ids_TB, model.initial_state(B))
    expected = stack(functional.one_hot(ids_TB, V).to(dtype), stack.initial_state(B))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    gradients = [
        torch.autograd.grad(hidden_TBH.square().sum(), list(of.parameters()))
        for (hidden_TBH, _), of in ((found, model.rnn), (expected, stack))
    ]
    for found_grad, expected_grad in zip(*gradients, strict=True):
        torch.testing.assert_close(found_grad, expected_grad, rtol=10 * tolerance, atol=10 * tolerance)


def test_an_embedding_is_a_row_for_each_id() -> None:
    embedding = Embedding(V, 3)
    torch.nn.init.normal_(embedding.weight)
    ids_TB, _ = ids_and_weight()
    assert torch.equal(embedding(ids_TB), embedding.weight[ids_TB])


def test_embedding_dropout_drops_whole_symbols_wherever_they_stand() -> None:
    torch.manual_seed(11)
    embedding = Embedding(V, 3)
    torch.nn.init.ones_(embedding.weight)
    ids_TB, _ = ids_and_weight()
    found_TBE = embedding(ids_TB, 0.4)
    kept = {int(symbol): found_TBE.detach()[ids_TB == symbol].unique() for symbol in ids_TB.unique()}
    assert all(factor.numel() == 1 for factor in kept.values()), "one factor for all places, streams and dimensions"
    assert {round(float(factor), 4) for factor in kept.values()} == {0.0, round(1 / 0.6, 4)}
    found_TBE.sum().backward()  # type: ignore[no-untyped-call]
    assert embedding.weight.grad is not None
    counts_V = torch.bincount(ids_TB.flatten(), minlength=V)
    for symbol, factor in kept.items():
        torch.testing.assert_close(embedding.weight.grad[symbol], (counts_V[symbol] * factor).expand(3))


def test_embedding_dropout_keeps_the_mean() -> None:
    torch.manual_seed(12)
    embedding = Embedding(20_000, 1)
    torch.nn.init.ones_(embedding.weight)
    found_TBE = embedding(torch.arange(20_000)[:, None], 0.3)
    assert found_TBE.mean().item() == pytest.approx(1.0, abs=0.02)  # six standard errors
