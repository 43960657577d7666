"""Conversations as plain calls and in lines, with a model whose probabilities are known."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import building
import conversing
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.cli.main import run as run_command
from lstmlm.durations import never
from lstmlm.repl.commands import COMMANDS, completions, execute
from lstmlm.repl.conversation import Conversation
from lstmlm.repl.lines import answer, run_lines
from lstmlm.repl.suggestions import Offering, Suggestion, probability


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Whatever the text so far, the next word has the same probabilities."""
    return conversing.bigram_model(tmp_path_factory.mktemp("unigram") / "unigram", {})


@pytest.fixture
def conversation(unigram: LoadedModel) -> Conversation:
    return Conversation(unigram, offering=Offering(k=3))


def said(conversation: Conversation, *lines: str) -> str:
    """The answer to the last of `lines`."""
    for line in lines:
        reply = "".join(answer(conversation, line))
    return reply


def transcript(conversation: Conversation, session: str) -> None:
    """Play a session: lines after `> ` are typed, the others are the answers."""
    shown = ""
    for line in session.strip("\n").split("\n"):
        if line.startswith("> "):
            shown += line + "\n" + said(conversation, line[2:])
    assert shown == session.lstrip("\n")


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
> /top 2
  1   40.0%  the
  2   24.0%  cat
      36.0%  other
> dog
dog|
  1 dog 100%  other 0%
> /gen 0
dog|
  1 dog 100%  other 0%
> /undo
dog|
  1 dog 100%  other 0%
""",
    )
    assert ["temperature", "0.8"] in map(str.split, said(conversation, "/set").splitlines())
    assert said(conversation, "/set temperature 0").split() == ["temperature", "0.0"]
    assert said(conversation, "/gen 3") == " the the the\ndog the the the|\n  1 the 100%  other 0%\n"
    assert said(conversation, "/set max_tokens 2").split() == ["max_tokens", "2"]
    assert said(conversation, "/gen").startswith(" the the\n")
    assert said(conversation, "/set k 1").split() == ["k", "1"]
    assert said(conversation, "/reset") == "|\n  1 the 40%  other 60%\n"
    assert said(conversation, "/set smart_case off").split() == ["smart_case", "off"]
    assert said(conversation, "/set seed 7").split() == ["seed", "7"]
    assert said(conversation, "/set seed none").split() == ["seed", "none"]


@pytest.mark.parametrize(
    ("line", "answered"),
    [
        ("/nothing", "there is no command /nothing; /help lists them"),
        ("/set k 0", "k is 0; expected 1 to 40"),
        ("/set k many", "k is 'many'; expected a number"),
        ("/set ghost 2", "ghost is 2; expected 0 to 1"),
        ("/set ghost nan", "ghost is nan; expected 0 to 1"),
        ("/set smart_case maybe", "smart_case is 'maybe'; expected on or off"),
        ("/set top_p 2", "top_p is 2.0; expected a number above 0 and up to 1"),
        ("/set temperature nan", "temperature is nan; expected a number of at least 0"),
        ("/gen x", "N is 'x'; expected a number"),
        ("/gen -1", "max_tokens is -1; expected 0 or more"),
        ("/top 0", "k is 0; expected 1 to 40"),
        ("/undo", "there is nothing to undo"),
        ("/learn maybe", "learning is 'maybe'; expected on or off"),
        ("/cache -1", "the cache is -1 tokens long; expected 0 to 1,000,000"),
        ("/cache 9999999999", "the cache is 9999999999 tokens long; expected 0 to 1,000,000"),
        ("/save ~nobody-of-this-name/x", "~nobody-of-this-name/x begins with the name of a user that there is not"),
        ("/set nothing", "there is no setting 'nothing'; expected one of k, ghost..."),
        ("/cache", "L is ''; expected a number"),
        ("/save", "expected a file name: /save FILE"),
        ("/color", "colours need the editor on a terminal; /score says it in figures"),
        ("/score", "there is no word to score yet"),
    ],
)
def test_mistakes_are_answered(conversation: Conversation, line: str, answered: str) -> None:
    found = said(conversation, line)
    assert found.startswith(answered[:-3]) if answered.endswith("...") else found == answered + "\n"


def test_what_is_no_setting_and_no_candidate(conversation: Conversation) -> None:
    assert said(conversation, "/set speed 1").startswith("there is no setting 'speed'; expected one of k, ghost, ")
    assert said(conversation, "xyz", "1") == "there is no candidate 1; expected 1 to 0\n"


def test_a_seed_repeats_what_is_written(conversation: Conversation) -> None:
    def written(seed: str) -> str:
        return said(conversation, "/reset", f"/set seed {seed}", "/gen 20").split("\n|", 1)[0]

    assert written("5") == written("5") != written("6")


@pytest.mark.parametrize(
    "line",
    [
        *("7" * 5000, "²", "٣", "\x00", "\x1b[2J", "🎉", "\u202e", "<eos>", "a" * 3000, "/set seed 99999999999999999999999"),
        *("/top 999999999999", "/set k 1e3", "/", "//", "/ gen", " /gen", "/gen 1 2", "/set", "/set temperature", "\t", ""),
        *("/ban", "/watch \x00 \x1b", "/unban x", "/save /", "/save " + "x" * 5000, "/save \x00", "/model /", "/model \x00"),
    ],
)
def test_no_line_ends_the_conversation(conversation: Conversation, line: str) -> None:
    for again in (line, "/gen 2", "/undo", "/top 3", "/text"):
        said(conversation, again)
    assert not conversation.over


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_other_tokenizers_converse_too(tmp_path: Path, kind: str) -> None:
    conversation = Conversation(building.saved_model(tmp_path / "model", kind), offering=Offering(k=2), seed=1)
    for line in ("the c", "1", "/gen 10"):
        assert said(conversation, line).endswith("%\n")
    text = conversation.text
    said(conversation, "/undo")
    assert text.startswith(conversation.text)
    assert 0 < probability(conversation.session, "the c", "cat") < 1
    assert "bits in" in said(conversation, "/score")


def test_help_names_every_command(conversation: Conversation) -> None:
    shown = said(conversation, "/help")
    assert all(name in shown for name in COMMANDS)


def test_commands_are_completed(conversation: Conversation) -> None:
    assert completions(conversation, "/un") == ["/unban ", "/undo"]
    assert completions(conversation, "/set te") == ["/set temperature"]
    assert completions(conversation, "/learn ") == ["/learn on", "/learn off"]
    assert completions(conversation, "/gen 1") == completions(conversation, "/nothing") == []


def test_a_slash_that_begins_no_command_is_text(conversation: Conversation) -> None:
    said(conversation, "/usr/bin", " /gen")
    assert conversation.text == "/usr/bin /gen"


def test_lines_are_answered_until_quit(conversation: Conversation) -> None:
    answers: list[str] = []
    run_lines(conversation, iter(["the \n", "1\r\n", "/quit\n", "never\n"]), answers.append)
    assert conversation.text == "the the "
    assert "".join(answers).splitlines()[0::2] == ["the |", "the the |"]


def test_what_was_written_before_an_interruption_stays(conversation: Conversation) -> None:
    said(conversation, "dog")
    pieces = answer(conversation, "/gen 1000")
    kept = "".join(next(pieces) for _ in range(5))
    pieces.close()  # type: ignore[attr-defined]
    assert conversation.text == "dog" + kept
    said(conversation, "/undo")
    assert conversation.text == "dog"


def test_banned_words_are_never_offered(conversation: Conversation) -> None:
    transcript(
        conversation,
        """
> /ban the Can
never offered: can, the
> c
c|
  1 cat 60%  other 40%
> /reset
|
  1 cat 24%  2 dog 10%  other 66%
> /unban can
never offered: the
> /unban the
no word is banned
> /top 1
  1   40.0%  the
      60.0%  other
""",
    )


def test_watched_words_have_their_probabilities(conversation: Conversation) -> None:
    assert said(conversation, "/watch cat the cat sat") == "watching cat the cat sat\n"
    assert dict(conversation.suggest("").watched) == pytest.approx({"cat": 0.24, "the": 0.4, "sat": 0}, abs=1e-6)
    assert dict(conversation.suggest("c").watched) == pytest.approx({"cat": 0.6, "the": 0, "sat": 0}, abs=1e-6)
    assert said(conversation, "/watch") == "watching no word\n"
    assert conversation.suggest("").watched == ()


def test_a_score_is_that_of_surprisals(conversation: Conversation) -> None:
    shown = said(conversation, "the cat", "/score")
    assert shown == (  # -log2(.4 * .24) = 3.38
        "3.4 bits in 2 words: 1.69 bits each, perplexity per word 3.2\nmost surprising: cat 2.1, the 1.3\n"
    )


def test_a_text_is_saved_and_nothing_is_overwritten(conversation: Conversation, tmp_path: Path) -> None:
    other, own = tmp_path / "other.txt", tmp_path / "own.txt"
    other.write_text("kept")
    said(conversation, "the cat")
    assert "choose another name" in said(conversation, f"/save {other}")
    assert said(conversation, f"/save {own}") == f"saved 7 characters in {own}\n"
    said(conversation, "sat")
    assert said(conversation, f"/save {own}") == f"saved 11 characters in {own}\n"
    assert (own.read_text(), other.read_text()) == ("the cat sat", "kept")
    own.write_text("changed by somebody else")
    assert "choose another name" in said(conversation, f"/save {own}")
    assert "is a folder" in said(conversation, f"/save {tmp_path}")
    assert "cannot write" in said(conversation, f"/save {tmp_path}/none/file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.txt", "own.txt"]


def test_another_model_takes_the_text_over(conversation: Conversation, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    other = conversing.bigram_model(tmp_path / "run" / "best")
    said(conversation, "the ")
    assert said(conversation, f"/model {tmp_path / 'none'}").startswith(f"{tmp_path / 'none'}")
    assert said(conversation, f"/model {other.path}") == f"run: {other.path}\n"
    assert said(conversation, "/top 1").split() == ["1", "50.0%", "cat", "50.0%", "other"]


def test_another_session_is_opened_to_learn_and_the_old_one_kept_if_that_fails(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = conversation.session
    assert said(conversation, "the", "/learn on") == "learns from your text, until you quit\n"
    assert said(conversation, "/cache 500") == "remembers the last 500 tokens, until you quit\n"
    assert (conversation.learning, conversation.cache, conversation.text) == (True, 500, "the")
    assert conversation.session is not before
    before = conversation.session
    monkeypatch.setattr(Conversation, "_open_session", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        conversation.learn(False)
    assert conversation.learning
    assert conversation.session is before


def test_own_words_are_learned_after_one_time_and_what_was_taken_back_is_not(conversation: Conversation) -> None:
    said(conversation, "the zorg", "/undo", "the zerg can can ")
    assert said(conversation, "z").endswith("|\n    other 100%\n")
    said(conversation, "/undo", "/learn on")
    assert said(conversation, "z").endswith("|\n  1 zerg 100%  other 0%\n")
    said(conversation, "/undo")
    # can: (.95 x .16 + .05 x 2/4) / (.95 x .4 + .05 x 2/4)
    assert said(conversation, "c").endswith("|\n  1 cat 56%  2 can 44%  other 0%\n")
    said(conversation, "/undo", "/ban zerg")
    assert said(conversation, "z").endswith("|\n    other 100%\n")
    said(conversation, "/unban zerg", "/learn off")
    assert said(conversation, "/top").endswith("100.0%  other\n")


def test_a_new_name_is_offered_after_its_first_letter(tmp_path: Path) -> None:
    conversation = Conversation(building.saved_model(tmp_path / "model", "bpe"))
    said(conversation, "/learn on", "the cat saw Quorlia . Quorlia sat on the mat . a dog saw Quorlia .")
    assert conversation.suggest(conversation.text + " Q", never).completion.candidates[0].word == "Quorlia"
    assert conversation.suggest(conversation.text + " q", never).completion.candidates[0].insert == "Quorlia"


def test_statistics(conversation: Conversation) -> None:
    for line in ("t", "1", "c", "/undo", "c", "1"):
        said(conversation, line)
    first, second, third = said(conversation, "/stats").splitlines()
    # typed: t, c, c; chosen: 1, 1, which each write three characters more for one key
    assert first.split("saved")[1].split() == ["44%", "5", "pressed", "where", "typing", "it", "all", "takes", "9"]
    assert second.split()[:2] == ["accepted", "67%"]
    assert third.startswith("milliseconds")


def test_statistics_of_nothing(conversation: Conversation) -> None:
    assert "".join(execute(conversation, "/stats", "")).split()[:3] == ["keys", "saved", "-"]


def test_repl_without_a_terminal(
    unigram: LoadedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stdin:
        buffer = iter([b"the \n", b"/quit\n"])
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert run_command(["repl", str(unigram.path), "-k", "2"]) == 0
    assert capsys.readouterr().out == "the |\n  1 the 40%  2 cat 24%  other 36%\n"


def test_a_setting_is_shown_by_its_name(conversation: Conversation) -> None:
    assert said(conversation, "/set temperature") == "temperature           0.8\n"
    assert said(conversation, "/set k 2", "/set k") == "k                     2\n"


def test_what_is_no_file_of_ours_is_not_read_to_save_over_it(conversation: Conversation, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    said(conversation, "the")
    assert "exists and is kept as it is" in said(conversation, f"/save {tmp_path / 'pipe'}")


def test_a_number_takes_from_the_list_that_was_shown(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Suggestion] = []
    suggest_now = conversation.suggest
    monkeypatch.setattr(conversation, "suggest", lambda *a, **k: shown.append(suggest_now(*a, **k)) or shown[-1])
    said(conversation, "the ", "2")
    assert [suggestion.completion.text for suggestion in shown] == ["the ", "the ", "the cat "]
    assert shown[0].completion.candidates == shown[1].completion.candidates
    assert all(suggestion.finished for suggestion in shown)


def test_a_person_ends_an_answer_and_not_the_session(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(max_tokens: int | None = None) -> Iterator[str]:
        conversation.draft.put("writ", keys=0)
        yield "writ"
        raise KeyboardInterrupt

    monkeypatch.setattr(conversation, "write", interrupted)
    written: list[str] = []
    run_lines(conversation, ["/gen", "/text"], written.append, interruptible=True)
    assert written == ["writ", "\n", "writ", "\n"]
    with pytest.raises(KeyboardInterrupt):
        run_lines(conversation, ["/gen"], written.append)
