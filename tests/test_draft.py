"""A text, its cursor and its steps: what undo takes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmlm.errors import UsageError
from lstmlm.repl.draft import Draft


def typed(draft: Draft, text: str) -> Draft:
    """Type at the cursor, `<` being Backspace."""
    for character in text:
        before, behind = draft.before, draft.text[draft.cursor :]
        before = before[:-1] if character == "<" else before + character
        draft.edit(before + behind, len(before))
    return draft


def undone(draft: Draft) -> list[str]:
    """What the text was at every step back to nothing."""
    texts = []
    while draft.text:
        draft.undo()
        texts.append(draft.text)
    return texts


def test_typing_is_one_step_for_each_word() -> None:
    assert undone(typed(Draft(), "the cat  sat")) == ["the cat  ", "the ", ""]


def test_a_slip_that_was_corrected_belongs_to_its_word() -> None:
    assert undone(typed(Draft(), "the czt<<at sat")) == ["the cat ", "the ", ""]


def test_deleting_further_than_what_was_typed_comes_back_with_it() -> None:
    draft = Draft()
    draft.put("the cat")
    typed(draft, "s<<<<can")
    assert draft.text == "the can"
    assert undone(draft) == ["the cat", ""]


def test_a_paste_an_acceptance_and_the_model_s_words_are_steps() -> None:
    draft = typed(Draft(), "a ")
    draft.edit("a pasted text", 13)
    draft.put(" and taken")
    draft.put("", keys=0)
    draft.extend(" writ")
    draft.extend("ten")
    assert draft.text == "a pasted text and taken written"
    assert undone(draft) == ["a pasted text and taken", "a pasted text", "a ", ""]


def test_moving_ends_a_run() -> None:
    draft = typed(Draft(), "at")
    draft.move(0)
    typed(draft, "c")
    assert draft.text == "cat"
    assert undone(draft) == ["at", ""]


def test_undo_puts_the_cursor_back() -> None:
    draft = typed(Draft(), "the cat")
    draft.move(3)
    draft.put("n")
    assert (draft.text, draft.cursor) == ("then cat", 4)
    draft.undo()
    assert (draft.text, draft.cursor) == ("the cat", 3)


def test_what_the_model_writes_stands_where_it_began_though_the_cursor_moves() -> None:
    draft = typed(Draft(), "ab")
    draft.move(1)
    draft.put("", keys=0)
    draft.extend("x")
    draft.move(0)
    draft.extend("y")
    assert (draft.text, draft.cursor) == ("axyb", 0)


@pytest.mark.parametrize(
    ("key", "text"), [(".", "cat."), ("\n", "cat\n"), (" ", "cat "), ("s", "cat s"), ("<", "cat"), ('"', 'cat "')]
)
def test_a_mark_takes_the_place_of_the_space_that_came_with_a_word(key: str, text: str) -> None:
    draft = Draft()
    draft.put("cat ", closing=".,\n")
    typed(draft, key)
    assert draft.text == text
    if key != " ":
        draft.undo()
    assert draft.text == "cat "
    assert typed(draft, ".").text == "cat ."


def test_keys_that_were_saved() -> None:
    draft = typed(Draft(), "ki")
    draft.put("kitchen ", 2)
    assert (draft.keys, draft.saved) == (3, 5)
    draft.edit(draft.text + "a long paste", 20)
    draft.put("", keys=0)
    draft.extend("written")
    assert (draft.keys, draft.saved) == (3, 5)
    for _ in range(3):
        draft.undo()
    assert (draft.text, draft.saved) == ("ki", 0)


def test_bytes_that_are_no_text_are_replaced() -> None:
    draft = Draft()
    draft.edit("a\udcff", 2)
    assert draft.text == "a?"


def test_there_is_nothing_before_the_first_step() -> None:
    with pytest.raises(UsageError, match="nothing to undo"):
        Draft().undo()


@given(st.lists(st.tuples(st.text("ab \n", max_size=4), st.integers(0, 9), st.integers(0, 3)), max_size=12))
def test_every_edit_arrives_and_all_of_it_can_be_undone(edits: list[tuple[str, int, int]]) -> None:
    draft = Draft()
    for inserted, place, deleted in edits:
        place = min(place, len(draft.text))
        text = draft.text[:place] + inserted + draft.text[place + deleted :]
        draft.edit(text, place + len(inserted))
        assert (draft.text, draft.cursor) == (text, place + len(inserted))
    while draft.text:
        draft.undo()


def test_who_has_gone_elsewhere_stays_there_while_a_step_goes_on() -> None:
    draft = Draft()
    draft.put("AAABBB")
    draft.move(3)
    draft.put("", keys=0)
    draft.extend(" x")
    assert (draft.text, draft.cursor) == ("AAA xBBB", 5)
    draft.move(8)
    draft.extend(" yy")
    assert (draft.text, draft.cursor) == ("AAA x yyBBB", 11)
    draft.move(1)
    draft.extend("!")
    assert (draft.text, draft.cursor) == ("AAA x yy!BBB", 1)
