"""Perplexity from a model directory's own files and the written format alone: NumPy in float64, nothing of lstmlm."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from tokenizers import Tokenizer

Array = NDArray[np.float64]


@dataclass
class Model:
    config: dict[str, Any]
    tokenizer: Tokenizer
    weights: dict[str, Array]


@dataclass
class Figures:
    """What one text amounts to, token by token."""

    ids: list[int]
    nats: list[float]
    ranks: list[int]


def read_model(path: Path) -> Model:
    """Every file of the manifest must have its size and hash; the tensors must be those the format names."""
    files = json.loads((path / "MANIFEST.json").read_text())["files"]
    assert files.keys() == {file.name for file in path.iterdir()} - {"MANIFEST.json"}
    for name, about in files.items():
        data = (path / name).read_bytes()
        assert about == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    config = json.loads((path / "config.json").read_text())
    assert (config["format"], config["format_version"]) == ("lstmlm-model", 1)
    stored = safetensors.numpy.load_file(path / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {np.dtype(np.float32)}
    assert {name: weight.shape for name, weight in stored.items()} == shapes(config["model"])
    weights = {name: weight.astype(np.float64) for name, weight in stored.items()}
    return Model(config, Tokenizer.from_file(str(path / "tokenizer.json")), weights)


def shapes(model: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    size, embedding, hidden = model["vocabulary_size"], model["embedding_size"], model["hidden_size"]
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[model["cell"]] * hidden
    one_hot = model["input"] == "one-hot"
    found: dict[str, tuple[int, ...]] = {"output.bias": (size,)}
    if not one_hot:
        found["embedding.weight"] = (size, embedding)
    for layer in range(model["num_layers"]):
        width = hidden if layer else size if one_hot else embedding
        found |= {f"rnn.{layer}.weight_ih": (gates, width), f"rnn.{layer}.weight_hh": (gates, hidden)}
        found |= {f"rnn.{layer}.bias_ih": (gates,), f"rnn.{layer}.bias_hh": (gates,)}
    if not model["tied"]:
        found["output.weight"] = (size, hidden)
    elif embedding != hidden:
        found["output.projection.weight"] = (embedding, hidden)
    if traces := len(model["traces"]):
        found |= {"traces.scale": (traces, embedding), "traces.weight": (size,)}
        found |= {"traces.gate.weight": (traces, hidden), "traces.gate.bias": (traces,)}
    if model["softmax"] == "adaptive":
        clusters = len(model["cutoffs"]) + 1
        found |= {
            "output.cluster_weight": (clusters, embedding if model["tied"] else hidden),
            "output.cluster_bias": (clusters,),
        }
    return found


def read_text(path: Path) -> str:
    text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    return lines[:-1] + ([lines[-1][:-1]] if lines[-1] != "\n" else [])


def segments(model: Model, text: str, mode: str) -> list[list[int]]:
    """The ids of one file, cut where the state is reset."""
    about = model.config["tokenizer"]
    documents = [lines_of(text)]
    if about["documents"] == "blank-line":
        marked = "".join(line if line != "\n" else "\0" for line in documents[0])
        documents = [lines_of(part) for part in marked.split("\0") if part]
    found: list[list[list[int]]] = []  # documents of lines of ids
    for document in documents:
        lines = [encode(model, line.removesuffix("\n") if about["kind"] == "word" else line) for line in document]
        if about["kind"] == "word":
            found.append([[*ids, about["eos"]] for ids in lines])
            continue
        assert joined(lines) == encode(model, "".join(document)), "no token crosses a line end"
        found.append([*lines[:-1], [*lines[-1], about["eos"]]])
    if mode == "line":
        return [line for document in found for line in document]
    by_document = [joined(document) for document in found]
    return by_document if mode == "document" else [joined(by_document)]


def joined(parts: list[list[int]]) -> list[int]:
    return [token for part in parts for token in part]


def encode(model: Model, text: str) -> list[int]:
    return model.tokenizer.encode(text, add_special_tokens=False).ids


def score(model: Model, parts: list[list[int]]) -> Figures:
    """Each segment from the zero state, `<eos>` its first input, each of its ids a target once."""
    figures = Figures([], [], [])
    for part in parts:
        inputs = [model.config["tokenizer"]["eos"], *part[:-1]]
        for target, logits_V in zip(part, predictions(model, inputs), strict=True):
            highest = logits_V.max()
            figures.nats.append(math.log(math.fsum(np.exp(logits_V - highest))) + highest - logits_V[target])
            figures.ranks.append(1 + np.argsort(-logits_V, kind="stable").tolist().index(target))
            figures.ids.append(target)
    return figures


def predictions(model: Model, inputs: list[int]) -> Iterator[Array]:
    about, weights = model.config["model"], model.weights
    hidden = np.zeros((about["num_layers"], about["hidden_size"]))
    cell = np.zeros_like(hidden)
    traces = [np.zeros(about["embedding_size"]) for _ in about["traces"]]
    for token in inputs:
        values = (
            np.eye(about["vocabulary_size"])[token] if about["input"] == "one-hot" else weights["embedding.weight"][token]
        )
        for layer in range(about["num_layers"]):
            matrices = [weights[f"rnn.{layer}.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            hidden[layer], cell[layer] = STEPS[about["cell"]](values, hidden[layer], cell[layer], *matrices)
            values = values + hidden[layer] if about["residual"] and layer > 0 else hidden[layer]
        top = values
        if "output.projection.weight" in weights:
            values = weights["output.projection.weight"] @ values
        for number, horizon in enumerate(about["traces"]):
            decay = math.exp(-1 / horizon)
            mark = weights["traces.weight"][token] * weights["embedding.weight"][token]
            traces[number] = decay * traces[number] + math.sqrt(1 - decay * decay) * mark
            gate = sigmoid(weights["traces.gate.weight"][number] @ top + weights["traces.gate.bias"][number])
            values = values + gate * weights["traces.scale"][number] * traces[number]
        logits = weights["embedding.weight" if about["tied"] else "output.weight"] @ values + weights["output.bias"]
        yield by_cluster(logits, values, model) if about["softmax"] == "adaptive" else logits


def by_cluster(logits: Array, values: Array, model: Model) -> Array:
    """Log-probabilities: ln p(cluster) + ln p(symbol | cluster)."""
    log_clusters = log_softmax(model.weights["output.cluster_weight"] @ values + model.weights["output.cluster_bias"])
    parts = np.split(logits, model.config["model"]["cutoffs"])
    return np.concatenate([log_softmax(part) + chosen for part, chosen in zip(parts, log_clusters, strict=True)])


def log_softmax(values: Array) -> Array:
    return values - values.max() - math.log(math.fsum(np.exp(values - values.max())))


def sigmoid(values: Array) -> Array:
    return 0.5 * (1 + np.tanh(values / 2))


def lstm(x: Array, h: Array, c: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(w_ih @ x + b_ih + w_hh @ h + b_hh, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(x: Array, h: Array, c: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> tuple[Array, Array]:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(w_ih @ x + b_ih, 3), np.split(w_hh @ h + b_hh, 3)
    z = sigmoid(z_x + z_h)
    return (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h, c


def rnn(x: Array, h: Array, c: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> tuple[Array, Array]:
    return np.tanh(w_ih @ x + b_ih + w_hh @ h + b_hh), c


STEPS = {"lstm": lstm, "gru": gru, "rnn": rnn}
