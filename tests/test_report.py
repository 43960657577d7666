"""A report by hand, with every part and hostile text, as each rendering shows it."""

from __future__ import annotations

import copy
import io
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from lstmlm.report.formatting import figure, one_line
from lstmlm.report.markdown import markdown
from lstmlm.report.sections import Table, sections
from lstmlm.report.terminal import Fitted, evaluation_report

GOLDEN = Path(__file__).parent / "golden"
RESULT: dict[str, Any] = json.loads((GOLDEN / "report.json").read_text(encoding="utf-8"))
HEADLINE = ("87.69", "81.00", "83.04", "87.65", "1.2391", "84.23 to 91.22", "77.91 to 84.16", "1.2264 to 1.2519")
COLOURS = re.compile(r"\x1b\[[\d;]*m")


def drawn(result: dict[str, Any], full: bool = True, width: int = 80, coloured: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=coloured, color_system="standard" if coloured else None).print(
        evaluation_report(result, full)
    )
    return file.getvalue()


def tables(result: dict[str, Any]) -> list[Table]:
    return [table for section in sections(result) for table in section.tables]


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def inline(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from token.children or []


def said(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens)


# -- What stands in it ----------------------------------------------------------------------------------------------------


def test_the_order_of_the_sections() -> None:
    assert [section.title for section in sections(RESULT)] == [
        "Perplexity",
        "Warnings",
        "Self-checks",
        "Comparison",
        "Seeds",
        "Training",
        "By frequency in training",
        "By class of token",
        "By position in the document",
        "By document",
        "Most surprising tokens",
        "Next token",
        "Under a keyboard",
        "Classification",
        "Calibration",
        "Samples",
        "Surprisal in context",
        "Provenance",
        "To cite",
    ]


def test_every_section_says_how_to_read_it_and_every_table_is_whole() -> None:
    assert all(section.text for section in sections(RESULT))
    for table in tables(RESULT):
        assert {len(row) for row in table.rows} == {len(table.columns)} == {len(table.align)}
        assert all(any(column) for column in zip(*table.rows, strict=True))
        assert all(character.isprintable() for row in table.rows for cell in row for character in cell)


def test_every_perplexity_of_the_headline_follows_from_what_stands_beside_it() -> None:
    table = sections(RESULT)[0].tables[0]
    for _, value, _, made in table.rows:
        total, count = (float(part.replace(",", "")) for part in re.findall(r"[\d,.]+", made))
        expected = math.exp(total / count) if made.startswith("exp") else total / count
        assert expected == pytest.approx(float(value), abs=0.006)


@given(st.floats(0.01, 30), st.integers(1, 100_000))
@settings(deadline=None)
def test_a_perplexity_is_made_of_the_nats_beside_it(each: float, count: int) -> None:
    total = each * count
    result = {"nll_nats": total, "perplexity": {"word": math.exp(total / count)}, "text": {"words": count, "bytes": count}}
    word, byte = sections(result | {"bits_per_byte": total / math.log(2) / count})[0].tables[0].rows
    parts = [[float(part.replace(",", "")) for part in re.findall(r"[\d,.]+", row[-1])] for row in (word, byte)]
    assert figure(math.exp(parts[0][0] / parts[0][1])) == word[1]
    assert figure(parts[1][0] / parts[1][1], 4) == byte[1]


@pytest.mark.parametrize("width", [80, 120])
def test_every_number_of_the_headline_is_in_every_rendering(width: int) -> None:
    for rendered in (drawn(RESULT, False, width), drawn(RESULT, True, width), markdown(RESULT)):
        assert [number for number in HEADLINE if number not in rendered] == []


@pytest.mark.parametrize("missing", ["confidence95", "oov", "baselines", "breakdowns", "classification", "seeds", "checks"])
def test_a_part_that_is_null_is_left_out(missing: str) -> None:
    without = {name: value for name, value in RESULT.items() if name != missing}
    assert markdown(RESULT | {missing: None}) == markdown(without) != markdown(RESULT)


def test_a_report_without_anything_has_no_sections() -> None:
    assert sections({}) == []
    assert markdown({}) == "# Evaluation\n"
    assert drawn({}).strip() == drawn({}, full=False).strip() == ""


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all that may be missing or null."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(value, dict):
            yield (*path, key)
        yield from paths(inner, (*path, key))


PATHS = list(paths(RESULT))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(PATHS), st.booleans()), max_size=40))
def test_whatever_is_missing_or_null_is_left_out(changes: list[tuple[tuple[Any, ...], bool]]) -> None:
    result = copy.deepcopy(RESULT)
    for path, null in changes:
        owner = result
        for key in path[:-1]:
            owner = owner.get(key) if isinstance(owner, dict) else owner[key]  # type: ignore[assignment]
            if owner is None:
                break
        else:
            if null:
                owner[path[-1]] = None
            else:
                owner.pop(path[-1], None)
    for rendered in (markdown(result), drawn(result), drawn(result, full=False)):
        assert not re.search(r"\b(None|nan|null)\b", rendered)


@pytest.mark.parametrize("null", [False, True])
def test_every_single_key_may_be_missing_or_null(null: bool) -> None:
    for path in PATHS:
        result = copy.deepcopy(RESULT)
        owner: Any = result
        for key in path[:-1]:
            owner = owner[key]
        owner[path[-1]] = None
        if not null:
            del owner[path[-1]]
        assert "None" not in str([(s.text, s.note, [table.rows for table in s.tables]) for s in sections(result)])


def test_sums_of_a_row_give_the_perplexity_beside_them() -> None:
    """Of all rows but those that would need more digits than a table bears."""
    rows = [{"name": f"{count}", "tokens": count, "nll_nats": count * 4.7123456} for count in (7, 60, 12_345, 190_312)]
    for row in rows:
        row["perplexity"] = math.exp(4.7123456)  # type: ignore[assignment]
    result = {"nll_nats": 1e6, "tokens": 202_724, "breakdowns": {"class": rows}}
    (found,) = [section for section in sections(result) if section.title == "By class of token"]
    for _, perplexity, count, spent, _ in found.tables[0].rows:
        numbers = [float(cell.replace(",", "")) for cell in (spent, count, perplexity)]
        assert math.exp(numbers[0] / numbers[1]) == pytest.approx(numbers[2], abs=0.01)


def test_the_change_is_that_against_the_model_itself() -> None:
    (comparison,) = [section for section in sections(RESULT) if section.title == "Comparison"]
    changes = {row[0]: row[-1] for row in comparison.tables[0].rows}
    assert list(changes) == ["uniform", "unigram", "5-gram", "this model", "cache", "cache+dynamic+ngram"]
    assert changes["this model"] == ""
    assert changes["cache"] == f"{66.30999 / 81.0009 - 1:+.1%}" == "-18.1%"
    assert changes["uniform"] == "+40,983%"


def test_the_text_and_the_protocol_are_named() -> None:
    def said(**changes: Any) -> str:
        protocol = {"mode": "stream"} | changes.pop("protocol", {})
        return sections({"bits_per_byte": 1.0, "text": {"paths": ["a", "b"]} | changes, "protocol": protocol})[0].note

    way = "every token a target exactly once, from a zero state, the state carried through each file"
    assert said() == f"a, b: {way}; float32, the full vocabulary."
    assert said(split=None, protocol={"precision": "fp32"}) == said()
    assert said(split="valid").startswith(f"the valid split of a, b: {way};")
    assert said(protocol={"precision": "fp64"}) == f"a, b: {way}; float64, the full vocabulary."
    assert said(protocol={"documents": "file"}) == f"a, b: {way}; a document is a file; float32, the full vocabulary."
    assert "documents end at blank lines" in said(protocol={"documents": "blank-line"})


@pytest.mark.parametrize(("mode", "is_so"), [("stream", True), ("document", True), ("line", False)])
def test_text_before_a_token_is_worth_something_only_where_the_state_is_kept(mode: str, is_so: bool) -> None:
    result = RESULT | {"protocol": {"mode": mode}}
    (position,) = [section for section in sections(result) if section.title == "By position in the document"]
    assert ("is what the text before a token is worth" in position.text) == is_so


def test_a_row_keeps_the_one_that_it_stands_under() -> None:
    def rows(**changes: Any) -> list[tuple[str, ...]]:
        (found,) = tables({"keyboard": RESULT["keyboard"] | changes})
        labels = [row[0] for row in found.rows]
        return found.rows[labels.index("keystrokes saved") + 1 :]

    ghost, latency = copy.deepcopy(RESULT["keyboard"]["ghost"]), RESULT["keyboard"]["latency_ms"]
    right, typing, _, times = rows()
    assert right == ("ghost right", "-", "never above 30%, at 2,314 places")
    assert (typing[0], times[0]) == ("  while typing", "ms per list, median")
    swapped = {"next": latency["typing"], "typing": latency["next"]}
    assert rows(latency_ms=swapped)[3:] == [("ms per list, median", "-", ""), ("  while typing", *times[1:])]
    assert rows(latency_ms=None) == rows()[:3]
    ghost["next"]["coverage"] = None
    assert rows(ghost=ghost)[:2] == [("ghost right", "-", ""), typing]


def test_the_losses_of_a_sampled_softmax_are_said_to_be_no_surprisals() -> None:
    for sampled in (True, False):
        (training,) = [s for s in sections({"training": RESULT["training"] | {"sampled": sampled}}) if s.title == "Training"]
        assert ("sampled softmax" in training.text) == sampled


def test_what_every_text_would_give_has_no_interval() -> None:
    other = copy.deepcopy(RESULT)
    other["baselines"]["uniform"]["confidence95"] = [33_277.9999999, 33_278.0000001]
    other["baselines"]["unigram"]["confidence95"] = [888.5, 940.42]
    (comparison,) = [section for section in sections(other) if section.title == "Comparison"]
    shown = {row[0]: row[comparison.tables[0].columns.index("95% interval")] for row in comparison.tables[0].rows}
    assert (shown["uniform"], shown["unigram"]) == ("", "888.50 to 940.42")


def test_n_grams_stand_in_one_row_unless_there_are_several() -> None:
    other = copy.deepcopy(RESULT)
    other["rows"]["ngram"]["nll_nats"] += 1.0
    (comparison,) = [section for section in sections(other) if section.title == "Comparison"]
    assert [row[0] for row in comparison.tables[0].rows][2:6] == ["5-gram", "this model", "cache", "ngram"]


def test_a_long_curve_is_thinned_to_its_ends_and_some_between() -> None:
    curve = [{"seconds": 10.0 * n, "step": n, "tokens": 100 * n, "loss": 5 - n / 100} for n in range(1, 101)]
    (training,) = [s for s in sections({"training": {"curve": curve, "options": None}}) if s.title == "Training"]
    steps = [int(row[1]) for row in training.tables[0].rows]
    assert (steps[0], steps[-1], len(steps)) == (1, 100, 12)
    assert "12 of 100 validations" in training.text


def test_no_one_number_where_tokens_are_unknown() -> None:
    labels = [row[0].strip() for row in sections(RESULT)[0].tables[0].rows]
    assert {"without unknown", "unknown adjusted"} <= set(labels)
    labels = [row[0].strip() for row in sections(RESULT | {"tokens_unknown": 0})[0].tables[0].rows]
    assert "without unknown" not in labels


# -- On a terminal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [44, 60, 80, 120])
@pytest.mark.parametrize("full", [False, True], ids=["short", "full"])
def test_no_line_is_too_wide_and_no_number_is_cut(width: int, full: bool) -> None:
    rendered = drawn(RESULT, full, width)
    assert max(map(len, rendered.splitlines())) <= width
    assert "…" not in rendered
    shown = ("Perplexity", "Comparison", "Under a keyboard")
    for section in sections(RESULT):
        if full or section.title in shown:
            cells = [row[n] for t in section.tables for row in t.rows for n in range(len(row)) if t.align[n] == "r"]
            whole = r"(?<![\d.,]){}(?![\d.,]*\d)"
            assert [cell for cell in cells if not re.search(whole.format(re.escape(cell)), rendered)] == []


@pytest.mark.parametrize("full", [False, True], ids=["short", "full"])
@pytest.mark.parametrize("coloured", [False, True])
def test_no_text_acts_on_a_terminal(full: bool, coloured: bool) -> None:
    rendered = drawn(RESULT, full, coloured=coloured)
    assert ("\x1b" in rendered) == coloured
    plain = COLOURS.sub("", rendered)
    assert [character for character in plain if not character.isprintable() and character != "\n"] == []
    assert "more\\x1b[31m.txt" in plain


def test_a_table_too_wide_for_the_terminal_is_a_list() -> None:
    assert "\nunigram  " in drawn(RESULT, width=80)
    listed = "unigram\n    per word 1,244.48\n    per token 1,096.63\n    bits/byte 1.9738\n    change +1,254%\n"
    assert listed in re.sub(" +\n", "\n", drawn(RESULT, width=60))


def test_a_list_has_an_item_for_each_row() -> None:
    table = Table(("after", "token", "bits"), [("the", "cat", "12.5"), ("", "dog", "3.5"), ("", "", "1.5")], "ttr")
    listed = io.StringIO()
    Console(file=listed, width=12).print(Fitted(table))
    items = [line.rstrip() for line in listed.getvalue().splitlines()]
    assert items == ["the", "    token", "cat", "    bits", "12.5", "token dog", "    bits 3.5", "bits 1.5"]


def test_the_short_report_has_several_seeds_and_says_which_run_is_the_headline() -> None:
    rendered = drawn(RESULT, full=False)
    for said in ("20261128 ", "standard deviation", "0.0010", "those of the first run"):
        assert said in rendered
    assert "first run" not in drawn(RESULT | {"seeds": None}, full=False)


def test_the_short_report_says_which_checks_failed_in_red() -> None:
    screen = pyte.Screen(100, 80)
    stream = pyte.Stream(screen)
    stream.feed(drawn(RESULT, full=False, width=100, coloured=True).replace("\n", "\r\n"))
    row = next(n for n, line in enumerate(screen.display) if line.startswith("failed: every token once: 245,568 of"))
    assert screen.buffer[row][0].fg == "red"
    assert screen.display[row - 1].startswith("2 of 3 self-checks passed")
    passed = RESULT | {"checks": RESULT["checks"][:2]}
    assert "2 of 2 self-checks passed" in drawn(passed, full=False)
    assert "failed" not in drawn(passed, full=False)


def test_a_passage_is_coloured_or_has_its_bits() -> None:
    passage = {"coloured": RESULT["coloured"]}
    assert "the[2] cat[10] sat[4] |[17] on[1] <b>\\x1b[1m the\nmat\n" in drawn(passage)
    screen = pyte.Screen(80, 10)
    pyte.Stream(screen).feed(drawn(passage, coloured=True).replace("\n", "\r\n"))
    row = next(n for n, line in enumerate(screen.display) if line.startswith("the cat sat | on"))
    cells = screen.buffer[row]
    assert (cells[4].underscore, cells[12].underscore) == (False, True)
    assert len({cells[place].fg for place in (4, 12)} - {"default"}) == 2


# -- In Markdown ----------------------------------------------------------------------------------------------------------


def test_markdown_is_the_recorded_one() -> None:
    """To record it again: `lstmlm.report.markdown.markdown` of report.json, into report.md; then read what has changed."""
    assert markdown(RESULT) == (GOLDEN / "report.md").read_text(encoding="utf-8")
    assert markdown(copy.deepcopy(RESULT)) == markdown(RESULT)


def test_markdown_reads_back_as_the_sections() -> None:
    tokens = parsed(markdown(RESULT))
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
    assert kinds == {"heading", "paragraph", "inline", "table", "thead", "tbody", "tr", "th", "td"}
    assert {token.type for token in inline(tokens)} <= {"text", "text_special", "code_inline", "strong_open", "strong_close"}
    cells = [said(after.children or []) for token, after in itertools.pairwise(tokens) if token.type == "td_open"]
    expected = [(cell, letter) for t in tables(RESULT) for row in t.rows for cell, letter in zip(row, t.align, strict=True)]
    for found, (cell, letter) in zip(cells, expected, strict=True):
        if letter != "t":
            assert found == cell.strip()
        else:
            assert found.replace("\\", "") == cell.replace("\\", "")


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
@settings(deadline=None)
def test_no_text_acts_in_markdown(text: str) -> None:
    result = {
        "warnings": [text],
        "samples": [{"prompt": text, "text": "x"}],
        "provenance": {"command": text, "date": "2026-11-24"},
        "model": {"path": text},
    }
    tokens = parsed(markdown(result))
    assert {token.type for token in inline(tokens)} <= {"text", "text_special", "code_inline"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2", "h2", "h2"][
        : 1 + len(sections(result))
    ]
    shape = [token.type for token in tokens if token.type in ("tr_open", "td_open", "paragraph_open", "table_open")]
    assert shape.count("td_open") == sum(len(row) for table in tables(result) for row in table.rows)
    assert shape.count("table_open") == len(tables(result))
    sample = next(token.content for token in inline(tokens) if token.type == "code_inline")
    assert sample == one_line(text) or "\\|" in text
