"""Limits for continuous integration: when a report is good enough, and which exit code says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import building
import pytest
import torch

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.cli.main import run
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation import parse_share, regression, too_high


def report(token: float | None, byte: float = 2.0, **model: Any) -> dict[str, Any]:
    return {
        "schema": "lstmlm.eval/1",
        "model": {"tokenizer_fingerprint": "1"} | model,
        "lossless": True,
        "text": {"sha256": "abc"},
        "protocol": {"mode": "stream", "documents": "file"},
        "tokens": 100,
        "perplexity": {"token": token, "byte": byte},
    }


def test_a_limit() -> None:
    assert too_high(report(50.0), 50.0) is None
    assert too_high(report(50.1), 50.0) == "perplexity per token is 50.1; expected at most 50"
    assert too_high(report(None), 50.0) == "perplexity per token is beyond every number; expected at most 50"


def test_a_baseline() -> None:
    assert regression(report(50.0), report(50.0), 0.0) is None
    assert regression(report(50.2), report(50.0), 0.005) is None
    assert regression(report(50.3), report(50.0), 0.005) == (
        "perplexity per token was 50 and is 50.3, +0.60%; expected at most +0.50%"
    )
    assert regression(report(None), report(50.0), 0.5) is not None
    assert regression(report(50.0), report(None), 0.0) is None


def test_other_tokens_are_compared_by_the_byte() -> None:
    assert regression(report(90.0, 2.0, tokenizer_fingerprint="2"), report(50.0, 2.0), 0.0) is None
    assert regression(report(40.0, 2.1, tokenizer_fingerprint="2"), report(50.0, 2.0), 0.0) == (
        "perplexity per byte was 2 and is 2.1, +5.00%; expected at most +0.00%"
    )


def test_what_loses_text_is_compared_with_its_own_tokens_alone() -> None:
    """A vocabulary of twenty words is easily predicted: nearly all is `<unk>`."""
    lossy = report(6.5, 1.4, tokenizer_fingerprint="2") | {"lossless": False}
    for result, baseline in ((lossy, report(76.0)), (report(76.0), lossy)):
        with pytest.raises(DataError, match="one of the two loses some of the text"):
            regression(result, baseline, 0.0)
    assert regression(lossy, lossy, 0.0) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other/1"}, "expected 'lstmlm.eval/1'"),
        ({"text": {"sha256": "def"}}, "another text"),
        ({"protocol": {"mode": "line", "documents": "file"}}, "another mode"),
        ({"protocol": {"mode": "stream", "documents": "blank-line"}}, "another rule for documents"),
        ({"perplexity": {"token": "abc"}}, "no report"),
        ({"perplexity": {"token": 0}}, "its perplexity per token is 0"),
        ({"perplexity": None}, "no report"),
        ({"perplexity": {}}, "has no 'token'"),
        ({"model": None}, "no report"),
    ],
)
def test_what_is_no_baseline(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        regression(report(50.0), report(50.0) | changes, 0.0)


def test_shares() -> None:
    assert (parse_share("0.5%"), parse_share("0.005"), parse_share("0")) == (0.005, 0.005, 0.0)
    for wrong in ("", "x%", "-1%", "100%", "nan"):
        with pytest.raises(UsageError):
            parse_share(wrong)


def test_exit_codes(tmp_path: Path, bpe_model: LoadedModel, capsys: pytest.CaptureFixture[str]) -> None:
    text, baseline = tmp_path / "text.txt", tmp_path / "report.json"
    text.write_text(building.text(20))
    command = ["eval", str(bpe_model.path), str(text)]
    assert run([*command, "--json", str(baseline)]) == 0
    found = json.loads(baseline.read_text())["perplexity"]["token"]
    assert run([*command, "--fail-above", str(found + 1), "--baseline", str(baseline)]) == 0
    capsys.readouterr()
    assert run([*command, "--fail-above", str(found / 2), "--json", "-"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["perplexity"]["token"] == pytest.approx(found)
    assert printed.err.startswith("failed: perplexity per token is ")
    other = load_model(bpe_model.path)
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.mul_(0.95)
    save_model(tmp_path / "other", other.model, other.tokenizer, documents=other.documents)
    other = load_model(tmp_path / "other")
    assert run(["eval", str(other.path), str(text), "--json", str(tmp_path / "other.json")]) == 0
    change = json.loads((tmp_path / "other.json").read_text())["perplexity"]["token"] / found - 1
    pairs = [(other.path, baseline), (bpe_model.path, tmp_path / "other.json")]
    worse, before = pairs[0] if change > 0 else pairs[1]
    share = change if change > 0 else 1 / (1 + change) - 1
    assert 0.001 < share < 0.9
    for allowed, code in ((share * 0.99, 1), (share * 1.01, 0)):
        limits = ["--baseline", str(before), "--max-regression", f"{allowed:.6%}"]
        assert run(["eval", str(worse), str(text), *limits]) == code
    assert run([*command, "--max-regression", "1%"]) == 2
    assert run([*command, "--baseline", str(tmp_path / "none.json")]) == 2
    (tmp_path / "no.json").write_text("{}")
    assert run([*command, "--baseline", str(tmp_path / "no.json")]) == 4
