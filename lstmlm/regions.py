"""Item tables: the surprisal of each region of sentences in several conditions, as reading experiments are analysed.

A table has a row for each region of an item in a condition (columns `item`, `condition`, `region`, `text`), or a row for
each item in a condition, with its regions in columns of their own (`item`, `condition`; every other column is a region, and
none is called `region` or `text`). The sentence is its regions, in the table's order, with spaces between them; an empty
region is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lstmlm.corpus.records import read_records
from lstmlm.errors import DataError
from lstmlm.surprisal import Model, Progress, surprisals_of


@dataclass(frozen=True, slots=True)
class Item:
    """A sentence: an item in one of its conditions."""

    item: str
    condition: str
    regions: tuple[tuple[str, str], ...]
    """Names and texts, in their order."""

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.regions)


@dataclass(frozen=True, slots=True)
class RegionSurprisal:
    """A region, and -ln p of its words given all of the sentence before each."""

    item: str
    condition: str
    region: str
    nats: float
    """Over its words; what stands between words counts to them as `surprisal.surprisals` says."""
    words: int
    tokens: int
    unknown: int
    """Words that are unknown to the model, or hold what is."""
    text: str

    @property
    def bits(self) -> float:
        """The same in bits."""
        return self.nats / math.log(2)


def read_items(path: Path) -> list[Item]:
    """The items of a table, in the order in which they begin.

    Raises:
        UsageError: no such file.
        DataError: a row is malformed, a region stands twice, or an item in a condition has no text.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for record in read_records(path):
        regions = found.setdefault((record.label("item"), record.label("condition")), {})
        others = record.fields.keys() - {"item", "condition"}
        if {"region", "text"} <= others:
            rows = {record.label("region"): record.fields["text"]}
        elif "region" in others or ("text" in others and len(others) > 1):
            missing = "text" if "region" in others else "region"
            raise DataError(
                f"{record.where} has no {missing}, as a table with a row for each region; it has {', '.join(record.fields)}"
            )
        else:
            rows = {name: text for name, text in record.fields.items() if name in others}
        for name, text in rows.items():
            if name in regions:
                raise DataError(f"{record.where}: region {name} of this item and condition stands in the table before")
            if not isinstance(text, str | None):
                raise DataError(f"{record.where}: region {name} is {text!r}; expected some text")
            regions[name] = " ".join((text or "").split())
    items = [
        Item(item, condition, tuple((name, text) for name, text in regions.items() if text))
        for (item, condition), regions in found.items()
    ]
    for item in items:
        if not item.regions:
            raise DataError(f"{path}: item {item.item} in condition {item.condition} has no region with a text")
    return items


def region_surprisals(
    model: Model, items: Sequence[Item], *, boundary: str = "leading", progress: Progress | None = None
) -> Iterator[RegionSurprisal]:
    """Surprisal of each region of each item, every sentence a text of its own; `boundary` as in `surprisal.surprisals`.

    Raises:
        UsageError: no such `boundary`.
        DivergedError: a token has no finite probability.
    """
    texts = [item.text for item in items]
    for item, words in zip(items, surprisals_of(model, texts, "word", boundary=boundary, progress=progress), strict=True):
        left = list(words)
        end = 0
        for name, text in item.regions:
            end += len(text) + 1
            count = sum(word.end < end for word in left)
            inside, left = left[:count], left[count:]
            yield RegionSurprisal(
                item.item,
                item.condition,
                name,
                nats=math.fsum(word.nats for word in inside),
                words=len(inside),
                tokens=sum(word.tokens for word in inside),
                unknown=sum(word.unknown for word in inside),
                text=text,
            )


def region_means(rows: Sequence[RegionSurprisal]) -> list[dict[str, Any]]:
    """Mean bits, and their standard deviation over items, of each region in each condition, in the order of the table."""
    order: list[str] = []
    for _, item in groupby(rows, lambda row: (row.item, row.condition)):
        place = 0
        for row in item:
            if row.region not in order:  # one that was left out so far, between two that were not
                order.insert(place, row.region)
            place = order.index(row.region) + 1
    found: dict[tuple[str, str], list[RegionSurprisal]] = {}
    for row in sorted(rows, key=lambda row: order.index(row.region)):
        found.setdefault((row.region, row.condition), []).append(row)
    return [
        {
            "condition": condition,
            "region": region,
            "items": len(group),
            "bits": fmean(row.bits for row in group),
            "sd": stdev(row.bits for row in group) if len(group) > 1 else None,
            "unknown": sum(row.unknown for row in group),
        }
        for (region, condition), group in found.items()
    ]
