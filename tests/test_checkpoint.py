"""A model directory: what is in it, what comes back, and what is refused as not one."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import building
import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as pack

from lstmlm.checkpoint import LoadedModel, load_model, resolve_model, save_model
from lstmlm.errors import ArtefactError, LstmlmError, UsageError
from lstmlm.scoring import score_segments

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@pytest.fixture
def saved(tmp_path: Path) -> LoadedModel:
    return building.saved_model(tmp_path / "model", "char")


def reseal(directory: Path) -> None:
    """Write the manifest anew, as someone who means harm would."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in directory.iterdir()
        if path.name != "MANIFEST.json"
    }
    (directory / "MANIFEST.json").write_text(json.dumps({"files": files}) + "\n")


def edit_config(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((directory / "config.json").read_text())
    change(config)
    (directory / "config.json").write_text(json.dumps(config))
    reseal(directory)


def refusal(path: Path) -> str:
    """The message of the refusal: one line, exit code 4."""
    with pytest.raises(ArtefactError) as caught:
        load_model(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert caught.value.exit_code == 4
    return message


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    ("config", "extra"),
    [
        ({"tied": True, "embedding_size": 12, "hidden_size": 12}, {"embedding.weight": (29, 12)}),
        (
            {"tied": True, "embedding_size": 12, "hidden_size": 16},
            {"embedding.weight": (29, 12), "output.projection.weight": (12, 16)},
        ),
        ({"tied": False, "embedding_size": 12}, {"embedding.weight": (29, 12), "output.weight": (29, 16)}),
        ({"tied": False, "input": "one-hot"}, {"output.weight": (29, 16)}),
    ],
    ids=["tied", "projection", "untied", "one-hot"],
)
def test_tensors_have_the_documented_names_and_shapes(
    tmp_path: Path, cell: str, config: dict[str, Any], extra: dict[str, tuple[int, ...]]
) -> None:
    loaded = building.saved_model(tmp_path / "model", "char", cell=cell, num_layers=2, **config)
    vocabulary = loaded.tokenizer.vocabulary_size
    assert vocabulary == 29
    hidden = loaded.model.config.hidden_size
    rows = GATES[cell] * hidden
    expected = extra | {"output.bias": (vocabulary,)}
    for layer, width in enumerate((loaded.model.config.input_size, hidden)):
        expected |= {
            f"rnn.{layer}.weight_ih": (rows, width),
            f"rnn.{layer}.weight_hh": (rows, hidden),
            f"rnn.{layer}.bias_ih": (rows,),
            f"rnn.{layer}.bias_hh": (rows,),
        }
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_config_has_the_documented_keys(saved: LoadedModel) -> None:
    config = json.loads((saved.path / "config.json").read_text())
    assert (config["format"], config["format_version"]) == ("lstmlm-model", 1)
    assert config["model"].keys() >= {
        *("cell", "input", "vocabulary_size", "embedding_size", "hidden_size", "num_layers", "tied", "softmax", "residual")
    }
    assert config["tokenizer"].keys() >= {"kind", "documents", "lossless", "eos", "unk"}
    assert isinstance(config["training"], dict)
    manifest = json.loads((saved.path / "MANIFEST.json").read_text())
    assert manifest["files"].keys() == {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.name for path in saved.path.iterdir()} == {*manifest["files"], "MANIFEST.json"}


@pytest.mark.parametrize("kind", ["bpe", "word", "char", "byte"])
def test_save_and_load_are_bit_equal(tmp_path: Path, kind: str) -> None:
    tokenizer = building.tokenizer(kind)
    model = building.model(tokenizer.vocabulary_size, cell="gru", num_layers=2)
    save_model(tmp_path / "model", model, tokenizer, documents="blank-line", training={"steps": 3})
    loaded = load_model(tmp_path / "model")
    assert all(torch.equal(loaded.model.state_dict()[name], weight) for name, weight in model.state_dict().items())
    assert loaded.tokenizer.to_json() == tokenizer.to_json()
    assert (loaded.documents, loaded.training, loaded.model.config) == ("blank-line", {"steps": 3}, model.config)
    assert loaded.sha256 == hashlib.sha256((tmp_path / "model" / "model.safetensors").read_bytes()).hexdigest()


def test_a_model_directory_works_wherever_it_is_copied(trained_run: Path, tmp_path: Path) -> None:
    before = load_model(trained_run)
    elsewhere = shutil.copytree(before.path, tmp_path / "copy with spaces")
    after = load_model(elsewhere)
    ids = before.tokenizer.encode(building.text(5))
    assert after.sha256 == before.sha256
    scores = [score_segments(one.model, [ids], eos=one.tokenizer.eos).nats_N for one in (before, after)]
    assert (scores[0] == scores[1]).all()


def test_an_existing_directory_is_not_overwritten(saved: LoadedModel) -> None:
    with pytest.raises(UsageError, match="exists"):
        save_model(saved.path, saved.model, saved.tokenizer)
    load_model(saved.path)


@pytest.mark.parametrize("name", ["MANIFEST.json", "config.json", "tokenizer.json", "model.safetensors"])
def test_damage_to_any_file_is_noticed_by_loading(saved: LoadedModel, name: str) -> None:
    path = saved.path / name
    whole = path.read_bytes()
    for place in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place])
        refusal(saved.path)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refusal(saved.path)
    path.unlink()
    refusal(saved.path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"weights": [1.0]}), "a pickle"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"<html><body>404</body></html>", "an HTML page"),
        (b"", "not a safetensors file"),
        (b"\x02", "not a safetensors file"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "its header claims 4,611,686,018,427,387,904 of 10 bytes"),
        ((101 << 20).to_bytes(8, "little") + b"{}", "its header claims"),
        ((2).to_bytes(8, "little") + b"[]", "damaged header"),
        ((2).to_bytes(8, "little") + b"{]", "damaged header"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "is damaged"),
        ((90_000).to_bytes(8, "little") + b"[" * 90_000, "damaged header"),
        (pack({"output.bias": torch.zeros(29)}), "has 0 layers; config.json asks for num_layers 1"),
    ],
)
def test_what_only_is_called_a_weight_file_is_refused(saved: LoadedModel, content: bytes, said: str) -> None:
    (saved.path / "model.safetensors").write_bytes(content)
    reseal(saved.path)
    message = refusal(saved.path)
    assert said in message
    assert "model.safetensors" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights["output.bias"].double(), r"float64 [29]; config.json asks for float32 [29]"),
        (lambda weights: weights["output.bias"].half(), r"float16 [29]; config.json asks for float32 [29]"),
        (lambda weights: torch.zeros(30), r"float32 [30]; config.json asks for float32 [29]"),
        (lambda weights: torch.zeros(29, 1), r"float32 [29, 1]; config.json asks for float32 [29]"),
    ],
)
def test_wrong_shapes_and_types_are_refused(
    saved: LoadedModel, change: Callable[[dict[str, torch.Tensor]], torch.Tensor], said: str
) -> None:
    path = saved.path / "model.safetensors"
    weights = load_file(path)
    path.write_bytes(pack(weights | {"output.bias": change(weights)}))
    reseal(saved.path)
    assert f"tensor output.bias is {said}" in refusal(saved.path)


def test_a_tensor_too_many_is_refused(saved: LoadedModel) -> None:
    path = saved.path / "model.safetensors"
    path.write_bytes(pack(load_file(path) | {"extra": torch.zeros(4)}))
    reseal(saved.path)
    assert "tensor extra is float32 [4]; config.json asks for absent" in refusal(saved.path)
    path.write_bytes(pack(load_file(path) | {"rnn.1.bias_ih": torch.zeros(4)}))
    reseal(saved.path)
    assert "has 2 layers; config.json asks for num_layers 1" in refusal(saved.path)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(saved: LoadedModel) -> None:
    path = saved.path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    reseal(saved.path)
    assert "is damaged" in refusal(saved.path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: config.update(format_version=2), "format version 2; this lstmlm reads version 1"),
        (lambda config: config.update(format_version="1"), "format version '1'"),
        (lambda config: config.update(format="other"), "not that of an lstmlm model"),
        (lambda config: config.pop("model"), "no section 'model'"),
        (lambda config: config.update(tokenizer=[]), "no section 'tokenizer'"),
        (lambda config: config["model"].update(attention=True), "unknown setting 'attention'"),
        (lambda config: config["model"].update(cell="transformer"), "expected one of lstm, gru, rnn"),
        (lambda config: config["model"].update(hidden_size=-1), "hidden_size is -1"),
        (lambda config: config["model"].update(hidden_size="16"), "hidden_size"),
        (lambda config: config["model"].update(hidden_size=16.5), "hidden_size is 16.5"),
        (lambda config: config["model"].update(hidden_size=None), "hidden_size"),
        (lambda config: config["model"].update(hidden_size=17), "config.json asks for"),
        (lambda config: config["model"].update(hidden_size=1 << 40), ""),
        (lambda config: config["model"].update(hidden_size=1 << 80), ""),
        (lambda config: config["model"].update(num_layers=1 << 30), "num_layers"),
        (lambda config: config["model"].update(vocabulary_size=30), "has 29 symbols"),
        (lambda config: config["tokenizer"].update(eos=0), "not what config.json says"),
        (lambda config: config["tokenizer"].update(kind="word"), ""),
        (lambda config: config["tokenizer"].update(kind="bpe"), ""),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    saved: LoadedModel, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    edit_config(saved.path, change)
    assert said in refusal(saved.path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"not json", b'{"model": {"type": "BPE"}}', b"\xff"])
def test_a_tokenizer_that_is_none_is_refused(saved: LoadedModel, content: bytes) -> None:
    (saved.path / "tokenizer.json").write_bytes(content)
    reseal(saved.path)
    assert "tokenizer.json" in refusal(saved.path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_manifest_must_list_every_part(saved: LoadedModel, name: str) -> None:
    path = saved.path / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    del manifest["files"][name]
    path.write_text(json.dumps(manifest) + "\n")
    assert name in refusal(saved.path)


def test_a_model_directory_never_points_outside_itself(saved: LoadedModel, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    shutil.move(saved.path / "config.json", outside)
    (saved.path / "config.json").symlink_to(outside)
    assert "not a plain file inside the directory" in refusal(saved.path)


@pytest.mark.parametrize("target", ["../elsewhere", "/", ".", "..", "step-000000099"])
def test_a_best_link_that_leads_elsewhere_is_refused(tmp_path: Path, target: str) -> None:
    building.saved_model(tmp_path / "elsewhere", "char")
    run = tmp_path / "run"
    run.mkdir()
    (run / "best").symlink_to(target)
    refusal(run)


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.pkl", "model.ckpt"])
def test_pickled_weights_are_refused(tmp_path: Path, name: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    assert "may carry code" in refusal(tmp_path / name)
    assert "may carry code" in refusal(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_model_is_refused(tmp_path: Path, saved: LoadedModel) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not a model: it has no config.json" in refusal(tmp_path / "empty")
    for path, said in ((tmp_path / "none", "does not exist"), (saved.path / "config.json", "expected a model directory")):
        with pytest.raises(UsageError, match=said) as caught:
            load_model(path)
        assert isinstance(caught.value, LstmlmError)


def test_a_run_stands_for_its_best_model(trained_run: Path) -> None:
    assert resolve_model(trained_run) == trained_run / (trained_run / "best").readlink()
    assert load_model(trained_run).path.name.startswith("step-")


def test_a_run_without_a_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "a run without a model yet" in refusal(tmp_path)
