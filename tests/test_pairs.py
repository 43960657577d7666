"""Minimal pairs: figures that the single sentences have, too, and files of every shape."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import conversing
import numpy as np
import pytest

from lstmlm import pairs
from lstmlm.checkpoint import LoadedModel
from lstmlm.cli.main import run
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.evaluation import evaluate
from lstmlm.ngram import LoadedNGram, save_ngram, train_ngram
from lstmlm.pairs import Pair, Tally, judge, read_pairs, wilson_interval
from lstmlm.predictor import open_predictor
from lstmlm.scoring import Scores
from lstmlm.surprisal import score_texts

Refused = Callable[[str, LoadedModel, str, str], None]
BLIMP = [
    {
        "sentence_good": "the cat sat on the mat .",
        "sentence_bad": "the cat sat the on mat .",
        "field": "syntax",
        "linguistics_term": "argument_structure",
        "UID": "order",
        "simple_LM_method": True,
        "pairID": "0",
    },
    {
        "sentence_good": "the dog saw a cat .",
        "sentence_bad": "the dog saw cat a .",
        "field": "syntax",
        "linguistics_term": "determiners",
        "UID": "article",
        "simple_LM_method": False,
        "pairID": "1",
    },
]


@pytest.fixture(params=["word", "bpe", "char", "byte"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    return building.saved_model(tmp_path / "model", request.param)


def ngram(path: Path) -> LoadedNGram:
    tokenizer = building.tokenizer("word")
    ids = np.array(tokenizer.encode(building.text()), np.uint16)
    model = train_ngram([ids], vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=3)
    save_ngram(path, model, tokenizer, documents="file")
    return LoadedNGram(path, model, tokenizer, "file")


def evaluated(model: LoadedModel | LoadedNGram, sentences: list[str], folder: Path) -> dict[str, Any]:
    """Each sentence in a file of its own, so that it is a document and a line."""
    paths = [folder / f"{number}.txt" for number in range(len(sentences))]
    for path, sentence in zip(paths, sentences, strict=True):
        path.write_text(sentence)
    return evaluate(model, open_texts([*map(str, paths)], CorpusConfig(), None), mode="line")


def test_sentences_are_scored_as_evaluate_scores_lines(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in BLIMP))
    judged = list(judge(loaded, read_pairs(tmp_path / "pairs.jsonl")))
    for name, nats, tokens in (
        ("sentence_good", [found.good_nats for found in judged], [found.good_tokens for found in judged]),
        ("sentence_bad", [found.bad_nats for found in judged], [found.bad_tokens for found in judged]),
    ):
        expected = evaluated(loaded, [row[name] for row in BLIMP], tmp_path)  # type: ignore[misc]
        assert math.fsum(nats) == pytest.approx(expected["nll_nats"], abs=1e-5)
        assert sum(tokens) == expected["tokens"]


def test_so_are_those_of_ngrams_and_of_models_with_memory(tmp_path: Path) -> None:
    model = ngram(tmp_path / "ngram")
    pair = Pair("the cat sat on the mat .", "the cat sat the on mat .")
    (judged,) = judge(model, [pair])
    assert judged.good_nats == pytest.approx(evaluated(model, [pair.good], tmp_path)["nll_nats"], rel=1e-12)
    assert judged.good_nats < judged.bad_nats
    neural = conversing.bigram_model(tmp_path / "model")
    (remembered,) = judge(open_predictor(neural, ("cache",)), [pair])
    alone = evaluate(neural, open_texts([str(tmp_path / "0.txt")], CorpusConfig(), None), mode="line", adapt=["cache"])
    assert remembered.good_nats == pytest.approx(alone["rows"]["cache"]["nll_nats"], abs=1e-5)


def test_pairs_do_not_depend_on_those_beside_them(bpe_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(good, bad) for good in building.SENTENCES for bad in building.SENTENCES]
    together = list(judge(bpe_model, iter(pairs)))
    monkeypatch.setattr("lstmlm.pairs._PAIRS_AT_ONCE", 1)
    for one, other in zip(judge(bpe_model, pairs), together, strict=True):
        assert (one.good_nats, one.bad_nats) == pytest.approx((other.good_nats, other.bad_nats), abs=1e-5)


def test_known_probabilities_give_known_figures(tmp_path: Path) -> None:
    """the -> cat .5, can .4; cat -> sat .9, can .1; sat -> <eos> .2; can -> <eos> .06."""
    model = conversing.bigram_model(tmp_path / "model")
    pairs = [
        Pair("the cat sat", "the can", {"category": "b"}),
        Pair("the zebra", "the the", {"category": "a"}),  # both impossible after "the", one of them unknown
        Pair("the cat", "the cat", {"category": "a"}),
    ]
    judged = list(judge(model, pairs))
    assert judged[0].good_nats == pytest.approx(-math.log(0.4 * 0.5 * 0.9 * 0.2), abs=1e-4)
    assert judged[0].bad_nats == pytest.approx(-math.log(0.4 * 0.4 * 0.06), abs=1e-4)
    assert (judged[0].good_tokens, judged[0].bad_tokens) == (4, 3)
    assert judged[0].difference_bits() == pytest.approx(math.log2(0.036 / 0.0096), abs=1e-4)
    per_token = math.log2(0.036) / 4 - math.log2(0.0096) / 3
    assert judged[0].difference_bits(per_token=True) == pytest.approx(per_token, abs=1e-4)
    assert [found.unknown for found in judged] == [False, True, False]
    tally = Tally()
    for found in (judged[0], judged[2]):
        tally.add(found)
    figures = tally.figures()
    assert (figures["pairs"], figures["correct"], figures["ties"], figures["accuracy"]) == (2, 1.5, 1, 0.75)
    assert figures["difference_bits"] == pytest.approx(math.log2(3.75) / 2, abs=1e-4)
    assert (figures["known"], [group["name"] for group in figures["by"]["category"]]) == (None, ["a", "b"])
    tally.add(judged[1])
    figures = tally.figures()
    assert (figures["pairs"], figures["pairs_unknown"], figures["known"]["pairs"]) == (3, 1, 2)
    assert [group["pairs"] for group in figures["by"]["category"]] == [2, 1]


def test_wilson_by_hand() -> None:
    """8 of 10 with z = 2: (0.8 + 4/20 +- 2 sqrt(0.16/10 + 4/400)) / (1 + 4/10)."""
    half = 2 * math.sqrt(0.026)
    assert wilson_interval(8, 10, z=2) == pytest.approx([(1 - half) / 1.4, (1 + half) / 1.4])
    assert wilson_interval(0, 5)[0] == 0
    assert wilson_interval(5, 5)[1] == 1
    for correct in (0, 1, 2.5, 5):  # turned around, the same
        low, high = wilson_interval(correct, 5)
        assert wilson_interval(5 - correct, 5) == pytest.approx([1 - high, 1 - low])


ROWS = [("a cat sat", "a cat sit"), ('"go," he said', 'he said "'), ("one, two", "one")]


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv", "pairs.jsonl", "pairs.tsv.gz"])
def test_every_shape_of_file(tmp_path: Path, name: str) -> None:
    mark = "," if "csv" in name else "\t"
    if "jsonl" in name:
        rows = [{"good": good, "bad": bad, "UID": number} for number, (good, bad) in enumerate(ROWS)]
        text = "\ufeff" + "\r\n".join(map(json.dumps, rows))
    else:
        quoted = [[f'"{part.replace(chr(34), 2 * chr(34))}"' for part in pair] for pair in ROWS]
        lines = [mark.join([bad, str(number), good]) for number, (good, bad) in enumerate(quoted)]
        text = "\n".join(["", mark.join(["bad", "UID", "good"]), *lines[:1], "", *lines[1:], ""])
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    found = list(read_pairs(path))
    assert [(pair.good, pair.bad) for pair in found] == ROWS
    assert [pair.groups for pair in found] == [{"UID": "0"}, {"UID": "1"}, {"UID": "2"}]
    assert found[2].where == f"{path}, line {3 if 'jsonl' in name else 6}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE is empty; expected a table: TSV or CSV with a header, or JSON lines"),
        ("\n \n", "FILE is empty; expected a table: TSV or CSV with a header, or JSON lines"),
        ("good\tbetter\na\tb\n", "FILE, line 2 has no bad or sentence_bad; it has good, better"),
        ("good,bad\na,b\na\n", "FILE, line 3 does not have the header's 2 columns, but 1"),
        ("good,bad,good\na,b,c\n", "FILE, line 1: the header is good, bad, good; expected a different name for each column"),
        ("good\tbad\na\t \n", 'FILE, line 2: bad is " "; expected some text'),
        ('good\tbad\na\tb\n"a" b\tc\n', "FILE, line 3: '\t' expected after '\"'; expected a quote at the end of a cell"),
        ('good\tbad\n"a\tb\n1\t2\n', "FILE, line 2: unexpected end of data; expected a quote at the end of a cell"),
        ("good\tbad\n\n", "FILE has no rows below its header"),
        ('[{"good": "a", "bad": "b"}]\n', "FILE begins as a JSON array; expected an object in each line"),
        ('{"good": "a", "bad": "b"}\n{"good": 1, "bad": "b"}\n', "FILE, line 2: good is 1; expected some text"),
        ('{"good": "a", "bad": "b"}\n{"good": "a"', "FILE, line 2 is not JSON: Expecting ',' delimiter: line 1 column 13"),
        ('{"good": "a", "bad": "b"}\n[1]\n', "FILE, line 2 holds a JSON list; expected an object"),
        ('{"good": "a", "bad": "b", "field": [1]}\n', "FILE, line 1: field is [1]; expected some text"),
    ],
)
def test_malformed_files_are_named_with_their_line(
    bpe_model: LoadedModel, refused: Refused, text: str, message: str
) -> None:
    refused("pairs", bpe_model, text, message)


@pytest.fixture
def blimp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two files, one for each paradigm, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for row in BLIMP:
        (tmp_path / f"{row['UID']}.jsonl").write_text(json.dumps(row) + "\n")
    return [f"{row['UID']}.jsonl" for row in BLIMP]


def test_a_session(tmp_path: Path, word_model: LoadedModel, blimp: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pairs", str(word_model.path), *blimp, "--json", "out.json", "--details", "rows.tsv"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for shown in ("all pairs", "linguistics_term", "determiners", "95% interval"):
        assert shown in captured.out
    figures = json.loads((tmp_path / "out.json").read_text())
    rows = [row.split("\t") for row in (tmp_path / "rows.tsv").read_text().splitlines()]
    found = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert (figures["schema"], figures["paths"], figures["pairs"]) == ("lstmlm.pairs/1", blimp, 2)
    assert [row["where"] for row in found] == [f"{name}, line 1" for name in blimp]
    assert [row["good"] for row in found] == [row["sentence_good"] for row in BLIMP]
    assert figures["correct"] == sum(float(row["correct"]) for row in found)
    assert figures["difference_bits"] == pytest.approx(sum(float(row["difference_bits"]) for row in found) / 2, abs=1e-6)
    assert [group["name"] for group in figures["by"]["UID"]] == ["article", "order"]
    assert list(figures["by"]) == ["field", "linguistics_term", "UID"]


def test_what_is_printed_alone(word_model: LoadedModel, blimp: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pairs", str(word_model.path), *blimp, "--per-token", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["per_token"] is True
    assert run(["pairs", str(word_model.path), *blimp, "--per-token", "--details", "-"]) == 0
    rows = [row.split("\t") for row in capsys.readouterr().out.splitlines()]
    place = rows[0].index("difference_bits")
    assert sum(float(row[place]) for row in rows[1:]) / 2 == pytest.approx(figures["difference_bits"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.tsv"], "nowhere.tsv: No such file or directory"),
        (["order.jsonl", "--json", "nowhere/out.json"], "nowhere/out.json cannot be written: nowhere is not a folder"),
        (["order.jsonl", "--json", "-", "--details", "-"], "only one output can be printed; expected a FILE for the others"),
        (
            ["order.jsonl", "--details", "order.jsonl"],
            "order.jsonl is read, and would be written over; expected another file",
        ),
        ([], "Missing argument 'FILE...'"),
    ],
)
def test_what_cannot_be_meant(
    word_model: LoadedModel, blimp: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["pairs", str(word_model.path), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"lstmlm: {message}")


def test_equal_sentences_are_ties_however_float32_rounds(word_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two unknown words are one symbol; beside other sentences, in batches of other sizes, rounding differs."""

    def rounded(*arguments: Any) -> Scores:
        scores = score_texts(*arguments)
        return replace(scores, nats_N=scores.nats_N + 1e-7 * np.arange(len(scores.nats_N)))

    monkeypatch.setattr(pairs, "score_texts", rounded)
    found = judge(word_model, [Pair("the quux sat", "the zyzzy sat"), Pair("the cat", "the mat")])
    assert [judgement.correct() == 0.5 for judgement in found] == [True, False]


def test_a_group_without_a_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("good\tbad\tcategory\na\tb\tx\nc\td\t\ne\tf\t \n")
    assert [pair.groups for pair in read_pairs(tmp_path / "pairs.tsv")] == [{"category": "x"}, {}, {}]
