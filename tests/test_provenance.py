from __future__ import annotations

import hashlib
import json
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import building
import pytest
import torch

import lstmlm
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.evaluation import evaluate
from lstmlm.evaluation.provenance import cite, provenance

TEXT = "the cat sat on the mat .\nthe dog\n" * 40


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 20)  # several blocks of lines
    return path


def evaluated(loaded: LoadedModel, path: Path, **options: Any) -> dict[str, Any]:
    return evaluate(loaded, open_texts([str(path)], CorpusConfig(documents=loaded.documents), None), **options)


def test_it_says_what_it_takes_to_compute_the_figure_again(bpe_model: LoadedModel) -> None:
    found = json.loads(json.dumps(provenance(building.scored(bpe_model, TEXT), "lstmlm eval m t.txt")))
    hashes = {
        name: hashlib.sha256((bpe_model.path / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "tokenizer.json")
    }
    assert found["command"] == "lstmlm eval m t.txt"
    assert found["model_sha256"] == hashes["model.safetensors"]
    assert found["tokenizer_fingerprint"] == hashes["tokenizer.json"]
    assert found["text_sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert abs((date.fromisoformat(found["date"]) - date.today()).days) <= 1
    assert found["versions"] == {
        "lstmlm": lstmlm.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "tokenizers")},
    }
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["system"]
    assert found["machine"]["processor"]


def test_a_line_to_cite_has_model_text_figure_protocol_and_version(word_model: LoadedModel, text: Path) -> None:
    result = evaluated(word_model, text, mode="document")
    result["provenance"] = provenance(building.scored(word_model, TEXT), "") | {"date": "2026-11-24"}
    line, low = cite(result), result["confidence95"]["perplexity_token"][0]
    for part in (
        f"lstmlm {lstmlm.__version__}",
        word_model.path.name,
        word_model.sha256[:12],
        str(text),
        result["text"]["sha256"][:12],
        f"perplexity {result['perplexity']['token']:.4g} per token (95% {low:.4g} to ",
        f"{result['tokens']:,} tokens",
        "mode document, from the zero state",
        "2026-11-24",
    ):
        assert part in line


def test_a_split_is_cited_as_one(word_model: LoadedModel, text: Path) -> None:
    result = evaluated(word_model, text)
    assert f"; text {text} (SHA-256 " in cite(result)
    assert f"; valid split of {text} (SHA-256 " in cite(result | {"text": result["text"] | {"split": "valid"}})


def test_other_tokenizers_are_cited_by_what_does_not_depend_on_them(bpe_model: LoadedModel, text: Path) -> None:
    result = evaluated(bpe_model, text)
    assert f"; {result['bits_per_byte']:.4g} bits per byte (95% " in cite(result)
    assert "perplexity" not in cite(result)


def test_it_is_one_line_whatever_the_names_and_figures_are(word_model: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.txt"
    path.write_text(TEXT)
    result = evaluated(word_model, path)
    assert "\n" not in cite(result)
    assert "two lines.txt" in cite(result)
    result["perplexity"]["token"] = result["confidence95"] = None
    assert "perplexity - per token over" in cite(result)
    result["perplexity"]["token"] = 123456.7
    assert "perplexity 123,457 per token over" in cite(result)
