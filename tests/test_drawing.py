"""What the editor draws."""

from __future__ import annotations

from pathlib import Path

import conversing

from lstmlm.repl.conversation import Conversation
from lstmlm.repl.document import row_starts
from lstmlm.repl.drawing import candidate_bar, harmless, styled
from lstmlm.repl.suggestions import Ghost, Offering


def test_words_are_kept_whole_at_the_edge() -> None:
    assert row_starts("the cat sat on it", 8) == [0, 8, 15]
    assert row_starts("the cat    sat", 8) == [0, 11]  # white space hangs over the edge
    assert row_starts("abcdefghij", 5) == [0, 4, 8]
    assert row_starts("a\n\nb", 5) == [0, 2, 3]
    assert row_starts("猫猫猫", 5) == [0, 2]  # two columns each
    assert row_starts("ab", 1) == [0, 1]


def test_a_bar_ends_where_the_screen_does(tmp_path: Path) -> None:
    bigram = conversing.bigram_model(tmp_path / "bigram")
    suggestion = Conversation(bigram, offering=Offering(k=3)).suggest("the ")
    rows = ["".join(text for _, text, *_ in candidate_bar(suggestion, width)) for width in (80, 30, 20, 5)]
    assert rows == ["1 cat 50%   2 can 40%   3 dog 10%   other 0%", "1 cat 50%   2 can 40%", "1 cat 50%", "1 cat 50%"]


def test_nothing_in_a_text_acts_on_the_terminal() -> None:
    assert harmless("a\x1b[2J\x9b\u202e\udcff\tbé") == "a␛[2J\ufffd\ufffd\ufffd bé"


def test_styles_are_cut_where_they_overlap() -> None:
    spans = [(2, 4, "a"), (3, 6, "b"), (8, 9, "c")]
    assert styled("123456", 1, spans) == [("", "1"), ("a", "2"), ("a", "3"), ("b", "45"), ("", "6")]


def test_what_is_pasted_of_a_ghost_leaves_the_rest_of_it() -> None:
    ghost = Ghost(("cat", " sat", " on"), replace=1)
    assert ghost.typed("at sat") == Ghost((" on",))
    assert ghost.typed("at sa") == Ghost((" sat", " on"), 3)
    assert ghost.typed("at") == Ghost((" sat", " on"))
    assert ghost.typed("") == ghost
    assert ghost.typed("at sat on") is None
