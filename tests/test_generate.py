"""`lstmlm generate` as a shell and another program see it: text, JSON, a line in and a line out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from test_cli import command, piped, refused

from lstmlm import config
from lstmlm.checkpoint import load_model
from lstmlm.cli.main import run as run_command
from lstmlm.config import SamplingConfig
from lstmlm.generation import Session

Out = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("clean_shell")


@pytest.fixture
def model(trained_run: Path) -> str:
    return str(trained_run)


def output(capsys: Out, *arguments: str) -> str:
    assert run_command(["generate", *arguments]) == 0
    return capsys.readouterr().out


def answers(capsys: Out, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(capsys, *arguments).splitlines()]


def test_json_says_all_about_a_sample(model: str, capsys: Out) -> None:
    options = ("--seed", "3", "--max-tokens", "8", "--logprobs", "2", "--stop", "zzz", "-n", "2")
    whole = json.loads(output(capsys, model, "the ", *options, "--format", "json"))
    assert answers(capsys, model, "the ", *options, "--format", "jsonl") == [whole]
    assert whole.keys() == {"prompt", "seed", "samples"}
    assert (whole["prompt"], whole["seed"], len(whole["samples"])) == ("the ", 3, 2)
    session = Session(load_model(model))
    for number, sample in enumerate(whole["samples"]):
        expected = session.sample("the ", SamplingConfig(), seed=3 + number, max_tokens=8, logprobs=2)
        assert sample.keys() == {"text", "finish_reason", "logprob", "tokens"}
        assert sample["text"] == expected.text
        assert sample["finish_reason"] == expected.finish_reason == "length"
        assert "".join(token["token"] for token in sample["tokens"]) == sample["text"]
        for token in sample["tokens"]:
            assert token.keys() == {"token", "logprob", "top"}
            assert [other.keys() for other in token["top"]] == [{"token", "logprob"}] * 2
            assert token["logprob"] <= token["top"][0]["logprob"] <= 0


def test_texts_and_json_are_of_the_same_samples(model: str, capsys: Out) -> None:
    options = ("--seed", "5", "--max-tokens", "20", "-n", "3", "--top-k", "5", "--stop", ".")
    texts = output(capsys, model, "the ", *options).removesuffix("\n").split("\n---\n")
    (found,) = answers(capsys, model, "the ", *options, "--format", "jsonl")
    assert texts == ["the " + sample["text"] for sample in found["samples"]]


def test_a_seed_that_was_chosen_is_told_and_repeats(model: str, capsys: Out) -> None:
    options = ("the ", "--max-tokens", "20", "--format", "jsonl")
    first, second = (answers(capsys, model, *options)[0] for _ in range(2))
    assert first["seed"] != second["seed"]
    assert answers(capsys, model, *options, "--seed", str(first["seed"])) == [first]


def test_beams_are_ranked_and_not_drawn(model: str, capsys: Out) -> None:
    options = ("--beams", "4", "-n", "3", "--max-tokens", "8", "--length-penalty", "0", "--no-repeat-ngram-size", "3")
    (found,) = answers(capsys, model, "the ", *options, "--format", "jsonl")
    assert found["seed"] is None
    logprobs = [sample["logprob"] for sample in found["samples"]]
    assert len(logprobs) == 3
    assert logprobs == sorted(logprobs, reverse=True)
    assert output(capsys, model, "the ", *options) == "---\n".join(f"the {sample['text']}\n" for sample in found["samples"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--beams 0", "beams is 0"),
        ("--beams 2 -n 3", "n is 3; expected a number from 1 to that of the beams, 2"),
        ("--beams 2 --length-penalty nan", "length_penalty is nan"),
        ("--beams 2 --seed 1", "--beams does not draw"),
        ("--beams 2 --top-k 1", "--beams does not draw"),
        ("--length-penalty 1", "--length-penalty ranks what --beams finds"),
        ("--logprobs 2", "--logprobs are part of JSON"),
        ("--logprobs -2 --format json", "logprobs is -2"),
        ("--format xml", "'text', 'json', 'jsonl'"),
        ("--typical-p 0", "typical_p is 0"),
        ("--epsilon-cutoff 1", "epsilon_cutoff is 1"),
        ("--eta-cutoff -1", "eta_cutoff is -1"),
        ("--frequency-penalty 3", "frequency_penalty is 3"),
        ("--presence-penalty nan", "presence_penalty is nan"),
        ("--no-repeat-ngram-size -1", "no_repeat_ngram_size is -1"),
        ("--stop= --format json", "a stop string is empty"),
        ("--seed -1 --format json", "seed is -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(model: str, capsys: Out, options: str, said: str) -> None:
    assert said in refused(capsys, 2, "generate", model, "the ", *options.split())


def test_lines_of_stdin_need_a_format_of_one_line(model: str, capsys: Out) -> None:
    assert "--format json or jsonl for -" in refused(capsys, 2, "generate", model, "-", "--format", "text")


def test_every_line_of_stdin_is_a_prompt(model: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"the cat \n\nthe \r\nlast")
    options = ("--seed", "2", "--max-tokens", "10")
    found = answers(capsys, model, "-", *options)
    assert [answer["prompt"] for answer in found] == ["the cat ", "", "the ", "last"]
    for answer in found:  # whatever was read before
        assert answers(capsys, model, answer["prompt"], *options, "--format", "jsonl") == [answer]


def test_no_lines_no_answers(model: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"")
    assert output(capsys, model, "-") == ""


def test_a_line_that_is_not_utf8_ends_the_session(model: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"fine\nb\xe4d\n")
    assert run_command(["generate", model, "-", "--max-tokens", "2"]) == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["prompt"] == "fine"
    assert err == "lstmlm: line 2 of stdin is not UTF-8: byte 0xe4 at 1\n"


@pytest.fixture
def process(model: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "lstmlm", "generate", model, "-", "--max-tokens", "3", "--seed", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    here = os.environ | {"PYTHONPATH": str(Path(config.__file__).parents[1])}
    with subprocess.Popen(arguments, text=True, env=here, **pipes) as process:  # type: ignore[call-overload]
        yield process


def test_a_session_is_answered_line_by_line(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    for prompt in ("the ", "a c", ""):
        process.stdin.write(prompt + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["prompt"] == prompt  # before the next line is written
    process.stdin.close()
    assert process.stdout.read() == ""
    assert process.wait() == 0


def test_a_reader_that_goes_away_is_no_error(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write("the \n")
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write("the \n")
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_help_lists_penalties_and_filters_in_their_order() -> None:
    process = command("generate", "--help")
    help, _ = process.communicate()
    options = [f"--{field.name.replace('_', '-')} " for field in fields(SamplingConfig)]
    places = [help.index(option) for option in options]
    assert places == sorted(places)
    said = help.replace("\n", "").replace("  ", " ")
    names = (
        "repetition, ",
        "presence penalty, ",
        "n-grams, ",
        "temperature, ",
        "top-k, ",
        "top-p, ",
        "min-p, ",
        "typical-p, ",
    )
    order = [said.index(name, said.index("in this order")) for name in (*names, "epsilon", "eta cutoff")]
    assert order == sorted(order)
