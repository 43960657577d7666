"""Tables of a few named columns -> records, as experiments have them: TSV or CSV with a header, or JSON lines.

Which of the three a file is, its first line tells. Quotes in TSV and CSV are those of spreadsheets, R and pandas.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lstmlm.corpus.reading import read_text, split_lines
from lstmlm.errors import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """A row: what its columns hold."""

    where: str
    """File and line, for messages."""
    fields: Mapping[str, Any]

    def text(self, *names: str) -> str:
        """The text in the first of these columns that there is, without white space around it.

        Raises:
            DataError: there is none, or it holds something else than text.
        """
        name = next((name for name in names if name in self.fields), None)
        if name is None:
            raise DataError(f"{self.where} has no {' or '.join(names)}; it has {', '.join(self.fields) or 'nothing'}")
        if not isinstance(self.fields[name], str) or not self.fields[name].strip():
            raise DataError(f"{self.where}: {name} is {json.dumps(self.fields[name])}; expected some text")
        return str(self.fields[name]).strip()

    def label(self, name: str) -> str:
        """What names a group of rows: text, or a number.

        Raises:
            DataError: as for `text`.
        """
        value = self.fields.get(name)
        return str(value) if isinstance(value, int | float) else self.text(name)


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a table, plain or compressed, as they are read; blank lines are passed over.

    Raises:
        UsageError: no such file.
        DataError: it is empty, or a row is malformed; names the line.
    """
    lines = (line for block in read_text(path) for line in split_lines(block))
    head: list[str] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    else:
        raise DataError(f"{path} is empty; expected a table: TSV or CSV with a header, or JSON lines")
    first = head[-1].lstrip()
    if first.startswith("["):
        raise DataError(f"{path} begins as a JSON array; expected an object in each line, or TSV or CSV with a header")
    if first.startswith("{"):
        yield from _json_lines(path, chain(head, lines))
    else:
        yield from _separated(path, chain(head, lines), "\t" if "\t" in first else ",")


def _json_lines(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number:,}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DataError(f"{where} holds a JSON {type(fields).__name__}; expected an object")
        yield Record(where, fields)


def _separated(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] = []
    rows = before = 0
    try:
        for row in reader:
            where, before = f"{path}, line {before + 1:,}", reader.line_num
            if not any(map(str.strip, row)):
                continue
            if not names:
                names = [name.strip() for name in row]
                if len(set(names)) < len(names) or "" in names:
                    raise DataError(f"{where}: the header is {', '.join(names)}; expected a different name for each column")
            elif len(row) != len(names):
                raise DataError(f"{where} does not have the header's {len(names)} columns, but {len(row)}")
            else:
                rows += 1
                yield Record(where, dict(zip(names, row, strict=True)))
    except csv.Error as error:
        what = "expected a quote at the end of a cell that begins with one, and each quote inside it twice"
        raise DataError(f"{path}, line {before + 1:,}: {error}; {what}") from error
    if not rows:
        raise DataError(f"{path} has no rows below its header")
