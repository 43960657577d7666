from __future__ import annotations

import json
from collections import Counter
from itertools import product
from typing import Any

import building
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lstmlm.checkpoint import LoadedModel
from lstmlm.evaluation.breakdowns import CLASSES, token_classes
from lstmlm.evaluation.classification import classification, roc
from lstmlm.evaluation.scored import Scored, score

Answers = list[tuple[int, bool]]


def by_hand(scored: Scored) -> dict[str, Any]:
    """The definitions, word by word."""
    tokenizer = scored.loaded.tokenizer
    ids, guesses = scored.ids_N.tolist(), scored.guesses.guess_N.tolist()
    words = {token for token, place in enumerate(token_classes(tokenizer)) if CLASSES[place] == "word"}
    frequent = sorted(((count, -token) for token, count in Counter(ids).items() if token in words), reverse=True)[:1000]
    rows = []
    for count, negative in frequent:
        hits = sum(token == guess == -negative for token, guess in zip(ids, guesses, strict=True))
        precision = hits / guesses.count(-negative) if -negative in guesses else 0.0
        recall = hits / count
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        rows.append((count, {"precision": precision, "recall": recall, "f1": f1}))
    total = sum(count for count, _ in rows)
    names = ("precision", "recall", "f1")
    return {
        "classes": len(rows),
        "tokens": total,
        "macro": {name: pytest.approx(sum(row[name] for _, row in rows) / len(rows)) for name in names},
        "weighted": {name: pytest.approx(sum(count * row[name] for count, row in rows) / total) for name in names},
        "accuracy": sum(map(int.__eq__, ids, guesses)) / len(ids),
    }


def test_a_small_text_by_hand(word_model: LoadedModel) -> None:
    """Three words: cat (twice, found once, guessed three times), dog (once, found), mat (once, never guessed)."""
    encode = word_model.tokenizer.encode
    ids = encode("cat cat dog mat . zebra\n")
    guesses = encode("cat dog dog cat cat the the")
    read = building.read(word_model, "cat cat dog mat . zebra\n")
    assert read.ids_N.tolist() == ids
    found = classification(building.said(read, word_model, guess=guesses, confidence=[0.9, 0.6, 0.8, 0.6, 0.9, 0.1, 0.1]))
    curve = found.pop("roc")
    assert found == {
        "classes": 3,
        "tokens": 4,
        "macro": {
            "precision": pytest.approx((1 / 3 + 1 / 2 + 0) / 3),
            "recall": pytest.approx((1 / 2 + 1 + 0) / 3),
            "f1": pytest.approx((2 / 5 + 2 / 3 + 0) / 3),
        },
        "weighted": {
            "precision": pytest.approx((2 / 3 + 1 / 2 + 0) / 4),
            "recall": pytest.approx((2 / 2 + 1 + 0) / 4),
            "f1": pytest.approx((4 / 5 + 2 / 3 + 0) / 4),
        },
        "accuracy": 2 / 7,
        "confused": sorted_pairs([("cat", "dog"), ("mat", "cat")], encode),
        "auc": (4.5 + 4) / 10,  # of five wrong guesses, 0.9 is as sure as the first right one and surer than the second
    }
    assert curve == [[0, 0], [1 / 5, 1 / 2], [1 / 5, 1], [3 / 5, 1], [1, 1]]


def test_a_word_taken_for_a_mark_is_no_pair_of_words(word_model: LoadedModel) -> None:
    encode, text = word_model.tokenizer.encode, "cat dog\n"
    read = building.read(word_model, text)
    found = classification(building.said(read, word_model, guess=encode(". cat\n"), confidence=[0.5] * 3))
    assert [(pair["token"], pair["guess"]) for pair in found["confused"]] == [("dog", "cat")]


def sorted_pairs(pairs: list[tuple[str, str]], encode: Any) -> list[dict[str, Any]]:
    """Of pairs that occur as often, the smaller ids come first."""
    return [
        {"token": token, "guess": guess, "count": 1}
        for token, guess in sorted(pairs, key=lambda pair: [encode(word) for word in pair])
    ]


@pytest.mark.parametrize("kind", ["word", "char", "bpe", "ngram"])
def test_figures_of_a_model_follow_from_their_definitions(kind: str, tmp_path: Any) -> None:
    loaded = building.ngram("bpe") if kind == "ngram" else building.saved_model(tmp_path / "m", kind)
    scored = score(loaded, building.read(loaded, building.text(30), "the zebra\n"))
    found = classification(scored)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    expected = by_hand(scored)
    assert {name: found[name] for name in expected} == expected
    right = (scored.guesses.ranks_N == 1).tolist()
    assert found["auc"] == pytest.approx(definition(list(zip(scored.guesses.confidence_N.tolist(), right, strict=True))))


def test_only_the_most_frequent_thousand_words_are_looked_at() -> None:
    names = ["".join(letters) for letters in product("abcdefghij", repeat=3)] + ["often"] * 2 + ["."] * 5
    content = " ".join(names) + "\n"
    tokenizer = building.tokenizer("word", content, min_count=1)
    loaded = LoadedModel(building.Path(), building.model(tokenizer.vocabulary_size), tokenizer, "file")
    read = building.read(loaded, content)
    random = np.random.default_rng(5)
    scored = building.said(read, loaded, guess=np.where(random.random(len(read.ids_N)) < 0.5, read.ids_N, read.ids_N[::-1]))
    found = classification(scored)
    assert (found["classes"], found["tokens"]) == (1000, 1001)
    expected = by_hand(scored)
    assert {name: found[name] for name in expected} == expected


def test_the_most_confused_pairs_come_first_and_are_at_most_twenty(word_model: LoadedModel) -> None:
    words = ["the", "cat", "sat", "on", "mat", "dog", "rug"]
    pairs = [pair for pair in product(words, words) if pair[0] != pair[1]]
    times = [1 + number % 5 for number in range(len(pairs))]
    rows = [pair for pair, count in zip(pairs, times, strict=True) for _ in range(count)]
    read = building.read(word_model, " ".join(token for token, _ in rows) + "\n")
    guesses = word_model.tokenizer.encode(" ".join(guess for _, guess in rows) + "\n")
    found = classification(building.said(read, word_model, guess=guesses))["confused"]
    counts = dict(zip(pairs, times, strict=True))
    assert [row["count"] for row in found] == sorted(times, reverse=True)[:20]
    assert all(counts[row["token"], row["guess"]] == row["count"] for row in found)
    assert len({(row["token"], row["guess"]) for row in found}) == 20


def test_a_model_that_is_always_right(word_model: LoadedModel) -> None:
    read = building.read(word_model, building.text(3))
    found = classification(building.said(read, word_model, guess=read.ids_N))
    assert found["macro"] == found["weighted"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert (found["accuracy"], found["confused"], found["auc"], found["roc"]) == (1.0, [], None, [])


def test_a_text_without_words(word_model: LoadedModel) -> None:
    found = classification(building.said(building.read(word_model, ". , .\n"), word_model, guess=0))
    nothing = {"precision": None, "recall": None, "f1": None}
    assert (found["classes"], found["tokens"], found["macro"], found["weighted"]) == (0, 0, nothing, nothing)
    assert found["confused"] == []


def definition(answers: Any) -> float | None:
    """Pairs of a right and a wrong guess: in which part of them the right one is surer; equal ones count half."""
    right = [sure for sure, is_right in answers if is_right]
    wrong = [sure for sure, is_right in answers if not is_right]
    pairs = len(right) * len(wrong)
    return sum((a > b) + (a == b) / 2 for a in right for b in wrong) / pairs if pairs else None


@given(some.lists(some.tuples(some.integers(0, 6), some.booleans()), min_size=2, max_size=60))
def test_the_area_is_the_statistic_of_mann_and_whitney(answers: Answers) -> None:
    confidence_N, right_N = np.array([sure / 6 for sure, _ in answers]), np.array([right for _, right in answers])
    area, curve = roc(confidence_N, right_N)
    assert area == definition(answers)
    if area is None:
        assert curve == []
        return
    assert (curve[0], curve[-1]) == ([0.0, 0.0], [1.0, 1.0])
    false, true = np.array(curve).T
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    if len(curve) == len({sure for sure, _ in answers}) + 1:  # no point was left out
        assert np.diff(false) @ (true[1:] + true[:-1]) / 2 == pytest.approx(area)
    turned, _ = roc(-confidence_N, right_N)
    assert turned == pytest.approx(1 - area)


def test_a_long_curve_is_shown_by_points_that_lie_on_it() -> None:
    random = np.random.default_rng(2)
    confidence_N = random.random(5_000)
    right_N = random.random(5_000) < confidence_N
    area, curve = roc(confidence_N, right_N)
    assert area is not None
    assert 90 < len(curve) <= 101
    for false, true in curve:
        kept = round(false * (~right_N).sum()) + round(true * right_N.sum())
        surest_N = np.argsort(-confidence_N)[:kept]
        assert [false, true] == [(~right_N)[surest_N].sum() / (~right_N).sum(), right_N[surest_N].sum() / right_N.sum()]
    false, true = np.array(curve).T
    assert np.diff(false) @ (true[1:] + true[:-1]) / 2 == pytest.approx(area, abs=1e-3)
