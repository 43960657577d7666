"""A comparison by hand, as it is drawn."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from reports import HOSTILE, full_comparison

from lstmlm.report.comparison import comparison_sections
from lstmlm.report.html import comparison_page
from lstmlm.report.layout import Section, Table

SAME = [10.0, 20.0, 30.0]


def parts(comparison: dict[str, Any]) -> dict[str, Section]:
    return {section.title: section for section in comparison_sections(comparison)}


def models(comparison: dict[str, Any]) -> Table:
    return parts(comparison)["Comparison"].tables[0]


def test_the_text_is_named_with_its_split() -> None:
    comparison = full_comparison((SAME, SAME))
    said = parts(comparison)["Comparison"].text
    assert said.startswith(f"the valid split of wikitext-2, {HOSTILE[0]}: 1 document, 100 lines, 60 words, 360 bytes;")
    assert said.endswith("; mode stream; a document is a file.")
    assert "<h1>Models compared on the valid split of wikitext-2, &lt;" in comparison_page(comparison)
    comparison["text"]["split"] = None
    assert "<h1>Models compared on wikitext-2, &lt;" in comparison_page(comparison)


def test_keys_that_older_comparisons_lack_may_be_missing() -> None:
    comparison = full_comparison((SAME, SAME))
    del comparison["text"]["split"], comparison["protocol"]["documents"], comparison["provenance"]
    assert parts(comparison)["Comparison"].text.endswith("; mode stream.")
    assert [row[0] for row in parts(comparison)["Provenance"].tables[0].rows] == ["text sha256", "A sha256", "B sha256"]


def test_all_files_can_be_found_again() -> None:
    comparison = full_comparison((SAME, SAME))
    runs = comparison["models"][1]["runs"]
    runs.append(runs[0] | {"path": "checkpoints/more", "sha256": "aa" * 32})
    assert parts(comparison)["Provenance"].tables[0].rows == [
        ("command", f"lstmlm compare a b {HOSTILE[0]}"),
        ("date", "2026-11-28"),
        ("versions", "lstmlm 0.6, torch 2.13.0"),
        ("machine", "system Linux, cores 2"),
        ("text sha256", "cd" * 32),
        ("A sha256", "0e" * 32),
        ("B sha256", f"{'1e' * 32}, checkpoints/1"),
        ("B sha256", f"{'aa' * 32}, checkpoints/more"),
    ]


def test_no_interval_is_spoken_of_where_there_is_none() -> None:
    several = parts(full_comparison((SAME, SAME)))["Comparison"].note
    assert "of 3 documents. The interval is by a paired bootstrap over them, p by all flips" in several
    alone = parts(full_comparison(([10.0], [11.0]), "blocks of lines"))["Comparison"].note
    assert "of 1 block of lines. p is by all flips of their signs (2)" in alone
    assert not re.search("interval|bootstrap|them", alone)


@pytest.mark.parametrize("unknown", [0, 1234])
def test_unknown_tokens_are_counted_where_there_are_some(unknown: int) -> None:
    comparison = full_comparison((SAME, SAME))
    comparison["models"][1]["tokens_unknown"] = unknown
    table = models(comparison)
    assert ("unknown" in table.columns) == bool(unknown)
    if unknown:
        assert [row[table.columns.index("unknown")] for row in table.rows] == ["0", "1,234"]


@pytest.mark.parametrize(
    ("change", "shown"), [(0.0123, "+1.23% per token"), (5.0, "+500% per token"), (2e8, "2e+08 times per token")]
)
def test_a_far_worse_model_is_so_many_times_as_bad(change: float, shown: str) -> None:
    comparison = full_comparison((SAME, SAME))
    comparison["comparisons"][0]["perplexity"] |= {"per": "token", "change": change}
    differences = parts(comparison)["Comparison"].tables[1]
    assert differences.rows[0][differences.columns.index("perplexity")] == shown


def test_clusters_of_the_largest_differences() -> None:
    bits = [0.0, 3.0, -1.0, 8.0, -2.0, 1.0, 7.0, 4.0, 1000.5, 6.0, 5.0]
    reference = [100.0] * len(bits)
    comparison = full_comparison((reference, [100.0 + more * math.log(2) for more in bits], reference))
    (table,) = parts(comparison)["Largest differences"].tables
    assert table.columns == ("", "number", "words", "bits")
    assert table.rows == [
        ("B - A", "5", "50", "-2.00"),
        ("B - A", "3", "30", "-1.00"),
        ("B - A", "11", "110", "+5.00"),
        ("B - A", "10", "100", "+6.00"),
        ("B - A", "7", "70", "+7.00"),
        ("B - A", "4", "40", "+8.00"),
        ("B - A", "9", "90", "+1,000.50"),
    ]
    comparison["clusters"]["words"] = [0] * len(bits)
    assert parts(comparison)["Largest differences"].tables[0].rows[0] == ("B - A", "5", "300", "-2.00")


def test_the_only_one_that_differs_is_listed_and_the_only_one_there_is_not() -> None:
    (table,) = parts(full_comparison((SAME, [10.0, 20.0, 31.0])))["Largest differences"].tables
    assert [row[:2] for row in table.rows] == [("B - A", "3")]
    assert "Largest differences" not in parts(full_comparison(([10.0], [11.0])))


def test_a_seed_of_0_is_shown() -> None:
    comparison = full_comparison((SAME, SAME))
    model = comparison["models"][0]
    model["sd"], model["runs"] = model["mean"], [*model["runs"], model["runs"][0] | {"seed": 20261128}]
    assert [row[1] for row in parts(comparison)["Seeds"].tables[0].rows[:2]] == ["0", "20261128"]
