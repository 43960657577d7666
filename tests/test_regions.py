"""Item tables: regions add up to sentences, and both shapes of a table say the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import building
import conversing
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.cli.main import run
from lstmlm.config import BOUNDARIES
from lstmlm.corpus.records import read_records
from lstmlm.regions import Item, RegionSurprisal, read_items, region_means, region_surprisals
from lstmlm.surprisal import surprisals

LONG = """\
item\tcondition\tregion\ttext\tlist
1\texpected\tsubject\tthe  cat\tA
1\texpected\tverb\tsat on\tA
1\texpected\tplace\tthe mat .\tA
1\todd\tsubject\tthe cat\tB
1\todd\tverb\t\tB
1\todd\tplace\tthe zebra .\tB
2\todd\tsubject\tthe dog\tB
2\todd\tverb\tsat\tB
"""
WIDE = """\
item,condition,subject,verb,place
1,expected,the cat,sat on,the mat .
1,odd,the cat,,the zebra .
2,odd,the dog,sat,
"""
LINES = "".join(
    json.dumps({"item": item, "condition": condition, "region": region, "text": text}) + "\n"
    for item, condition, region, text in (
        (1, "expected", "subject", "the cat"),
        (1, "odd", "subject", "the cat"),  # conditions side by side
        (1, "expected", "verb", "sat on"),
        (1, "expected", "place", "the mat ."),
        (1, "odd", "verb", ""),
        (1, "odd", "place", "the zebra ."),
        (2, "odd", "subject", "the dog"),
        (2, "odd", "verb", "sat"),
    )
)
ITEMS = [
    Item("1", "expected", (("subject", "the cat"), ("verb", "sat on"), ("place", "the mat ."))),
    Item("1", "odd", (("subject", "the cat"), ("place", "the zebra ."))),
    Item("2", "odd", (("subject", "the dog"), ("verb", "sat"))),
]


@pytest.mark.parametrize("text", [LONG, WIDE, LINES], ids=["long", "wide", "JSON"])
def test_every_shape_of_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "items").write_text(text)
    assert read_items(tmp_path / "items") == ITEMS
    assert ITEMS[1].text == "the cat the zebra ."


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", ["word", "bpe", "char", "byte"])
def test_regions_add_up_to_the_words_of_the_sentence(tmp_path: Path, kind: str, boundary: str) -> None:
    model = building.saved_model(tmp_path / "model", kind)
    rows = list(region_surprisals(model, ITEMS, boundary=boundary))
    assert [(row.item, row.condition, row.region, row.text) for row in rows] == [
        (item.item, item.condition, name, text) for item in ITEMS for name, text in item.regions
    ]
    for item in ITEMS:
        mine = [row for row in rows if (row.item, row.condition) == (item.item, item.condition)]
        words = surprisals(model, item.text, "word", boundary=boundary)
        assert math.fsum(row.nats for row in mine) == pytest.approx(math.fsum(word.nats for word in words), abs=1e-5)
        assert sum(row.tokens for row in mine) == sum(word.tokens for word in words)
        assert [row.words for row in mine] == [len(text.split()) for _, text in item.regions]
        first = math.fsum(word.nats for word in words[:2])
        assert mine[0].nats == pytest.approx(first, abs=1e-5)


def test_known_probabilities_give_known_regions(tmp_path: Path) -> None:
    model = conversing.bigram_model(tmp_path / "model")
    item = Item("1", "a", (("who", "the cat"), ("what", "sat"), ("where", "on zebra")))
    rows = list(region_surprisals(model, [item]))
    expected = [-math.log2(0.4 * 0.5), -math.log2(0.9), -math.log2(0.8 * 0.05)]
    assert [row.bits for row in rows] == pytest.approx(expected, abs=1e-4)
    assert [row.unknown for row in rows] == [0, 0, 1]


def test_means_are_over_items() -> None:
    bits = {"1": 1.0, "2": 3.0, "3": 8.0}
    rows = [RegionSurprisal(item, "a", "x", value * math.log(2), 1, 1, 0, "w") for item, value in bits.items()]
    rows.append(RegionSurprisal("1", "b", "x", math.log(2), 1, 2, 1, "w"))
    first, second = region_means(rows)
    assert (first["condition"], first["region"], first["items"], first["unknown"]) == ("a", "x", 3, 0)
    assert (first["bits"], first["sd"]) == pytest.approx((4.0, math.sqrt((9 + 1 + 16) / 2)))
    assert (second["items"], second["bits"], second["sd"], second["unknown"]) == (1, pytest.approx(1.0), None, 1)


def test_means_come_in_the_order_of_the_sentence(word_model: LoadedModel) -> None:
    """Whatever the first item leaves out."""
    items = [
        Item("1", "a", (("subject", "the cat"), ("verb", "sat"))),
        Item("2", "a", (("subject", "the dog"), ("adverb", "then"), ("verb", "sat"), ("place", "on the mat"))),
        Item("3", "a", (("adverb", "then"), ("place", "on the mat"))),
    ]
    means = region_means(list(region_surprisals(word_model, items)))
    assert [mean["region"] for mean in means] == ["subject", "adverb", "verb", "place"]


@pytest.mark.parametrize("text", ['"Go', '"', 'a "b" c', '""', "tab\\t"])
def test_what_is_printed_can_be_read_again(
    word_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Also by R and pandas, for which a quote at the beginning of a cell opens it."""
    (tmp_path / "items.jsonl").write_text(json.dumps({"item": 1, "condition": "a", "one": text, "two": "away"}) + "\n")
    assert run(["regions", str(word_model.path), str(tmp_path / "items.jsonl")]) == 0
    (tmp_path / "found.tsv").write_text(capsys.readouterr().out)
    rows = [record.fields for record in read_records(tmp_path / "found.tsv")]
    assert [(row["region"], row["text"].replace("\\\\", "\\")) for row in rows] == [("one", text), ("two", "away")]
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"good": text, "bad": "away"}) + "\n")
    (tmp_path / "line.txt").write_text(text)
    commands = {"good": ["pairs", "pairs.jsonl", "--details", "-"], "token": ["score", "line.txt", "--format", "psycholing"]}
    for column, (command, file, *options) in commands.items():
        assert run([command, str(word_model.path), str(tmp_path / file), *options]) == 0
        (tmp_path / "found.tsv").write_text(capsys.readouterr().out)
        read = [str(record.fields[column]).replace("\\\\", "\\") for record in read_records(tmp_path / "found.tsv")]
        assert " ".join(read) == text


def test_a_session(
    word_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.tsv").write_text(LONG)
    assert run(["regions", str(word_model.path), "items.tsv", "--json", "out.json"]) == 0
    captured = capsys.readouterr()
    rows = [row.split("\t") for row in captured.out.splitlines()]
    expected = list(region_surprisals(word_model, ITEMS))
    assert rows[0] == ["item", "condition", "region", "surprisal", "words", "tokens", "unknown", "text"]
    assert [row[:3] + row[-1:] for row in rows[1:]] == [[row.item, row.condition, row.region, row.text] for row in expected]
    assert [float(row[3]) for row in rows[1:]] == pytest.approx([row.bits for row in expected], abs=1e-5)
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["bits"] for row in found["rows"]] == [row.bits for row in expected]
    assert found["means"] == region_means(expected)
    mean = next(mean for mean in found["means"] if (mean["region"], mean["condition"]) == ("subject", "odd"))
    shown = next(line.split() for line in captured.err.splitlines() if line.startswith("subject"))
    assert shown[-1] == f"{mean['bits']:.2f}"
    assert "Means over 1 to 2 items. Words that the model does not know: 1." in captured.err
    assert run(["regions", str(word_model.path), "items.tsv", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == (found, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item\tregion\ttext\n1\ta\tb\n", "FILE, line 2 has no condition; it has item, region, text"),
        (
            "item\tcondition\tregion\tword\n1\ta\tb\tc\n",
            "FILE, line 2 has no text, as a table with a row for each region; it has",
        ),
        (
            "item,condition,name,text\n1,a,b,c\n",
            "FILE, line 2 has no region, as a table with a row for each region; it has",
        ),
        ("item,condition,a\n", "FILE has no rows below its header"),
        ("item,condition,a\n1,x,b\n2,x,\n", "FILE: item 2 in condition x has no region with a text"),
        ("item,condition\n1,x\n", "FILE: item 1 in condition x has no region with a text"),
        ("item,condition,a\n1,x,b\n1,x,c\n", "FILE, line 3: region a of this item and condition stands in the table before"),
        ('{"item": 1, "condition": "x", "a": 5}\n', "FILE, line 1: region a is 5; expected some text"),
    ],
)
def test_malformed_tables(
    word_model: LoadedModel, refused: Callable[[str, LoadedModel, str, str], None], text: str, message: str
) -> None:
    refused("regions", word_model, text, message)
