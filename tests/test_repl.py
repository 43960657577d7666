"""Whole sessions: as plain calls with a model whose probabilities are known, in lines, and in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import building
import pexpect
import pyte
import pytest
import torch
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.cli.main import run as run_command
from lstmlm.repl.conversation import Conversation
from lstmlm.repl.lines import run_lines
from lstmlm.repl.terminal import TerminalFace

PROBABILITIES = {"the": 0.4, "cat": 0.24, "can": 0.16, "dog": 0.1, "<eos>": 0.06, "<unk>": 0.04}


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Whatever the text so far, the next word has the probabilities above."""
    path = tmp_path_factory.mktemp("unigram") / "model"
    tokenizer = building.tokenizer("word", "the cat can dog\n", min_count=1)
    model = building.model(tokenizer.vocabulary_size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for word, probability in PROBABILITIES.items():
            (token,) = [token for token in range(tokenizer.vocabulary_size) if tokenizer.describe(token) == word]
            model.output.bias[token] = probability
        model.output.bias.log_()
    save_model(path, model, tokenizer)
    return load_model(path)


@pytest.fixture
def conversation(unigram: LoadedModel) -> Conversation:
    return Conversation(unigram, k=3)


def transcript(conversation: Conversation, session: str) -> None:
    """Play a session: lines after `> ` are typed, the others are the answers."""
    said = ""
    for line in session.strip("\n").split("\n"):
        if line.startswith("> "):
            said += line + "\n" + "".join(conversation.respond(line[2:]))
    assert said == session.lstrip("\n")


def test_typing_taking_and_undoing(conversation: Conversation) -> None:
    transcript(
        conversation,
        """
> the
the|
  1 the 100%  other 0%
> c
the c|
  1 cat 60%  2 can 40%  other 0%
> 2
the can |
  1 the 40%  2 cat 24%  3 can 16%  other 20%
> 3
the can can |
  1 the 40%  2 cat 24%  3 can 16%  other 20%
> /undo
the can |
  1 the 40%  2 cat 24%  3 can 16%  other 20%
> /undo
the c|
  1 cat 60%  2 can 40%  other 0%
> /text
the c
> /reset
|
  1 the 40%  2 cat 24%  3 can 16%  other 20%
> /undo
the c|
  1 cat 60%  2 can 40%  other 0%
> /undo
the|
  1 the 100%  other 0%
> /undo
|
  1 the 40%  2 cat 24%  3 can 16%  other 20%
> /undo
there is nothing to undo
""",
    )


def test_settings_and_writing(conversation: Conversation) -> None:
    transcript(
        conversation,
        """
> /set
k 3  seed None  repetition_penalty 1.0  temperature 0.8  top_k 0  top_p 0.95  min_p 0.0
> /top 1
|
  1 the 40%  other 60%
> /set temperature 0
k 1  seed None  repetition_penalty 1.0  temperature 0.0  top_k 0  top_p 0.95  min_p 0.0
> dog
dog|
  1 dog 100%  other 0%
> /gen 3
 the the the
dog the the the|
  1 the 100%  other 0%
> /set repetition_penalty 9
k 1  seed None  repetition_penalty 9.0  temperature 0.0  top_k 0  top_p 0.95  min_p 0.0
> /gen 0

dog the the the|
  1 the 100%  other 0%
> /undo
dog the the the|
  1 the 100%  other 0%
> /undo
dog|
  1 dog 100%  other 0%
""",
    )


def test_mistakes_are_answered(conversation: Conversation) -> None:
    transcript(
        conversation,
        """
> /nothing
there is no command /nothing; /help lists them
> /set k 0
k is 0; expected 1 to 40
> /set k many
k is 'many'; expected a number
> /set speed 1
there is no setting 'speed'; expected one of k, seed, repetition_penalty, temperature, top_k, top_p, min_p
> /set top_p 2
top_p is 2.0; expected a number above 0 and up to 1
> /set temperature nan
temperature is nan; expected a number of at least 0
> /gen x
N is 'x'; expected a number
> /gen -1
max_tokens is -1; expected 0 or more
> /undo
there is nothing to undo
> xyz
xyz|
    other 100%
> 1
there is no candidate 1; expected 1 to 0
""",
    )


def test_a_seed_repeats_what_is_written(conversation: Conversation) -> None:
    def written(seed: str) -> str:
        for line in ("/reset", f"/set seed {seed}"):
            list(conversation.respond(line))
        return next(iter("".join(conversation.respond("/gen 20")).split("\n|", 1)))

    assert written("5") == written("5") != written("6")


@pytest.mark.parametrize(
    "line",
    [
        *("7" * 5000, "²", "٣", "\x00", "\x1b[2J", "🎉", "\u202e", "<eos>", "a" * 3000, "/set seed 99999999999999999999999"),
        *("/top 999999999999", "/set k 1e3", "/", "//", "/ gen", " /gen", "/gen 1 2", "/set", "/set temperature", "\t", ""),
    ],
)
def test_no_line_ends_the_conversation(conversation: Conversation, line: str) -> None:
    for again in (line, "/gen 2", "/undo", "/top 3", "/text"):
        "".join(conversation.respond(again))
    assert not conversation.over


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_other_tokenizers_converse_too(tmp_path: Path, kind: str) -> None:
    conversation = Conversation(building.saved_model(tmp_path / "model", kind), seed=1)
    for line in ("the c", "1", "/gen 10", "/undo", "/gen 10"):
        assert "".join(conversation.respond(line)).endswith("%\n")
    text = conversation.text
    list(conversation.respond("/undo"))
    assert text.startswith(conversation.text)


def test_help_names_every_command_and_setting(conversation: Conversation) -> None:
    help = "".join(conversation.respond("/help"))
    for name in ("/gen", "/top", "/set", "/text", "/undo", "/reset", "/help", "/quit", "temperature", "top_p", "seed"):
        assert name in help


def test_lines_are_answered_until_quit(conversation: Conversation) -> None:
    answers: list[str] = []
    run_lines(conversation, iter(["the \n", "1\r\n", "/quit\n", "never\n"]), answers.append)
    assert conversation.text == "the the "
    assert "".join(answers).splitlines()[0::2] == ["the |", "the the |"]


def test_what_was_written_before_an_interruption_stays(conversation: Conversation) -> None:
    list(conversation.respond("dog"))
    pieces = conversation.respond("/gen 1000")
    kept = "".join(next(pieces) for _ in range(5))
    pieces.close()  # type: ignore[attr-defined]
    assert conversation.text == "dog" + kept
    list(conversation.respond("/undo"))
    assert conversation.text == "dog"


def test_repl_without_a_terminal(
    unigram: LoadedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stdin:
        buffer = iter([b"the \n", b"/quit\n"])
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert run_command(["repl", str(unigram.path), "-k", "2"]) == 0
    assert capsys.readouterr().out == "the |\n  1 the 40%  2 cat 24%  other 36%\n"


# -- in a terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def face(conversation: Conversation) -> Iterator[Callable[[str], str]]:
    """Send keys to the terminal face; returns what it wrote when it is left."""
    with create_pipe_input() as keys:

        def play(text: str) -> str:
            written: list[str] = []
            keys.send_text(text)
            TerminalFace(conversation, written.append, input=keys, output=DummyOutput()).run()
            return "".join(written)

        yield play


TAB, ENTER, CTRL_C, CTRL_D, CTRL_G, ESCAPE = "\t", "\r", "\x03", "\x04", "\x07", "\x1b"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("the" + ENTER, "the"),
        ("c" + TAB + ENTER, "cat "),
        ("c" + ESCAPE + "2" + ENTER, "can "),
        ("c" + ESCAPE + "9" + ENTER, "c"),
        ("xyz" + TAB + ENTER, "xyz"),
        (TAB + TAB + "d" + TAB + ENTER, "the the dog "),
        ("the" + ENTER + "d" + TAB + ENTER, "the dog "),
        ("the" + ENTER + "drop this" + CTRL_C + "cat" + ENTER, "the cat"),
        ("the" + ENTER + "cat" + ENTER + "/undo" + ENTER, "the"),
        ("/quit" + ENTER + "never", ""),
    ],
)
def test_keys(face: Callable[[str], str], conversation: Conversation, keys: str, text: str) -> None:
    face(keys + ("" if "/quit" in keys else CTRL_D))
    assert conversation.text == text


def test_ctrl_g_lets_the_model_write_on(face: Callable[[str], str], conversation: Conversation) -> None:
    list(conversation.respond("/set temperature 0"))
    written = face("the" + CTRL_G + CTRL_D)
    assert conversation.text == "the" + " the" * 40
    assert " the" * 40 in written


class Screen:
    """A real terminal with the real program in it."""

    def __init__(self, model: Path) -> None:
        self.screen = pyte.Screen(130, 24)
        self.stream = pyte.Stream(self.screen)
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "130", "LINES": "24"}
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "lstmlm", "repl", str(model), "-k", "3", "--seed", "1"],
            env=environment,
            encoding="utf-8",
            dimensions=(24, 130),
            timeout=20,
        )
        self.screen.write_process_input = self.child.send  # answers to the program's questions

    def type(self, keys: str, *expected: str) -> None:
        """Send keys and read until the screen shows all that is expected."""
        self.child.send(keys)
        for _ in range(2000):
            shown = "\n".join(self.screen.display) + "".join(self.screen.display)
            if all(part in shown for part in expected):
                return
            self.stream.feed(self.child.read_nonblocking(4096, timeout=20))
        pytest.fail(f"{expected} is not shown")


def test_a_session_in_a_real_terminal(unigram: LoadedModel) -> None:
    terminal = Screen(unigram.path)
    try:
        terminal.type("", "1 the 40%", "2 cat 24%", "other 20%", "Ctrl-D quits")
        terminal.type("c", "> c", "1 cat 60%", "2 can 40%")
        terminal.type(TAB, "> cat ", "1 the 40%")
        terminal.type("d" + ENTER, "cat d> ", "1 dog 100%")
        terminal.type("/set temperature 0" + ENTER, "temperature 0.0")
        terminal.type(CTRL_G, "the the the the")
        terminal.type("/undo" + ENTER, "\ncat d> ")
        terminal.type("/reset" + ENTER, "\n> ")
        terminal.type("/gen 9999999" + ENTER, " the" * 60)
        terminal.type(CTRL_C, "the> ", "Ctrl-D quits")
        terminal.type("xyz", "> xyz", "other 100%")
        terminal.type(CTRL_C + CTRL_D)
        terminal.child.expect(pexpect.EOF)
    finally:
        terminal.child.close()
    assert (terminal.child.exitstatus, terminal.child.signalstatus) == (0, None)
