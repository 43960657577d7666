"""Typing with a model whose probabilities are known, against figures worked out by hand and by brute force."""

from __future__ import annotations

import json
import random
import re
import statistics
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch
from rich.console import Console

from lstmlm import keyboard
from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.cli.main import run
from lstmlm.completion import Candidate, Completion, complete
from lstmlm.errors import UsageError
from lstmlm.generation import Session
from lstmlm.keyboard import keyboard_metrics
from lstmlm.report.terminal import keyboard_report

PROBABILITIES = {"the": 0.45, "cat": 0.25, "can": 0.15, "dog": 0.05, "<eos>": 0.06, "<unk>": 0.04}
TEXT = "the cat <unk> , zebra can\n"
"""Nothing typed: the, cat, can, dog. After "c": cat .625, can .375."""


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Whatever the text so far, the next word has the probabilities above."""
    path = tmp_path_factory.mktemp("unigram") / "model"
    tokenizer = building.tokenizer("word", "the cat can dog\n", min_count=1)
    model = building.model(tokenizer.vocabulary_size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for token in range(tokenizer.vocabulary_size):
            model.output.bias[token] = PROBABILITIES[tokenizer.describe(token)]
        model.output.bias.log_()
    save_model(path, model, tokenizer)
    return load_model(path)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # steps this short are faster alone


def metrics(loaded: LoadedModel, *documents: str, **options: Any) -> dict[str, Any]:
    return keyboard_metrics(Session(loaded), documents, **options)


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_accuracy_by_hand(unigram: LoadedModel) -> None:
    """Ranks before any of it is typed: the 1, cat 2, zebra none, can 3."""
    found = metrics(unigram, TEXT)
    assert (found["words"], found["words_in_text"], found["others"]) == (4, 4, 2)
    assert found["accuracy"] == pytest.approx(
        {"words": 4, "top1": 1 / 4, "top3": 3 / 4, "top5": 3 / 4, "top10": 3 / 4, "mrr10": (1 + 1 / 2 + 1 / 3) / 4}
    )
    assert found["accuracy_in_vocabulary"] == pytest.approx(
        {"words": 3, "top1": 1 / 3, "top3": 1.0, "top5": 1.0, "top10": 1.0, "mrr10": (1 + 1 / 2 + 1 / 3) / 3}
    )


def test_completion_by_hand(unigram: LoadedModel) -> None:
    """A third and two thirds of the (1, 1), cat (1, 1) and can (2, 2); one to four fifths of zebra (never)."""
    found = metrics(unigram, TEXT)["completion"]
    assert found == [
        {"from": 0.0, "to": 0.25, "places": 1, "top1": 0.0, "top3": 0.0},
        {"from": 0.25, "to": 0.5, "places": 4, "top1": 2 / 4, "top3": 3 / 4},
        {"from": 0.5, "to": 0.75, "places": 4, "top1": 2 / 4, "top3": 3 / 4},
        {"from": 0.75, "to": 1.0, "places": 1, "top1": 0.0, "top3": 0.0},
    ]


@pytest.mark.parametrize(
    ("k", "spared"),
    [
        (1, 3 + 2 + 0 + 0),  # can is never the first
        (2, 3 + 3 + 0 + 1),  # can is chosen after its first letter, and no space follows
        (3, 3 + 3 + 0 + 2),
        (12, 3 + 3 + 0 + 2),
    ],
)
def test_keystrokes_by_hand(unigram: LoadedModel, k: int, spared: int) -> None:
    found = metrics(unigram, TEXT, k=k)["keystrokes"]
    assert (found["chars"], found["keys"]) == (26, 26 - spared)
    assert found["saving"] == pytest.approx(100 * spared / 26)
    assert found["vocabulary_limit"] == pytest.approx(100 * (3 + 3 + 2) / 26)
    assert found["limit"] == pytest.approx(100 * (3 + 3 + 5 + 2) / 26)


@pytest.mark.parametrize(
    ("threshold", "next_word", "typing"),
    [
        (0.3, (6, 6, 1.0, 1 / 6), (10, 6, 0.6, 4 / 6)),  # "the" before four words, <unk> and the comma
        (0.5, (6, 0, 0.0, None), (10, 6, 0.6, 4 / 6)),
        (0.7, (6, 0, 0.0, None), (10, 2, 0.2, 1.0)),  # only "the", after its t and its h
        (1.0, (6, 0, 0.0, None), (10, 0, 0.0, None)),
    ],
)
def test_ghosts_by_hand(unigram: LoadedModel, threshold: float, next_word: Any, typing: Any) -> None:
    found = metrics(unigram, TEXT, threshold=threshold)["ghost"]
    for kind, expected in (("next", next_word), ("typing", typing)):
        assert tuple(found[kind].values()) == pytest.approx(expected)


def test_calibration_by_hand(unigram: LoadedModel) -> None:
    """Two words shown: .45 and .25 at six places, .625 and .375 at four, 1 at two, none after the z."""
    found = metrics(unigram, TEXT, k=2)["calibration"]
    filled = {part["from"]: (part["words"], part["probability"], part["right"]) for part in found["bins"] if part["words"]}
    expected = {
        0.2: (6, 0.25, 1 / 6),
        0.3: (4, 0.375, 2 / 4),
        0.4: (6, 0.45, 1 / 6),
        0.6: (4, 0.625, 2 / 4),
        0.9: (2, 1.0, 1.0),
    }
    assert filled.keys() == expected.keys()
    for begin, values in expected.items():
        assert filled[begin] == pytest.approx(values)
    assert found["words"] == 22
    errors = (6 * (0.25 - 1 / 6), 4 * 0.125, 6 * (0.45 - 1 / 6), 4 * 0.125, 0.0)
    assert found["ece"] == pytest.approx(sum(errors) / 22)
    assert [(part["from"], part["to"]) for part in found["bins"]] == [(n / 10, (n + 1) / 10) for n in range(10)]
    empty = [part for part in found["bins"] if not part["words"]]
    assert all(part["probability"] is part["right"] is None for part in empty)


def test_latency_is_what_completions_say(unigram: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 ms with nothing typed, 10 ms and more with more typed; the first completion of all does not count."""

    def slow(session: Session, text: str, k: int, **_: object) -> Completion:
        typed = re.search(r"\S*$", text)[0]  # type: ignore[index]
        return Completion(text, typed, [], 1.0, True, 0.0, 1e6 if not text and k else 1.0 + 9 * len(typed))

    monkeypatch.setattr(keyboard, "complete", slow)
    found = metrics(unigram, " " + TEXT)["latency_ms"]
    assert found["next"] == {"completions": 6, "p50": 1.0, "p90": 1.0, "p99": 1.0}
    typing = sorted([10.0, 19.0] * 3 + [10.0, 19.0, 28.0, 37.0])
    assert found["typing"]["completions"] == 10
    assert found["typing"]["p50"] == pytest.approx(statistics.median(typing))
    assert found["typing"]["p90"] == pytest.approx(28 + 0.1 * 9)
    assert found["typing"]["p99"] == pytest.approx(37 - 0.09 * 9)


# -- by brute force ---------------------------------------------------------------------------------------------------

SENTENCE = "The cat's map, (see a-b) \u201cthe dog\u201d!\n\nhe can't  fed\ta 3.14 zq .\n"
KNOWN = SENTENCE.replace("map", "cab") + "them then cats can dot 3.1"
RUNS = re.compile(r"\S+")
PLAIN_WORDS = re.compile(r"[A-Za-z0-9]+(?:['.-][A-Za-z0-9]+)*")
BEGUN = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9'.-]*)?$")


def dictionary(session: Session, text: str, k: int, **_: object) -> Completion:
    """Known words, with probabilities drawn anew for each text before them."""
    by_run = session.tokenizer.kind == "word"
    typed = re.search(r"\S*$", text)[0]  # type: ignore[index]
    begun = typed if by_run else BEGUN.search(typed)[0]  # type: ignore[index]
    draw = random.Random(text.removesuffix(begun))
    known = sorted(set((RUNS if by_run else PLAIN_WORDS).findall(KNOWN)))
    weights = {word: draw.random() ** 3 for word in known}
    fitting = {word: weight for word, weight in weights.items() if word.startswith(begun)}
    best = sorted(fitting, key=lambda word: -weights[word])[:k]
    candidates = [Candidate(word, weights[word] / sum(fitting.values()), len(begun), word) for word in best]
    return Completion(text, typed, candidates, 1 - sum(c.probability for c in candidates), True, 0.0, 1.0)


def right_places(loaded: LoadedModel, text: str, answer: Callable[..., Completion]) -> dict[tuple[int, int], list[int]]:
    """For every word, as where it starts and ends: the rank at each place, from completions of the whole text."""
    pattern, session = RUNS if loaded.tokenizer.kind == "word" else PLAIN_WORDS, Session(loaded)
    spans = [match.span() for match in pattern.finditer(text) if any(map(str.isalnum, match[0]))]
    ranks = {}
    for start, end in spans:
        ranks[start, end] = []
        for place in range(start, end):
            made = [text[: place - c.replace] + c.insert for c in answer(session, text[:place], 10).candidates]
            ranks[start, end].append(made.index(text[:end]) + 1 if text[:end] in made else 0)
    return ranks


def fewest_keys(text: str, ranks: dict[tuple[int, int], list[int]], k: int) -> int:
    """The cheapest way from the beginning of the text to its end, by dynamic programming over all ways."""
    cost = [0] + [len(text)] * len(text)
    ways = {
        start + typed: end + (text[end : end + 1] == " ")
        for (start, end), found in ranks.items()
        for typed, rank in enumerate(found)
        if 0 < rank <= k
    }
    for place in range(len(text)):
        for after in {place + 1, ways.get(place, place + 1)}:
            cost[after] = min(cost[after], cost[place] + 1)
    return cost[-1]


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_brute_force_agrees(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "complete", dictionary)
    tokenizer = building.tokenizer(kind, KNOWN, **({"min_count": 1} if kind == "word" else {}))
    save_model(tmp_path / "m", building.model(tokenizer.vocabulary_size), tokenizer)
    loaded = load_model(tmp_path / "m")
    ranks = right_places(loaded, SENTENCE, dictionary)
    found, ranks_W = metrics(loaded, SENTENCE, k=3), [ranks_P[0] for ranks_P in ranks.values()]
    for k in (1, 3, 5, 10):
        assert found["accuracy"][f"top{k}"] == pytest.approx(sum(0 < rank <= k for rank in ranks_W) / len(ranks_W))
    assert found["accuracy"]["mrr10"] == pytest.approx(sum(1 / rank for rank in ranks_W if rank) / len(ranks_W))
    for part in found["completion"]:
        of_part = [
            rank
            for ranks_P in ranks.values()
            for typed, rank in enumerate(ranks_P)
            if typed and part["from"] <= typed / len(ranks_P) < part["to"]
        ]
        assert part["places"] == len(of_part)
        assert part["top3"] == (pytest.approx(np.mean([0 < rank <= 3 for rank in of_part])) if of_part else None)
    keys = found["keystrokes"]
    assert keys["keys"] == fewest_keys(SENTENCE, ranks, 3)
    at_once = {span: [1] * len(ranks_P) for span, ranks_P in ranks.items()}
    assert keys["limit"] == pytest.approx(100 - 100 * fewest_keys(SENTENCE, at_once, 3) / len(SENTENCE))
    assert 0 < keys["saving"] < keys["vocabulary_limit"] <= keys["limit"]


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_models_that_spell_are_asked_as_anybody_asks_them(kind: str, tmp_path: Path) -> None:
    tokenizer = building.tokenizer(kind)
    model = building.model(tokenizer.vocabulary_size)
    with torch.no_grad():
        model.output.bias[sorted(set(tokenizer.encode(" a cat")))] += 8.0
    save_model(tmp_path / "m", model, tokenizer)
    loaded = load_model(tmp_path / "m")
    ranks, found = right_places(loaded, "a cat\n", complete), metrics(loaded, "a cat\n")
    assert any(map(any, ranks.values()))
    assert found["accuracy"]["top10"] == sum(ranks_P[0] > 0 for ranks_P in ranks.values()) / 2
    assert [part["top1"] for part in found["completion"][1:3]] == [float(rank == 1) for rank in ranks[2, 5][1:]]


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_what_can_be_spelled_is_in_the_vocabulary(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "complete", dictionary)
    found = metrics(building.saved_model(tmp_path / "model", kind), "the qqq\u00e9 cat\n")
    assert found["accuracy"]["words"] == 3
    assert found["accuracy_in_vocabulary"]["words"] == (2 if kind == "char" else 3)
    limits = found["keystrokes"]["vocabulary_limit"], found["keystrokes"]["limit"]
    assert limits == pytest.approx((500 / 13 if kind == "char" else 900 / 13, 900 / 13))


def test_text_is_as_the_tokenizer_reads_it(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("word", lowercase=True)
    save_model(tmp_path / "m", building.model(tokenizer.vocabulary_size), tokenizer)
    loaded = load_model(tmp_path / "m")
    upper, lower = metrics(loaded, "The CAT sat\n"), metrics(loaded, "the cat sat\n")
    del upper["latency_ms"], lower["latency_ms"]
    assert upper == lower
    assert upper["keystrokes"]["saving"] > 0


# -- limits and mistakes ----------------------------------------------------------------------------------------------


def figures(value: Any) -> Iterator[Any]:
    """All that a result holds."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if parts is None:
        yield value
    else:
        for part in parts:
            yield from figures(part)


@pytest.mark.parametrize("documents", [(), ("",), ("\n",), (", .\n<unk>\n",)])
def test_without_words_there_is_nothing_to_say(unigram: LoadedModel, documents: tuple[str, ...]) -> None:
    found, chars = metrics(unigram, *documents), sum(map(len, documents))
    assert found["words"] == 0
    assert set(found["accuracy"].values()) == {0, None}
    assert set(found["latency_ms"]["typing"].values()) == {0, None}
    assert found["keystrokes"] == {
        "chars": chars,
        "keys": chars,
        **dict.fromkeys(("saving", "vocabulary_limit", "limit"), 0.0 if chars else None),
    }
    assert (found["calibration"]["ece"] is None) == (not "".join(documents).strip())
    assert "nan" not in map(str, figures(found))


def test_progress_adds_up(unigram: LoadedModel) -> None:
    calls: list[tuple[int, int]] = []
    found = metrics(unigram, TEXT, building.document(3), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, found["words"]) for done in range(1, found["words"] + 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": -1}, "number of words is -1; expected 0"),
        ({"k": 0}, "k is 0; expected at least 1"),
        ({"threshold": 1.5}, "threshold is 1.5; expected 0 to 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
    ],
)
def test_what_cannot_be_meant_is_refused(unigram: LoadedModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metrics(unigram, TEXT, **options)


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_reports_them(
    unigram: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], clean_shell: None
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    command = ["eval", str(unigram.path), str(text)]
    expected = metrics(unigram, TEXT)
    for option in ("--keyboard", "--full"):
        assert run([*command, option, "--json", "-"]) == 0
        found = json.loads(capsys.readouterr().out)["keyboard"]
        assert {**found, "latency_ms": None} == {**expected, "latency_ms": None}
    assert run([*command, "--json", "-"]) == 0
    assert "keyboard" not in json.loads(capsys.readouterr().out)
    text.write_text(building.document(30))
    assert run([*command, "--keyboard", "--keyboard-words", "150", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["keyboard"]["words"] == 3 * 43
    assert run([*command, "--keyboard", "--keyboard-words", "150"]) == 0
    assert "129 of 1,290 words typed, with 5 words shown" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--keyboard-words", "5"], ["--keyboard", "--keyboard-words", "-1"]])
def test_the_command_refuses_what_cannot_be_meant(
    unigram: LoadedModel, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", str(unigram.path), *options]) == 2
    assert "--keyboard" in capsys.readouterr().err


def test_the_report(unigram: LoadedModel) -> None:
    found = metrics(unigram, TEXT)
    found["latency_ms"]["next"] |= {"p50": 2.25, "p90": 3.0, "p99": 10.125}
    found["latency_ms"]["typing"] |= {"p50": None, "p90": None, "p99": None}
    console = Console(width=120, file=StringIO())
    console.print(keyboard_report(found))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert (
        "\n".join(lines)
        == """\
next word right      25.0%  top 3, 5, 10: 75.0%, 75.0%, 75.0%; MRR@10 0.458; of 4 words
  in vocabulary      33.3%  top 3, 5, 10: 100.0%, 100.0%, 100.0%; MRR@10 0.611; of 3 words
  under 25% typed     0.0%  top 3 0.0%  at 1 place
  25% to 50% typed   50.0%  top 3 75.0%  at 4 places
  50% to 75% typed   50.0%  top 3 75.0%  at 4 places
  75% to 100% typed   0.0%  top 3 0.0%  at 1 place
keystrokes saved     30.8%  18 keys for 26 characters; vocabulary limit 30.8%  limit 50.0%
ghost right          16.7%  where it is above 30%: at 100.0% of 6 places
  while typing       66.7%  where it is above 30%: at 60.0% of 10 places
calibration error    10.6%  of the percentages of 34 words shown
ms per list, median   2.25  p90 3.00  p99 10.12
4 of 4 words typed, with 5 words shown; choosing one is one key and brings its space. Marks and
unknown words between them: 2."""
    )
