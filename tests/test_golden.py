"""A model directory of every older format version still loads and says the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lstmlm.checkpoint import load_model
from lstmlm.cli.main import run as run_command
from lstmlm.scoring import score_segments

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("version", [1])
def test_an_older_model_gives_each_token_the_recorded_nats(version: int) -> None:
    loaded = load_model(GOLDEN / f"model-v{version}")
    recorded = json.loads((GOLDEN / f"model-v{version}-nats.json").read_text())
    ids = [*loaded.tokenizer.encode(recorded["text"]), loaded.tokenizer.eos]
    assert ids == recorded["ids"]
    scores = score_segments(loaded.model, [np.array(ids, np.uint16)], eos=loaded.tokenizer.eos)
    assert scores.nats_N == pytest.approx(recorded["nats"], abs=1e-5)


def test_an_older_model_has_the_recorded_perplexity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = json.loads((GOLDEN / "model-v1-nats.json").read_text())
    (tmp_path / "text.txt").write_text(recorded["text"])
    assert run_command(["eval", str(GOLDEN / "model-v1"), str(tmp_path / "text.txt"), "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    mean = float(np.mean(recorded["nats"]))
    assert np.log(result["perplexity"]["token"]) == pytest.approx(mean, abs=1e-6)
    assert result["tokens_unknown"] == 2  # the capitals, which its training text did not have
