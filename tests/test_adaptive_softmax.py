"""First the cluster, then the symbol: an exact distribution, with a loss that is the one of its probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lstmlm import storage
from lstmlm.checkpoint import load_model, read_tensors
from lstmlm.errors import ArtefactError
from lstmlm.model import LanguageModel, outputs
from lstmlm.model.outputs import AdaptiveSoftmax, FullSoftmax
from lstmlm.scoring import score_segments
from lstmlm.training.events import Ended

N, V, H = 47, 41, 8
TARGETS = torch.arange(N) % V
STARTS = [(0,), (0, 5), (0, 1, 2, 40), (0, 3, 10, 25)]


def layer(starts: tuple[int, ...], tied_size: int | None) -> tuple[AdaptiveSoftmax, Tensor | None]:
    """Random weights, and the embedding of a tied one."""
    generator = torch.Generator().manual_seed(1)
    built = AdaptiveSoftmax(V, H, tied_size, starts)
    for weight in built.parameters():
        nn.init.normal_(weight, generator=generator)
    tied = None if tied_size is None else torch.randn(V, tied_size, generator=generator, requires_grad=True)
    return built, tied


def hidden() -> Tensor:
    return torch.randn(N, H, generator=torch.Generator().manual_seed(2)).requires_grad_()


@pytest.mark.parametrize("tied_size", [None, H, 5])
@pytest.mark.parametrize("starts", STARTS)
def test_probabilities_sum_to_one_and_the_loss_is_theirs(
    monkeypatch: pytest.MonkeyPatch, starts: tuple[int, ...], tied_size: int | None
) -> None:
    """Loss and gradients in chunks, cluster by cluster, against autograd through all log-probabilities."""
    monkeypatch.setattr(outputs, "_LOGITS_AT_ONCE", 100)
    (built, tied), hidden_NH = layer(starts, tied_size), hidden()
    logits_NV = built(hidden_NH, tied)
    torch.testing.assert_close(logits_NV.exp().sum(-1), torch.ones(N))
    wanted = functional.nll_loss(logits_NV, TARGETS)
    found = built.loss(hidden_NH, TARGETS, tied)
    torch.testing.assert_close(found, wanted)
    over = [hidden_NH, *built.parameters(), *([] if tied is None else [tied])]
    for mine, theirs in zip(torch.autograd.grad(3 * found, over), torch.autograd.grad(3 * wanted, over), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied_size", [None, 5])
def test_one_cluster_is_the_full_softmax(tied_size: int | None) -> None:
    (built, tied), hidden_NH = layer((0,), tied_size), hidden()
    full = FullSoftmax(V, H, tied_size)
    full.load_state_dict({name: part for name, part in built.state_dict().items() if "cluster" not in name})
    torch.testing.assert_close(built(hidden_NH, tied), full(hidden_NH, tied).log_softmax(-1))
    torch.testing.assert_close(built.loss(hidden_NH, TARGETS, tied), full.loss(hidden_NH, TARGETS, tied))


def test_probabilities_by_hand() -> None:
    """Clusters {0} and {1, 2} with 1/4 and 3/4; in the second 1/3 and 2/3."""
    built = AdaptiveSoftmax(3, 2, None, (0, 1))
    for weight in built.parameters():
        nn.init.zeros_(weight)
    with torch.no_grad():
        built.cluster_bias.copy_(torch.tensor([1.0, 3.0]).log())
        built.bias.copy_(torch.tensor([9.0, 1.0, 2.0]).log())  # of a symbol alone in its cluster it says nothing
    assert built(torch.zeros(2), None).exp().tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 2])


def test_a_token_trains_the_output_vectors_of_its_own_cluster_alone() -> None:
    built, _ = layer((0, 3, 10), None)
    built.loss(hidden()[:2], torch.tensor([4, 9]), None).backward()  # type: ignore[no-untyped-call]
    assert built.weight is not None
    assert built.weight.grad is not None
    trained_V = built.weight.grad.any(dim=1)
    assert trained_V.nonzero().squeeze(1).tolist() == list(range(3, 10))


def test_the_first_predictions_are_those_of_a_unigram_model() -> None:
    """Counts 3, 0, 6 and 11, each one more: 4, 1, 7 and 12 of 24, in two clusters as in one."""
    for cutoffs in ((2,), (1, 3)):
        model = building.model(4, softmax="adaptive", cutoffs=cutoffs)
        model.reset_parameters(1, torch.tensor([3, 0, 6, 11]))
        found = model.logits(torch.zeros(16)).exp()
        assert found.tolist() == pytest.approx([4 / 24, 1 / 24, 7 / 24, 12 / 24])


@pytest.mark.parametrize(
    "shape", [{}, {"tied": False}, {"embedding_size": 16}, {"input": "one-hot", "num_layers": 2}], ids=str
)
def test_a_saved_model_says_the_same_again(tmp_path: Path, shape: dict[str, Any]) -> None:
    loaded = building.saved_model(tmp_path / "model", "word", softmax="adaptive", cutoffs=(4, 9), **shape)
    size = loaded.tokenizer.vocabulary_size
    original = building.model(size, softmax="adaptive", cutoffs=(4, 9), **shape)
    about = json.loads((tmp_path / "model" / "config.json").read_text())["model"]
    assert (about["softmax"], about["cutoffs"]) == ("adaptive", [4, 9])
    tensors = read_tensors(tmp_path / "model" / "model.safetensors")
    width = 16 if "input" in shape or shape.get("tied") is False else shape.get("embedding_size", 12)
    assert list(tensors["output.cluster_weight"].shape) == [3, width]
    assert list(tensors["output.cluster_bias"].shape) == [3]
    assert loaded.model.config == original.config
    ids = np.arange(size, dtype=np.uint16)
    mine, theirs = (score_segments(model, [ids], eos=0) for model in (loaded.model, original))
    assert (mine.nats_N == theirs.nats_N).all()
    assert mine.nats_N == pytest.approx(surprisals(original, ids), abs=1e-5)


def surprisals(model: LanguageModel, ids: np.ndarray[Any, Any]) -> list[float]:
    """Of every id, by the probabilities themselves."""
    ids_TB = torch.tensor([0, *ids.tolist()])[:, None]
    with torch.no_grad():
        hidden_TBH, _ = model(ids_TB[:-1], model.initial_state(1))
        probabilities_TBV = model.logits(hidden_TBH).exp()
    return (-probabilities_TBV.gather(-1, ids_TB[1:, :, None]).log().flatten()).tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cutoffs": [4, 9, 12]}, "output.cluster_bias"),
        ({"cutoffs": []}, "output.cluster_bias"),
        ({"softmax": "full", "cutoffs": []}, "output.cluster_bias"),
        ({"softmax": "full"}, "cutoffs"),
        ({"cutoffs": [4, 4]}, "cutoffs"),
        ({"cutoffs": [4.5, 9]}, "cutoffs"),
        ({"cutoffs": "49"}, "cutoffs"),
        ({"cutoffs": 9}, "not iterable"),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    building.saved_model(tmp_path / "model", "word", softmax="adaptive", cutoffs=(4, 9))
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir() if path.name != "MANIFEST.json"}
    config = json.loads(files["config.json"])
    config["model"] |= change
    storage.publish(tmp_path / "other", files | {"config.json": storage.to_json(config)})
    with pytest.raises(ArtefactError, match=said):
        load_model(tmp_path / "other")


def test_training_lowers_the_exact_loss(source: Path, tmp_path: Path) -> None:
    shape = {"softmax": "adaptive", "cutoffs": (4, 9)}
    events = building.trained(
        tmp_path / "run", source, "word", shape, steps=60, learning_rate=0.03, batch_size=8, validate_every=60
    )
    (ended,) = [event for event in events if isinstance(event, Ended)]
    loaded = load_model(tmp_path / "run")
    assert loaded.model.config.cutoffs == (4, 9)
    assert ended.loss < 0.7 * np.log(loaded.tokenizer.vocabulary_size)
