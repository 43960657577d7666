from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import building
import numpy as np
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import MODES
from lstmlm.evaluation.breakdowns import CLASSES, breakdowns, token_classes
from lstmlm.evaluation.origin import count_symbols
from lstmlm.evaluation.scored import Scored, score

DOCUMENTS = (
    "the cat sat on the mat .\nin 1990 42 cats\tsat !\n",
    "zebras \u732b\n",
    "x",
    "\n  a dog , 7 dogs \u2014 <unk> <eos> .\n" * 3,
)


def figures(group: dict[str, Any]) -> tuple[int, float]:
    return group["tokens"], group["nll_nats"]


def assert_whole(groups: list[dict[str, Any]], scored: Scored) -> None:
    """Tokens, nats and shares add up, and each perplexity is that of its group."""
    assert sum(group["tokens"] for group in groups) == len(scored.ids_N)
    assert math.fsum(group["nll_nats"] for group in groups) == pytest.approx(scored.scores.nll_nats, rel=1e-12)
    assert math.fsum(group["share"] for group in groups) == pytest.approx(1.0)
    for group in groups:
        assert group["tokens"] > 0
        assert group["share"] == group["tokens"] / len(scored.ids_N)
        assert group["perplexity"] == pytest.approx(math.exp(group["nll_nats"] / group["tokens"]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe", "ngram"])
def test_every_breakdown_adds_up_to_the_text(kind: str, mode: str, tmp_path: Any) -> None:
    loaded = building.ngram("bpe") if kind == "ngram" else building.saved_model(tmp_path / "m", kind)
    counts_V = count_symbols([building.read(loaded, building.text()).ids_N], loaded.tokenizer.vocabulary_size)
    scored = replace(score(loaded, building.read(loaded, *DOCUMENTS), mode), training_counts_V=counts_V)
    found = breakdowns(scored)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name in ("frequency", "class", "position"):
        assert_whole(found[name], scored)
    assert found["frequency"][0]["name"] == "unseen"
    assert figures(found["frequency"][0]) == pytest.approx(
        ((counts_V[scored.ids_N] == 0).sum(), scored.nats_N[counts_V[scored.ids_N] == 0].sum())
    )
    unknown = [group["tokens"] for group in found["class"] if group["name"] == "unknown"]
    assert sum(unknown) == scored.unknown_N.sum()
    ends = [group["tokens"] for group in found["class"] if group["name"] == "end"]
    assert ends == [(scored.ids_N == loaded.tokenizer.eos).sum()]
    assert found["documents"]["count"] == 4
    document_nats = [score(loaded, building.read(loaded, text), mode).scores.nll_nats for text in DOCUMENTS]
    if mode != "stream" or kind == "ngram":  # else the state comes from the document before
        for shown in (*found["documents"]["best"], *found["documents"]["worst"]):
            assert shown["nll_nats"] == pytest.approx(document_nats[shown["number"] - 1], rel=1e-5)
    bits = [worst["bits"] for worst in found["worst_tokens"]]
    places = np.argsort(-scored.nats_N, kind="stable")
    taken = list(zip(scored.ids_N[places].tolist(), scored.guesses.guess_N[places].tolist(), strict=True))
    expected = [
        scored.nats_N[place] / math.log(2)
        for number, (place, pair) in enumerate(zip(places, taken, strict=True))
        if taken[:number].count(pair) < 2
    ]
    assert bits == expected[:20]


def test_frequencies_are_told_apart_by_powers_of_ten(word_model: LoadedModel) -> None:
    counts = [0, 1, 9, 10, 99, 100, 999, 1_000, 9_999, 10_000, 99_999, 100_000, 7_654_321]
    counts_V = np.zeros(word_model.tokenizer.vocabulary_size, np.int64)
    counts_V[: len(counts)] = counts
    read = building.read(word_model, "the " * len(counts))
    read = replace(
        read, ids_N=np.arange(len(read.ids_N), dtype=np.uint16) % len(counts)
    )  # the last, <eos>, becomes another 0
    found = breakdowns(building.said(read, word_model, nats=np.arange(14.0), training_counts_V=counts_V))["frequency"]
    assert [(group["name"], group["low"], group["high"], *figures(group)) for group in found] == [
        ("unseen", 0, 0, 2, 13.0),
        ("1-9", 1, 9, 2, 3.0),
        ("10-99", 10, 99, 2, 7.0),
        ("100-999", 100, 999, 2, 11.0),
        ("1,000-9,999", 1_000, 9_999, 2, 15.0),
        ("10,000-99,999", 10_000, 99_999, 2, 19.0),
        ("100,000+", 100_000, None, 2, 23.0),
    ]


def test_without_training_counts_there_are_no_frequencies(word_model: LoadedModel) -> None:
    assert breakdowns(building.said(building.read(word_model, "the cat"), word_model))["frequency"] is None


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("word", "the can't \u00e9t\u00e9 \u732b u.s. -ed B52 \u0301a"),
        ("number", "42 3.14 -7 $5 1990s \u00b2 \u0663"),
        ("punctuation", ". , @-@ \u2014 \u20ac + ..."),
        ("other", "\u200b \x01"),
    ],
)
def test_the_class_of_a_word_is_that_of_its_first_letter_or_digit(name: str, tokens: str) -> None:
    tokenizer = building.tokenizer("word", tokens * 2, min_count=1)
    classes = token_classes(tokenizer)
    assert {CLASSES[classes[tokenizer.encode(token)[0]]] for token in tokens.split()} == {name}
    assert (CLASSES[classes[tokenizer.eos]], CLASSES[classes[tokenizer.unk or 0]]) == ("end", "unknown")


def test_bytes_and_pieces_have_classes_too() -> None:
    tokenizer = building.tokenizer("byte")
    classes = [CLASSES[place] for place in token_classes(tokenizer)]
    assert [classes[byte] for byte in b"a7.\n \x00\xe9\xff"] == [
        *("word", "number", "punctuation", "white space", "white space", "other", "other", "other")
    ]
    assert classes[tokenizer.eos] == "end"
    tokenizer = building.tokenizer("bpe")
    classes = [CLASSES[place] for place in token_classes(tokenizer)]
    assert [classes[token] for token in tokenizer.encode("the dog .")] == ["word", "word", "punctuation"]


@pytest.mark.parametrize("mode", MODES)
def test_positions_are_those_in_the_document_in_every_mode(mode: str, word_model: LoadedModel) -> None:
    read = building.read(word_model, "\n", "the\n", "the cat\nsat on\nthe\n")  # 1, 2 and 8 tokens
    found = breakdowns(building.said(read, word_model, nats=np.arange(1.0, 12.0), mode=mode))["position"]
    assert [(group["low"], group["high"], *figures(group)) for group in found] == [
        (1, 1, 3, 1.0 + 2.0 + 4.0),
        (2, 3, 3, 3.0 + 5.0 + 6.0),
        (4, 7, 4, 7.0 + 8.0 + 9.0 + 10.0),
        (8, 15, 1, 11.0),
    ]


def test_documents_are_ranked_by_their_perplexity(word_model: LoadedModel) -> None:
    """A long document has more nats than a short one, and may yet be the better one."""
    read = building.read(word_model, "the cat sat on the mat .\n", "the\n", "cat\n", "\n")
    found = breakdowns(building.said(read, word_model, nats=[1.0] * 8 + [3.0, 2.0] + [0.25, 0.25] + [1.5]))["documents"]
    assert found == {
        "count": 4,
        "best": [
            {"number": 3, "tokens": 2, "nll_nats": 0.5, "perplexity": math.exp(0.25), "begins": "cat\n"},
            {"number": 1, "tokens": 8, "nll_nats": 8.0, "perplexity": math.exp(1), "begins": "the cat sat on the mat .\n"},
        ],
        "worst": [
            {"number": 2, "tokens": 2, "nll_nats": 5.0, "perplexity": math.exp(2.5), "begins": "the\n"},
            {"number": 4, "tokens": 1, "nll_nats": 1.5, "perplexity": math.exp(1.5), "begins": "\n"},
        ],
    }


@pytest.mark.parametrize(("count", "shown"), [(1, 0), (2, 1), (3, 1), (9, 4), (10, 5), (31, 5)])
def test_no_document_is_both_best_and_worst(count: int, shown: int, word_model: LoadedModel) -> None:
    read = building.read(word_model, *["the\n"] * count)
    found = breakdowns(building.said(read, word_model))["documents"]
    best, worst = ([document["number"] for document in found[end]] for end in ("best", "worst"))
    assert found["count"] == count
    assert (len(best), len(worst), len({*best, *worst})) == (shown, shown, 2 * shown)


def test_the_worst_tokens_stand_in_the_text_of_their_document(word_model: LoadedModel) -> None:
    read = building.read(word_model, "the dog zebra\n", "a cat sat\n")
    nats, token = np.arange(8.0) / 8, word_model.tokenizer.encode("mat")[0]
    nats[[2, 4, 6]] = 30.0, 10.0, 20.0
    found = breakdowns(building.said(read, word_model, nats=nats, guess=token, confidence=0.25))["worst_tokens"]
    about = {"rank": 2, "guess": "mat", "confidence": 0.25}
    assert found[:3] == [
        {"token": "<unk>", "bits": 30 / math.log(2), "before": "the dog", "position": 2} | about,
        {"token": "sat", "bits": 20 / math.log(2), "before": "a cat", "position": 6} | about,
        {"token": "a", "bits": 10 / math.log(2), "before": "", "position": 4} | about,
    ]
    assert len(found) == len({(worst["token"], worst["before"]) for worst in found}) <= 8


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_what_is_shown_of_a_text_is_at_most_sixty_whole_characters(kind: str, tmp_path: Any) -> None:
    content = "".join(map(chr, range(0x1F300, 0x1F300 + 100)))
    loaded = building.saved_model(tmp_path / "m", kind)
    if kind == "char":
        loaded = replace(loaded, tokenizer=building.tokenizer("char", content))
    read = building.read(loaded, content, content)
    scored = building.said(read, loaded, nats=np.arange(float(len(read.ids_N))))
    found = breakdowns(scored)
    assert found["documents"]["best"][0]["begins"] == content[:60]
    assert (found["worst_tokens"][0]["token"], found["worst_tokens"][0]["before"]) == ("<eos>", content[-60:])


def test_a_perplexity_beyond_all_floats_is_none(word_model: LoadedModel) -> None:
    found = breakdowns(building.said(building.read(word_model, "the cat", "the"), word_model, nats=1e4))
    groups = [*found["class"], *found["position"], *found["documents"]["best"]]
    assert {group["perplexity"] for group in groups} == {None}
