"""The commands as a shell sees them: exit codes, one or two lines on stderr, nothing but data on stdout."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lstmlm import storage
from lstmlm.checkpoint import load_model
from lstmlm.cli.main import run as run_command

TINY = [
    *("--hidden", "12", "--embedding", "8", "--batch-size", "2", "--window", "8"),
    *("--threads", "1", "--precision", "fp32", "--tokenizer", "char"),
]
Out = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("clean_shell")


@pytest.fixture
def model(trained_run: Path) -> str:
    return str(trained_run)


def command(*arguments: str) -> subprocess.Popen[str]:
    """The real program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lstmlm", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(storage.__file__).parents[1])},
    )


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def refused(capsys: Out, code: int, *arguments: str) -> str:
    """The message of a command that fails with `code`: one or two lines, no traceback, nothing on stdout."""
    assert run_command(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert 1 <= len(err.splitlines()) <= 2, err
    assert "Traceback" not in err
    assert err.startswith("lstmlm: ")
    return err


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train text.txt --no-such-option", "No such option"),
        ("trian text.txt", "No such command"),
        ("train none.txt", "none.txt does not exist"),
        ("train", "expected a SOURCE"),
        ("train text.txt --tokenizer wordpiece", "'bpe', 'word', 'char', 'byte'"),
        ("train text.txt --hidden 0", "hidden_size is 0"),
        ("train text.txt --hidden x", "not a valid integer"),
        ("train text.txt --hidden 99999999999999", "hidden_size"),
        ("train text.txt --lr nan", "learning_rate is nan"),
        ("train text.txt --lr -1", "learning_rate is -1"),
        ("train text.txt --budget soon", "'soon' is not a duration"),
        ("train text.txt --budget 10m --steps 5", "exactly one of budget, epochs and steps"),
        ("train text.txt --steps 0", "steps is 0"),
        ("train text.txt --seed -1", "seed is -1"),
        ("train text.txt --seed 99999999999999999999999", "seed is 9999"),
        ("train text.txt --split 90/10", "expected TRAIN/VALID/TEST"),
        ("train text.txt --split a/b/c", "expected TRAIN/VALID/TEST"),
        ("train text.txt --min-count few", "expected auto or a number"),
        ("train text.txt --vocab-size 3", "vocabulary size of bpe is 3"),
        ("train text.txt --tokenizer byte --vocab-size 300", "does not apply to bytes"),
        ("train text.txt --input one-hot --tied", "one-hot input has none"),
        ("train text.txt --dropout-input 1", "dropout_input is 1"),
        ("train text.txt --checkpoint-every never", "'never' is not a duration"),
        ("train text.txt --cell gru --precision bf16 --device cpu --steps 1", "use --precision fp32"),
        ("eval", "Missing argument"),
        ("eval none", "none does not exist"),
        ("eval text.txt", "expected a model directory"),
        ("complete none x", "none does not exist"),
        ("complete MODEL x -k 0", "0 is not in the range"),
        ("complete MODEL x --format xml", "'tsv', 'json', 'jsonl'"),
        ("eval MODEL --mode word", "'stream', 'document', 'line'"),
        ("eval MODEL none.txt", "none.txt does not exist"),
        ("eval MODEL text.txt --split valid", "has no splits"),
        ("generate MODEL x --temperature -1", "temperature is -1"),
        ("generate MODEL x --top-p 0", "top_p is 0"),
        ("generate MODEL x --min-p 2", "min_p is 2"),
        ("generate MODEL x --repetition-penalty 0", "repetition_penalty is 0"),
        ("generate MODEL x --max-tokens -5", "-5 is not in the range"),
        ("info none", "none does not exist"),
        ("info text.txt --split 1/2", "expected TRAIN/VALID/TEST"),
        ("repl none", "none does not exist"),
    ],
)
def test_wrong_usage_is_exit_2(model: str, source: Path, capsys: Out, arguments: str, said: str) -> None:
    before = sorted(source.parent.rglob("*"))
    assert said in refused(capsys, 2, *arguments.replace("MODEL", model).split())
    assert [path for path in sorted(source.parent.rglob("*")) if path.name != "checkpoints"] == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "empty"),
        ("white.txt", b" \n\t\n", "white space"),
        ("line.txt", b"a single line\n", "single line"),
        ("start.txt", b"\xffhello\nyou\n", "byte 0xff at offset 0"),
        ("middle.txt", b"hello\nw\xe9lt\nyou\n", "byte 0xe9 at offset 7"),
        ("end.txt", b"hello\nyou\n\xe2\x82", "byte 0xe2 at offset 10"),
        ("utf16.txt", "hello\nyou\n".encode("utf-16"), "looks like UTF-16"),
        ("cut.txt.gz", b"\x1f\x8b\x08\x00", "not a whole .gz file"),
        ("not.txt.xz", b"hello\n", "not a whole .xz file"),
        ("bad.jsonl", b"{not json\n", "cannot be read"),
    ],
)
def test_unusable_text_is_exit_4_and_leaves_nothing(
    tmp_path: Path, model: str, capsys: Out, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for arguments in (["train", name, "-o", "run", *TINY, "--steps", "2"], ["info", name], ["eval", model, name]):
        if name == "line.txt" and arguments[0] == "eval":
            continue
        message = refused(capsys, 4, *arguments)
        assert said in message
        assert name.split(".")[0] in message
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_that_is_no_model_is_exit_4(tmp_path: Path, capsys: Out, model: str) -> None:
    (tmp_path / "folder").mkdir()
    cut = shutil.copytree(load_model(model).path, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for name, said in (("folder", "is not a model"), ("cut", "has 1,000 bytes; its manifest says")):
        for arguments in (["eval", name, "x"], ["complete", name, "x"], ["generate", name], ["repl", name]):
            assert said in refused(capsys, 4, *arguments)
    assert "has 1,000 bytes" in refused(capsys, 4, "info", "cut")


def test_a_damaged_run_file_is_exit_4(tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    for arguments in (["info", "run"], ["train", "-o", "run", "--resume"], ["eval", "run"]):
        refused(capsys, 4, *arguments)


def test_a_path_below_a_file_is_exit_5(source: Path, capsys: Out) -> None:
    assert "Not a directory" in refused(capsys, 5, "train", str(source), "-o", f"{source}/run")


def test_a_full_disk_is_exit_5(source: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "write", write)
    assert run_command(["train", str(source), "-o", "run", *TINY, "--steps", "2"]) == 5
    message = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; free some space" in message
    assert not Path("run").exists()


def test_too_large_a_model_is_exit_6(source: Path, capsys: Out) -> None:
    arguments = ["train", str(source), "-o", "run", *TINY, "--steps", "2"]
    arguments[arguments.index("12")] = "200000000"
    assert "not enough memory" in refused(capsys, 6, *arguments)
    assert not Path("run").exists()


def test_divergence_is_exit_7(source: Path, capsys: Out) -> None:
    arguments = ["train", str(source), "-o", "run", *TINY, "--steps", "200", "--lr", "1e6", "--patience", "0"]
    assert run_command(arguments) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert "use a smaller --lr" in err.splitlines()[-1]


def test_our_own_mistake_is_one_line_too(model: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("lstmlm.completion.complete", broken)
    assert "ZeroDivisionError" in refused(capsys, 70, "complete", model, "x")
    monkeypatch.setenv("LSTMLM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run_command(["complete", model, "x"])


# -- train ------------------------------------------------------------------------------------------------------------


def test_train_reports_on_the_test_split_and_resumes(source: Path, capsys: Out) -> None:
    arguments = ["train", str(source), "-o", "run", *TINY, "--steps", "20"]
    assert run_command(arguments) == 0
    out, err = capsys.readouterr()
    assert "perplexity per word" in out
    assert "\x1b" not in out + err
    assert "20 steps" in err
    refused(capsys, 2, *arguments)
    before = sorted(Path("run").rglob("*"))
    for again in (["train", "-o", "run", "--resume"], [*arguments, "--resume"]):
        assert run_command(again) == 0
        out, err = capsys.readouterr()
        assert (out, "is finished" in err) == ("", True)
    assert sorted(Path("run").rglob("*")) == before
    assert "batch size 2, not 3" in refused(capsys, 2, "train", "-o", "run", "--resume", "--batch-size", "3")


def test_resume_without_a_run_begins_one_and_says_so(source: Path, capsys: Out) -> None:
    assert "no run to continue" in refused(capsys, 2, "train", "-o", "run", "--resume")
    assert run_command(["train", str(source), "-o", "run", *TINY, "--steps", "2", "--resume"]) == 0
    assert "starting from the beginning" in capsys.readouterr().err


def test_the_default_run_is_named_after_the_source(source: Path) -> None:
    assert run_command(["train", str(source), *TINY, "--steps", "2"]) == 0
    assert (Path("checkpoints") / "text" / "best").is_dir()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves(source: Path, capsys: Out, number: int, code: int) -> None:
    arguments = ["train", str(source), "-o", "run", *TINY, "--epochs", "100000", "--validate-every", "10"]
    with command(*arguments, "--patience", "0") as process:
        assert process.stderr is not None
        assert any(line.startswith("validation on all of ") for line in process.stderr)
        process.send_signal(number)
        rest, out = process.stderr.read(), process.stdout.read() if process.stdout else ""
    assert process.returncode == code
    assert out == ""
    assert "saved; to continue: lstmlm train -o run --resume" in rest.splitlines()[-1]
    stopped = json.loads((max(Path("run").glob("step-*")) / "training.json").read_text())["step"]
    assert f"at step {stopped}," in rest
    assert "is in use" not in rest
    assert run_command(["info", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == stopped


def test_a_second_sigint_leaves_at_once(source: Path) -> None:
    """While the first one waits for the end of a step that never ends."""
    script = (
        "import os, signal, sys\n"
        "from lstmlm.model import LanguageModel\n"
        "from lstmlm.cli.main import main\n"
        "def forward(self, *_):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('once', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('twice', flush=True)\n"
        "LanguageModel.forward = forward\n"
        "main()\n"
    )
    arguments = ["train", str(source), "-o", "run", *TINY, "--steps", "20"]
    process = subprocess.run([sys.executable, "-c", script, *arguments], check=False, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (130, "once\n")
    assert "Traceback" not in process.stderr


# -- eval, complete, generate, info -----------------------------------------------------------------------------------


def test_eval_json_has_exactly_the_documented_keys(model: str, capsys: Out) -> None:
    assert run_command(["eval", model, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == ""
    assert result["schema"] == "lstmlm.eval/1"
    expected: dict[str, set[str]] = {
        "model": {"path", "parameters", "tokenizer", "vocabulary_size", "tokenizer_fingerprint", "sha256"},
        "text": {"paths", "split", "sha256", "bytes", "chars", "words", "lines", "documents"},
        "protocol": {"mode", "documents", "start", "precision", "approximate"},
        "perplexity": {"token", "word", "word_with_eos", "byte"},
        "oov": {"rate", "including", "excluding", "adjusted"},
        "accuracy": {"top1", "top3", "top5", "top10"},
    }
    assert {name: set(result[name]) for name in expected} == expected
    assert result.keys() - expected.keys() - {"warnings"} == {
        *("schema", "nll_nats", "tokens", "tokens_eos", "tokens_unknown", "bits_per_byte", "bits_per_char", "lossless"),
        *("mrr10", "confidence95", "rows", "seconds", "tokens_per_second", "unknown_types", "provenance", "cite"),
        *("checks", "baselines", "breakdowns", "classification", "calibration", "training", "samples", "coloured"),
    }
    assert {"perplexity_token", "method", "clusters"} <= result["confidence95"].keys()
    assert all(check["passed"] for check in result["checks"])


def test_eval_writes_its_json_beside_the_table(model: str, source: Path, capsys: Out) -> None:
    assert run_command(["eval", model, str(source), "--mode", "line", "--json", "out.json"]) == 0
    assert "perplexity per token" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text())["protocol"]["mode"] == "line"


def test_complete_answers_in_three_formats(model: str, capsys: Out) -> None:
    assert run_command(["complete", model, "the c", "-k", "2"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    assert run_command(["complete", model, "the c", "-k", "2", "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == {"text", "typed", "candidates", "other_probability", "exact", "mass_bound", "ms"}
    assert (answer["text"], answer["typed"]) == ("the c", "c")
    for row, candidate in zip(rows, answer["candidates"], strict=True):
        assert row == [candidate["word"], f"{candidate['probability']:.6g}", str(candidate["replace"]), candidate["insert"]]
    total = sum(candidate["probability"] for candidate in answer["candidates"]) + answer["other_probability"]
    assert total == pytest.approx(1, abs=answer["mass_bound"] + 1e-9)


def test_complete_reads_stdin_line_by_line(model: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"the cat\nthe \n\nlast\r\n")
    assert run_command(["complete", model, "--format", "jsonl", "-k", "1"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == ["the cat", "the ", "", "last"]
    assert [answer["typed"] for answer in answers] == ["cat", "", "", "last"]


def test_complete_names_the_line_that_is_not_utf8(model: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"fine\nb\xe4d\n")
    assert run_command(["complete", model]) == 4
    out, err = capsys.readouterr()
    assert out != ""
    assert err == "lstmlm: line 2 of stdin is not UTF-8: byte 0xe4 at 1\n"


@pytest.mark.parametrize("text", ["", " ", "\x00\x1b[31m", "🎉 ", "שלום ", "x" * 3000, "<eos> <unk> ", "\u2028", "\ufeff"])
def test_complete_survives_strange_texts(model: str, capsys: Out, text: str) -> None:
    assert run_command(["complete", model, text, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == text


def test_generate_repeats_itself_by_seed(model: str, capsys: Out) -> None:
    texts = []
    for seed in ("7", "7", "8"):
        assert run_command(["generate", model, "the ", "--seed", seed, "--max-tokens", "40", "-n", "2"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    first, second = texts[0].split("---\n")
    assert first.startswith("the ")
    assert second == texts[2].split("---\n")[0]  # sample i of seed S is that of seed S + i


def test_generate_takes_every_filter(model: str, capsys: Out) -> None:
    options = "--temperature 0 --top-k 3 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.2 --stop zzz --max-tokens 5"
    assert run_command(["generate", model, "a ", *options.split()]) == 0
    assert run_command(["generate", model, "a ", "--max-tokens", "0"]) == 0
    assert capsys.readouterr().out.endswith("a \n")
    for extreme in ("1e-40", "1e-300", "1e300"):
        assert run_command(["generate", model, "a ", "--temperature", extreme, "--max-tokens", "3"]) == 0


@pytest.mark.parametrize("kind", ["word", "char"])
def test_info_counts_the_tokens_of_every_split(source: Path, capsys: Out, kind: str) -> None:
    assert run_command(["info", str(source), "--tokenizer", kind, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    lines = source.read_text().count("\n")
    assert (about["kind"], about["tokenizer"], set(about["splits"])) == ("source", kind, {"train", "valid", "test"})
    splits = about["splits"].values()
    assert sum(split["lines"] for split in splits) == lines
    if kind == "word":
        assert sum(split["tokens"] for split in splits) == len(source.read_text().split()) + lines
    else:
        assert sum(split["tokens"] for split in splits) == len(source.read_text()) + 3
    assert run_command(["info", str(source), "--tokenizer", kind]) == 0
    assert "train" in capsys.readouterr().out


def test_info_of_runs_and_models(model: str, capsys: Out) -> None:
    for subject, kind in ((model, "run"), (str(load_model(model).path), "model")):
        assert run_command(["info", subject, "--json"]) == 0
        about = json.loads(capsys.readouterr().out)
        assert (about["kind"], about["path"]) == (kind, subject)
        assert run_command(["info", subject]) == 0
        assert "vocabulary_size" in capsys.readouterr().out
    assert about["parameters"] == load_model(model).model.num_parameters


def test_help_and_version(capsys: Out) -> None:
    for arguments in (["--help"], ["-h"], ["train", "--help"], ["repl", "-h"]):
        assert run_command(arguments) == 0
        assert "Usage: lstmlm" in capsys.readouterr().out
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("lstmlm, version ")
