"""What a warm-started run says at its end: how much of the old text it forgot, and what it learned of the new one."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import building
import pytest
from rich.console import Console
from test_resume import stop_after
from test_resume_guards import everything

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.cli.main import run as run_command
from lstmlm.corpus import open_corpus
from lstmlm.evaluation import evaluate, forgetting
from lstmlm.report.training import forgetting_report
from lstmlm.training import RunOptions, train

Out = pytest.CaptureFixture[str]
ONE_THREAD = ("--threads", "1", "--precision", "fp32")

pytestmark = pytest.mark.usefixtures("clean_shell")


def test_what_is_forgotten_is_the_difference_of_evaluations(start: LoadedModel, diary: Path, tmp_path: Path) -> None:
    list(train(tmp_path / "run", building.warm(diary, start.path, steps=60, learning_rate=0.03, patience=0)))
    after = load_model(tmp_path / "run")
    found = forgetting(start, after)
    assert (found["before"], found["after"], found["missing"]) == (start.sha256, after.sha256, [])
    for text, source in zip(found["texts"], (tmp_path / "general" / "text.txt", diary), strict=True):
        for when, model in (("before", start), ("after", after)):
            whole = evaluate(model, open_corpus([source]), "test")
            assert text[when] == {
                "nll_nats": whole["nll_nats"],
                "bits_per_byte": whole["bits_per_byte"],
                "perplexity_word": whole["perplexity"]["word"],
            }
            assert (text["tokens"], text["bytes"]) == (whole["tokens"], whole["text"]["bytes"])
            assert (text["words"], text["sha256"]) == (whole["text"]["words"], whole["text"]["sha256"])
    old, new = found["texts"]
    assert [(old["domain"], old["name"], old["split"])] == [("old", "text", "test")]
    assert [(new["domain"], new["name"], new["split"])] == [("new", "diary", "test")]
    assert new["after"]["nll_nats"] < new["before"]["nll_nats"]
    known = evaluate(after, open_corpus([diary]), "test")
    assert forgetting(start, after, measured=known) == found
    assert all(text["before"] == text["after"] for text in forgetting(start, start)["texts"])


def shown(result: dict[str, Any]) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(forgetting_report(result))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def scored(name: str, before: Sequence[float | None], after: Sequence[float | None]) -> dict[str, Any]:
    names = ("perplexity_word", "bits_per_byte")
    figures = {"before": dict(zip(names, before, strict=True)), "after": dict(zip(names, after, strict=True))}
    return {"domain": "old", "name": name, "split": "test"} | figures


def test_the_table_of_before_and_after() -> None:
    assert shown(
        {"texts": [scored("novel", (100.0, 1.25), (125.0, 1.5)), scored("\x1b[1m", (4000.0, 3.0), (1000.0, 2.0))]}
    ) == [
        "perplexity per word        before     after  change",
        "old text: novel, test      100.00    125.00  +25.0%",
        "old text: \\x1b[1m, test  4,000.00  1,000.00  -75.0%",
    ]
    assert shown({"texts": [scored("novel", (None, 1.25), (None, 1.5))]}) == [
        "bits per byte          before   after  change",
        "old text: novel, test  1.2500  1.5000  +20.0%",
    ]


def test_the_command_tells_it_and_leaves_the_start_alone(
    start: LoadedModel, diary: Path, tmp_path: Path, capsys: Out
) -> None:
    before = everything(tmp_path / "general")
    arguments = ("train", str(diary), "--from", "general/run", "-o", "run", *ONE_THREAD, "--steps", "8")
    assert run_command(arguments) == 0
    assert everything(tmp_path / "general") == before
    out, err = capsys.readouterr()
    assert f"from       {start.path.resolve()}" in err
    table = [line.rstrip() for line in out.splitlines()[-3:]]
    assert table == shown(forgetting(start, load_model("run")))
    assert "perplexity per word" in table[0]
    options = RunOptions.read(Path("run"))
    assert (options.model.hidden_size, options.training.batch_size) != (256, 16), "what the start leaves open is fitted"
    assert run_command(["train", "-o", "run", "--resume"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("text gone", "text.txt does not exist"),
        ("text changed", "has changed since this model was trained"),
        ("text emptied", "text.txt"),
        ("nothing recorded", "does not know what it was trained on"),
    ],
)
def test_an_old_text_that_cannot_be_had_is_a_note(
    start: LoadedModel, diary: Path, tmp_path: Path, capsys: Out, what: str, said: str
) -> None:
    name, text = "general/run", tmp_path / "general" / "text.txt"
    if what == "text gone":
        text.unlink()
    elif what == "nothing recorded":
        save_model(tmp_path / "bare", start.model, start.tokenizer)
        name = "bare"
    else:
        text.write_text("" if what == "text emptied" else "the end .\n" * 300)
    assert run_command(["train", str(diary), "--from", name, "-o", "run", *ONE_THREAD, "--steps", "2"]) == 0
    out, err = capsys.readouterr()
    (note,) = [line for line in err.splitlines() if "forgotten" in line]
    assert said in note
    assert note.endswith("eval run OLDTEXT")
    assert "old text:" not in out
    assert "new text: diary, test" in out.splitlines()[-1]


def test_a_start_that_is_gone_at_the_end_is_a_note(start: LoadedModel, diary: Path, tmp_path: Path, capsys: Out) -> None:
    stop_after(tmp_path / "run", building.warm(diary, start.path), 5)
    shutil.rmtree(start.path)
    assert run_command(["train", "-o", "run", "--resume", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert "perplexity per word" in out
    assert "old text:" not in out
    assert f"could not be measured: {start.path.resolve()} does not exist; by hand: " in err
