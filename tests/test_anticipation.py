"""Answers made before they are asked for: the same ones, and only as long as there is time."""

from __future__ import annotations

from pathlib import Path

import building
import conversing
import numpy as np
import pytest

from lstmlm.adaptation import save_adaptation
from lstmlm.anticipation import Anticipation
from lstmlm.checkpoint import LoadedModel
from lstmlm.completion import complete
from lstmlm.durations import Stop, after, either, never
from lstmlm.predictor import open_predictor
from lstmlm.reader import Reader
from lstmlm.repl.conversation import Conversation


@pytest.fixture(scope="module")
def bigram(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return conversing.bigram_model(tmp_path_factory.mktemp("bigram") / "bigram")


@pytest.fixture(scope="module")
def bpe_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return building.saved_model(tmp_path_factory.mktemp("bpe") / "model", "bpe")


class Answers:
    """Completes, and notes what it was asked."""

    def __init__(self, reader: Reader, tolerance: float = 1e-6) -> None:
        self.asked: list[str] = []
        self._reader, self._tolerance = reader, tolerance

    def __call__(self, text: str, stop: Stop) -> list[tuple[str, float]]:
        self.asked.append(text)
        found = complete(self._reader, text, 3, tolerance=self._tolerance, stop=stop)
        return [(candidate.word, candidate.probability) for candidate in found.candidates]


def test_the_likeliest_next_keys_are_known_before_they_are_typed(bigram: LoadedModel) -> None:
    reader = Reader(bigram)
    answers = Answers(reader)
    anticipation = Anticipation(reader, answers)
    found, whole = anticipation.ask("the ", never)
    assert whole
    assert found == [("cat", pytest.approx(0.5)), ("can", pytest.approx(0.4)), ("dog", pytest.approx(0.1))]
    anticipation.look_ahead("the ", never)
    assert answers.asked == ["the ", "the c", "the d"]
    assert anticipation.ask("the c", never) == ([("cat", pytest.approx(5 / 9)), ("can", pytest.approx(4 / 9))], True)
    assert anticipation.ask("the ", never)[1]  # Backspace
    assert len(answers.asked) == 3


def test_after_a_word_a_space_is_looked_ahead_at(bigram: LoadedModel) -> None:
    reader = Reader(bigram)
    assert reader.next_characters("the ca") == [("t", pytest.approx(5 / 9)), ("n", pytest.approx(4 / 9))]
    assert reader.next_characters("the cat") == [(" ", pytest.approx(1.0))]


@pytest.mark.parametrize("text", ["", "the", "the ", "the cat s"])
def test_next_characters_of_a_bpe_model_are_those_of_its_spellings(bpe_model: LoadedModel, text: str) -> None:
    """Against the shares that longer texts have: p(text + c | what stands before the word) / p(text | ...)."""
    reader = Reader(bpe_model)
    found = dict(reader.next_characters(text))
    assert 0.1 < sum(found.values()) < 1 + 1e-9  # the model is random: there are many more than the likeliest
    context, pending = reader.spelling.cut(text).context, reader.spelling.cut(text).pending
    reader.read_text(context)
    whole = reader.cover(pending).logprob
    for character, share in list(found.items())[:5]:
        if not character.isspace():  # which begins another word
            longer = np.exp(reader.cover(pending + character.encode()).logprob - whole)
            assert 0.1 * longer <= share <= longer + 1e-9


def test_what_is_known_ahead_is_what_would_be_found(bpe_model: LoadedModel) -> None:
    reader = Reader(bpe_model)
    anticipation = Anticipation(reader, Answers(reader, 1e-3))
    text = "the cat"
    for end in range(4, len(text) + 1):
        found, whole = anticipation.ask(text[:end], never)
        alone = Answers(Reader(bpe_model), 1e-3)(text[:end], never)
        assert whole
        assert [share for _, share in found] == pytest.approx([share for _, share in alone], abs=2e-3)
        anticipation.look_ahead(text[:end], after(0.2))


def test_answers_that_were_cut_short_are_not_kept(bpe_model: LoadedModel) -> None:
    reader = Reader(bpe_model)
    answers = Answers(reader)
    anticipation = Anticipation(reader, answers)
    first, whole = anticipation.ask("the cat s", lambda: True)
    assert (first, whole) == ([], False)
    anticipation.look_ahead("the cat s", lambda: True)
    assert answers.asked == ["the cat s"]
    assert anticipation.ask("the cat s", after(5.0))[0]


def test_a_model_that_learns_reads_nothing_that_was_not_written(bigram: LoadedModel, tmp_path: Path) -> None:
    loaded = building.saved_model(tmp_path / "model", "word")
    save_adaptation(loaded, building.adaptation(loaded))
    reader = Reader(open_predictor(loaded, ("cache",)))
    answers = Answers(reader)
    Anticipation(reader, answers).look_ahead("the cat", never)
    assert answers.asked == []


def test_settings_and_sessions_have_answers_of_their_own(bigram: LoadedModel) -> None:
    conversation = Conversation(bigram)
    assert [candidate.word for candidate in conversation.suggest("the ").completion.candidates] == ["cat", "can", "dog"]
    conversation.ban(["cat"])
    assert [candidate.word for candidate in conversation.suggest("the ").completion.candidates] == ["can", "dog"]
    conversation.look_ahead("the ", never)
    conversation.learn(True)
    suggestion = conversation.suggest("dog the ")
    assert suggestion.finished
    assert suggestion.completion.candidates[0].probability == pytest.approx(0.95 * 0.4)


def test_one_of_several_reasons_is_enough_to_stop() -> None:
    assert not either(never, after(60))()
    assert either(never, after(0))()
