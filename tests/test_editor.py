"""The editor with injected keys: what each does to the text, to the ghost and to the bar."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import conversing
import pytest
from playing import (
    BACKSPACE,
    CTRL_C,
    CTRL_DOWN,
    CTRL_E,
    CTRL_G,
    CTRL_Q,
    CTRL_RIGHT,
    CTRL_UP,
    DOWN,
    END,
    ENTER,
    ESCAPE,
    F1,
    F2,
    HOME,
    LEFT,
    PATIENCE,
    RIGHT,
    SHIFT_TAB,
    TAB,
    UNDO,
    UP,
    Player,
)
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from lstmlm.checkpoint import LoadedModel
from lstmlm.durations import Stop, never
from lstmlm.repl.conversation import Conversation
from lstmlm.repl.editor import Editor
from lstmlm.repl.suggestions import Ghost, Offering, Suggestion
from lstmlm.surprisal import Surprisal


@pytest.fixture(scope="module")
def bigram(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return conversing.bigram_model(tmp_path_factory.mktemp("bigram") / "bigram")


@pytest.fixture
def play(bigram: LoadedModel) -> Iterator[Player]:
    conversation = Conversation(bigram, offering=Offering(k=3), seed=1)
    with create_pipe_input() as keys:
        player = Player(Editor(conversation, input=keys, output=DummyOutput()), keys)
        yield player
        player.leave()


def test_a_ghost_is_accepted_whole_or_word_by_word(play: Player) -> None:
    play("the ", "the ", "cat sat on")  # .5 x .9 x .8 = .36
    play(CTRL_RIGHT, "the cat", " sat on the")
    play(ESCAPE + "f", "the cat sat", " on the cat")
    play(" on", "the cat sat on", " the cat sat")
    play(RIGHT, "the cat sat on the cat sat", " on the cat")
    play(UNDO, "the cat sat on", " the cat sat")
    play(UNDO, "the cat sat", " on the cat")
    play(UNDO, "the cat", " sat on the")
    play(END, "the cat sat on the", " cat sat on")
    play(UNDO, "the cat", " sat on the")
    play(CTRL_E, "the cat sat on the")


def test_without_a_ghost_the_same_keys_move(play: Player) -> None:
    play("the sat", "the sat", " on the cat")
    play(HOME, ghost="")
    play(RIGHT + "n", "tnhe sat", "")
    play(END + ".", "tnhe sat.", "")


def test_a_ghost_needs_confidence(play: Player) -> None:
    play("dog ", "dog ", "the")  # .4, then .2
    assert play.bar == "1 the 40%   2 cat 24%   3 can 16%   other 20%"
    play(ESCAPE + "/set ghost 0.5" + ENTER, ghost="")
    play("c", "dog c", "at sat")  # .6 x .9
    play(BACKSPACE, "dog ", "")
    play(ESCAPE + "/set ghost 0.1" + ENTER, ghost="the cat sat")
    play(ESCAPE + "/set ghost_words 1" + ENTER, ghost="the")


def test_typing_along_a_ghost_keeps_its_tail_and_backspace_brings_it_back(play: Player) -> None:
    play("the ", ghost="cat sat on")
    seen: list[str] = []
    play.editor.app.after_render += lambda _: seen.append(play.ghost)
    play("c", "the c", "at sat on the"[:-4])
    play("a", "the ca")
    play("t", "the cat", " sat on the")
    assert "" not in seen  # it never flickered
    play("x", "the catx", "")
    play(BACKSPACE, "the cat", " sat on the")
    play(BACKSPACE, "the ca")


def test_words_are_taken_by_number_and_in_turn(play: Player) -> None:
    play("the c", "the c")
    play(ESCAPE + "2", "the can ", "the")
    play(UNDO, "the c")
    play(ESCAPE + "9", "the c")
    play(TAB, "the cat ", "sat on the")
    assert play.bar == "1 [cat] 56%   2 can 44%   other 0%"
    play(TAB, "the can ", "the")
    assert play.bar == "1 cat 56%   2 [can] 44%   other 0%"
    play(TAB, "the cat ")
    play(SHIFT_TAB, "the can ")
    play(ESCAPE + "1", "the cat ")
    assert play.bar == "1 sat 90%   2 can 10%   other 0%"
    play(TAB + TAB, "the cat can ")
    play(ESCAPE, "the cat ", "")
    play(TAB + TAB + " ", "the cat can ", "the")  # the space stands there already; now the next words are listed
    assert play.bar == "1 the 40%   2 cat 24%   3 can 16%   other 20%"
    play(UNDO, "the cat ")
    play(SHIFT_TAB, "the cat can ")
    play(TAB, "the cat sat ")


def test_a_key_that_takes_a_word_takes_that_of_the_text_as_it_is(play: Player) -> None:
    play("c" + TAB + "d" + TAB + "c" + ESCAPE + "2", "cat dog can ")  # faster than any list is drawn


def test_other_ghosts(play: Player) -> None:
    play("the ", ghost="cat sat on")
    play(CTRL_DOWN, ghost="can")
    assert play.bar == "1 cat 50%   2 [can] 40%   3 dog 10%   other 0%"
    play(CTRL_DOWN, ghost="dog")
    play(CTRL_DOWN, ghost="cat sat on")
    play(CTRL_UP, ghost="dog")
    play(RIGHT, "the dog")


def test_escape_is_quick_and_holds_until_the_next_edit(play: Player) -> None:
    play("the ", ghost="cat sat on")
    play(ESCAPE, ghost="")
    assert play.bar.startswith("1 cat 50%")
    play("c", "the c", "at sat on")


def test_the_model_writes_on_until_it_is_stopped(play: Player) -> None:
    play(ESCAPE + "/set temperature 0" + ENTER)
    play("the" + CTRL_G, "the" + " cat sat on the" * 10)
    play(UNDO, "the")
    play(ESCAPE + "/gen 4" + ENTER, "the cat sat on the")
    play.send(ESCAPE + "/gen 1000000" + ENTER)
    play.until(lambda: len(play.text) > 200)
    assert "writing" in play.status
    assert "Ctrl-C stop" in play.status
    play(CTRL_C)
    kept = play.text
    play("!", kept + "!")
    play.send(CTRL_G)
    play.until(lambda: len(play.text) > len(kept) + 20)
    play.send("?")  # whoever types on has seen enough
    play.until(lambda: not play.editor.writing)
    assert play.text.endswith("?")
    play(UNDO + UNDO, kept + "!")
    play(UNDO + UNDO, "the cat sat on the")


def test_ctrl_c_loses_nothing(play: Player) -> None:
    play("the cat" + CTRL_C, "the cat")
    play.until(lambda: "Ctrl-D quits" in play.editor.message)
    play(" ", "the cat ")
    assert not play.editor.message
    play(ESCAPE + "/set k" + CTRL_C + "sat", "the cat sat")


def test_colours(play: Player) -> None:
    play("the cat" + F2)
    play.until(lambda: len(play.editor.spans) == 2)
    assert play.editor.spans == [(0, 3, "class:surprise.0"), (4, 7, "class:surprise.0")]
    play(" dog")  # after "cat" next to impossible
    play.until(lambda: play.editor.spans[2:] == [(8, 11, "class:surprise.4")])
    play(F2)
    play.until(lambda: not play.editor.spans)


def test_commands_have_a_line_of_their_own(play: Player) -> None:
    play("/top 1" + ENTER)
    play.until(lambda: "40.0%  the" in play.editor.message)
    play("the" + ENTER + "/le" + TAB + "o" + TAB + ENTER, "the\n")
    play.until(lambda: "learning" in play.status)
    play("/cache 500" + ENTER)
    play.until(lambda: "cache 500" in play.status)
    play("/" + BACKSPACE + "cat", "the\ncat")
    play(ESCAPE + "/")
    play.until(lambda: play.editor.app.layout.has_focus(play.editor.entry))
    play(ESCAPE)
    play.until(lambda: play.editor.app.layout.has_focus(play.editor.buffer))
    play("/" + ENTER + "/usr/bin" + ENTER, "the\ncat/\n/usr/bin\n")
    play("/nothing" + ENTER)
    play.until(lambda: play.editor.message == "there is no command /nothing; /help lists them")
    play("/undo" + ENTER, "the\ncat/\n")
    play("/")
    play.until(lambda: len(play.editor.entry._working_lines) > 1)  # the history is loaded when the line is drawn
    play(UP + ENTER, "the\n")


def test_banned_words_are_neither_listed_nor_ghosts(play: Player) -> None:
    play("the ", ghost="cat sat on")
    play(ESCAPE + "/ban cat" + ENTER, ghost="can")
    assert play.bar == "1 can 40%   2 dog 10%   other 50%"
    play("ca", "the ca", "n")
    play(ESCAPE + "/unban cat" + ENTER, ghost="t sat on")


def test_the_statistics_of_a_session(play: Player) -> None:
    play("the ", ghost="cat sat on")
    play(RIGHT, "the cat sat on", " the cat sat")
    play(ESCAPE + "/stats" + ENTER)
    play.until(lambda: "keys saved" in play.editor.message)
    # t h e space right: 5 keys for 14 characters
    assert play.editor.message.split()[:5] == ["keys", "saved", "64%", "5", "pressed"]


def test_the_rows_of_the_screen(play: Player) -> None:
    play("the" + ENTER + "cat sat" + ENTER + "on" + UP + "x", "the\ncaxt sat\non", "")
    play(UP + UP + LEFT + "y", "thye\ncaxt sat\non")
    play(DOWN + DOWN + DOWN + END, ghost=" the cat sat")


def test_help_is_a_key(play: Player) -> None:
    play(F1)
    play.until(lambda: "Ctrl-Right, Alt-F" in play.editor.message)
    play("a", "a")
    assert not play.editor.message


def test_a_long_paste_is_one_step(play: Player) -> None:
    text = "the cat sat on\r\n" * 3000
    play("\x1b[200~" + text + "\x1b[201~", text.replace("\r\n", "\n"))
    play(UNDO, "")


@pytest.mark.parametrize("key", [CTRL_Q, ESCAPE + "/quit" + ENTER])
def test_ways_to_leave(bigram: LoadedModel, key: str) -> None:
    conversation = Conversation(bigram)
    with create_pipe_input() as keys:
        player = Player(Editor(conversation, input=keys, output=DummyOutput()), keys)
        player("the cat", "the cat")
        player.leave(key)
    assert conversation.text == "the cat"
    assert conversation.over


def test_typing_does_not_wait_for_the_model_and_late_answers_are_dropped(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation, answers = play.editor.conversation, threading.Event()
    asked: list[str] = []
    suggest_now = conversation.suggest

    def late(before: str, stop: Stop) -> Suggestion:
        asked.append(before)
        assert answers.wait(PATIENCE)
        return suggest_now(before, stop)

    play("the", "the")
    monkeypatch.setattr(conversation, "suggest", late)
    play.send(" ")
    play.until(lambda: asked == ["the "])
    play.send("c")
    play.until(lambda: play.text == "the c")
    play.send("an")
    play.until(lambda: play.text == "the can")
    assert not play.editor.settled
    answers.set()
    play("", "the can", " the")
    assert list(dict.fromkeys(asked)) == ["the ", "the can"]  # one question at a time, and none about what is past


def test_what_is_not_known_yet_takes_no_ghost_away(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation, asked = play.editor.conversation, []
    suggest_now = conversation.suggest

    def in_parts(before: str, stop: Stop) -> Suggestion:
        asked.append(play.ghost)
        whole = suggest_now(before, never)
        return whole if len(asked) > 2 else replace(whole, ghost=None, finished=False)

    play("the c", "the c", "at sat on")
    monkeypatch.setattr(conversation, "suggest", in_parts)
    play("a", "the ca", "t sat on")
    assert asked == ["t sat on"] * 3


def test_a_model_that_fails_leaves_the_text_in_reach(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play.editor.conversation, "suggest", lambda before, stop: 1 / 0)
    play.send("the ")
    play.until(lambda: play.editor.message.startswith("ZeroDivisionError"))
    monkeypatch.undo()
    play("c", "the c", "at sat on")


def test_a_paste_and_the_next_word_at_once_lose_nothing(play: Player) -> None:
    play("the ", "the ", "cat sat on")
    play("cat sat" + CTRL_RIGHT, "the cat sat on", " the cat sat")


@pytest.mark.parametrize("key", [RIGHT, CTRL_RIGHT, CTRL_DOWN])
def test_every_key_of_a_ghost_stops_the_writing(play: Player, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play("the ", "the ", "cat sat on")
    monkeypatch.setattr(play.editor.conversation, "continuation", lambda before, n=None: slowly("x" * 10_000))
    play.send(CTRL_G)
    play.until(lambda: "xx" in play.text)
    play.editor.ghost = Ghost((" ghost",))
    play.send(key)
    play.until(lambda: not play.editor.writing)
    length = len(play.text)
    time.sleep(0.05)
    assert len(play.text) == length


def slowly(text: str) -> Iterator[str]:
    for character in text:
        time.sleep(0.002)
        yield character


def test_the_failure_of_an_old_question_does_not_hide_the_new_one(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation, answers = play.editor.conversation, threading.Event()
    suggest_now = conversation.suggest

    def fails_first(before: str, stop: Stop) -> Suggestion:
        if before == "the ":
            assert answers.wait(PATIENCE)
            raise ZeroDivisionError
        return suggest_now(before, stop)

    play("the", "the")
    monkeypatch.setattr(conversation, "suggest", fails_first)
    play.send(" ")
    play.until(lambda: play.text == "the ")
    play.send("c")
    play.until(lambda: play.text == "the c")
    answers.set()
    play("", "the c", "at sat on")
    assert play.editor.message == ""


def test_alt_and_a_digit_begin_no_argument_of_emacs(play: Player) -> None:
    play("a" + ESCAPE + "0bc" + ESCAPE + "-de", "abcde")


def test_statistics_count_the_first_words_and_the_time_until_they_were_there(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = play.editor.conversation
    suggest_now, parts = conversation.suggest, []

    def empty_first(before: str, stop: Stop) -> Suggestion:
        parts.append(before)
        whole = suggest_now(before, never)
        if parts.count(before) > 1:
            return whole
        time.sleep(0.02)
        return replace(whole, completion=replace(whole.completion, candidates=[]), ghost=None, finished=False)

    play("the", "the")
    offered = conversation.statistics.offered
    monkeypatch.setattr(conversation, "suggest", empty_first)
    play(" ", "the ", "cat sat on")
    assert conversation.statistics.offered == offered + 1
    assert play.editor.asking.milliseconds >= 20


def test_colours_that_were_switched_off_stay_off(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation, scored = play.editor.conversation, threading.Event()
    surprisals_now = conversation.surprisals

    def late() -> list[Surprisal]:
        assert scored.wait(PATIENCE)
        return surprisals_now()

    play("the cat", "the cat")
    monkeypatch.setattr(conversation, "surprisals", late)
    play.send(F2)
    play.until(lambda: play.editor.coloured)
    play.send(F2)
    play.until(lambda: not play.editor.coloured)
    scored.set()
    play.until(lambda: not play.editor._colouring)
    assert play.editor.spans == []
