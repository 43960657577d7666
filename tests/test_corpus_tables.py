"""Tables and hub data sets: rows are documents, and only a hub source may open the network."""

from __future__ import annotations

import csv
import gc
import gzip
import json
import logging
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import building
import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstmlm.config import CorpusConfig
from lstmlm.corpus import Piece, open_corpus, open_texts, survey
from lstmlm.errors import DataError, StorageError, UsageError

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"n": 1, "text": "first row"},
    {"n": 2, "text": 'a "second", with\nlines\u2028and é😀'},
    {"n": 3, "text": "NA"},
    {"n": 4, "text": "007"},
]


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to reach the network; it fails."""
    attempts: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        attempts.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


@pytest.fixture(autouse=True)
def _files_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """`datasets` does not close a CSV file whose reader is given up half-way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        if "csv" in request.node.name:
            gc.collect()


def jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def parquet(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


class SaysTo(logging.Handler):
    """Keeps what a library logs."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {".jsonl": jsonl, ".csv": as_csv, ".parquet": parquet}
EACH_FORMAT = pytest.mark.parametrize("suffix", WRITERS)


def table(folder: Path, suffix: str, rows: Rows) -> Path:
    return WRITERS[suffix](folder / f"table{suffix}", rows)


def documents(path: Path, text_field: str = "text") -> list[str]:
    pieces = open_texts([path], CorpusConfig(text_field=text_field), None).pieces("test")
    return [text_of_document(piece) for piece in pieces]


def text_of_document(piece: Piece) -> str:
    assert piece.ends_document
    return piece.text


@EACH_FORMAT
def test_every_row_is_a_document_and_nothing_asks_the_network(tmp_path: Path, suffix: str, connections: list[Any]) -> None:
    assert documents(table(tmp_path, suffix, ROWS)) == [row["text"] for row in ROWS]
    assert connections == []


@EACH_FORMAT
def test_rows_without_a_text_are_passed_over(tmp_path: Path, suffix: str) -> None:
    rows: Rows = [{"n": 1, "text": None}, {"n": 2, "text": "some"}, {"n": 3, "text": ""}, {"n": 4, "text": None}]
    assert documents(table(tmp_path, suffix, rows)) == ["some"]


@EACH_FORMAT
def test_the_text_field_can_be_chosen(tmp_path: Path, suffix: str) -> None:
    path = table(tmp_path, suffix, [{"text": "no", "body": "yes\r\nyes"}, {"text": "no", "body": "\ufeffagain"}])
    assert documents(path, "body") == ["yes\nyes", "again"]


@EACH_FORMAT
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, suffix: str) -> None:
    path = table(tmp_path, suffix, ROWS)
    with pytest.raises(UsageError, match=r"'body'.*n, text") as caught:
        documents(path, "body")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_column_that_is_not_text_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=r"row 1: column 'n' holds a int"):
        documents(table(tmp_path, suffix, ROWS), "n")


def test_every_field_of_a_csv_file_is_text(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("text\n007\n1.50\nnull\nNone\nabc\n")
    assert documents(tmp_path / "numbers.csv") == ["007", "1.50", "null", "None", "abc"]


@EACH_FORMAT
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "not-utf8"])
def test_a_damaged_table_is_one_short_message(
    tmp_path: Path, suffix: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(logging.getLogger("datasets"), "handlers", [SaysTo(said)])
    path = table(tmp_path, suffix, [{"a": 'quoted "text"', "text": "words, and words " * 9}] * 9)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: -len('words "')],
            "noise": b"{[\x00\x01\x02\n" * 99,
            "not-utf8": whole[:40] + b"\xff\xfe" + whole[40:],
        }[damage]
    )
    with pytest.raises((DataError, UsageError)) as caught:
        documents(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 2
    assert "StopIteration" not in message
    assert said == []


def test_a_jsonl_row_that_is_no_text_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "one"}\n{"text": 2}\n')
    with pytest.raises(DataError, match="row 2"):
        documents(tmp_path / "t.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_tables_may_be_compressed_and_named_in_capitals(tmp_path: Path, suffix: str) -> None:
    data = table(tmp_path, suffix, ROWS).read_bytes()
    (tmp_path / f"T{suffix}.gz").write_bytes(gzip.compress(data))
    (tmp_path / f"T{suffix.upper()}").write_bytes(data)
    expected = [row["text"] for row in ROWS]
    assert documents(tmp_path / f"T{suffix}.gz") == expected
    assert documents(tmp_path / f"T{suffix.upper()}") == expected


def test_characters_with_a_meaning_in_patterns_may_stand_in_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "a [b] *?" / ".hidden"
    folder.mkdir(parents=True)
    assert documents(jsonl(folder / "t{1}.jsonl", ROWS)) == [row["text"] for row in ROWS]


def test_a_table_is_split_by_rows(tmp_path: Path) -> None:
    rows = [{"text": f"row number {number}"} for number in range(100)]
    corpus = open_corpus([jsonl(tmp_path / "t.jsonl", rows)])
    parts = {split: [piece.text for piece in corpus.pieces(split)] for split in corpus.splits}
    assert {split: len(part) for split, part in parts.items()} == {"train": 90, "valid": 5, "test": 5}
    assert sorted(text for part in parts.values() for text in part) == sorted(row["text"] for row in rows)
    assert survey(corpus.pieces("valid")).documents == 5


@EACH_FORMAT
def test_tables_in_a_folder_may_be_its_splits(tmp_path: Path, suffix: str) -> None:
    for name in ("train", "valid", "test"):
        WRITERS[suffix](tmp_path / f"{name}{suffix}", [{"text": f"{name} text"}])
    corpus = open_corpus([tmp_path])
    assert [piece.text for split in corpus.splits for piece in corpus.pieces(split)] == [
        "train text",
        "valid text",
        "test text",
    ]


# --- hub -------------------------------------------------------------------------------------------------------------


def unreachable(*_: Any, **__: Any) -> NoReturn:
    raise ConnectionError("could not reach the hub\nsecond line")


def test_a_hub_source_without_network_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "get_dataset_split_names", unreachable)
    with pytest.raises(StorageError, match="hf:owner/name: could not reach the hub; is the name right") as caught:
        open_corpus(["hf:owner/name"])
    assert caught.value.exit_code == 5


def test_a_network_lost_while_reading_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        unreachable()

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    pieces = open_corpus(["hf:owner/name"]).pieces("train")
    assert next(pieces).text == "one"
    with pytest.raises(StorageError, match="cannot read hf:owner/name: could not reach the hub"):
        next(pieces)


def test_a_hub_source_is_streamed_split_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(name: str, config: str | None, *, split: str, streaming: bool) -> Rows:
        asked.append((name, config, split, streaming))
        return [{"text": f"{split} one"}, {"text": f"{split} two"}]

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "validation", "test", "extra"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    corpus = open_corpus(["hf:owner/name:small"])
    assert asked == []
    assert corpus.splits == ("train", "valid", "test")
    assert [piece.text for piece in corpus.pieces("valid")] == ["validation one", "validation two"]
    assert asked == [("owner/name", "small", "validation", True)]


def test_a_hub_source_without_training_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["everything"])
    with pytest.raises(UsageError, match=r"no split named train.*everything"):
        open_corpus(["hf:owner/name"])


@pytest.mark.parametrize("name", ["hf:name", "hf:a/b/c", "hf:/b", "hf:a/", "hf:"])
def test_the_name_of_a_hub_source(name: str, connections: list[Any]) -> None:
    with pytest.raises(UsageError, match="OWNER/NAME"):
        open_corpus([name])
    assert connections == []


def test_no_other_source_asks_the_network(tmp_path: Path, connections: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setattr(datasets, "get_dataset_split_names", unreachable)
    (tmp_path / "text.txt").write_text(building.text())
    for source in (tmp_path, tmp_path / "text.txt", "everyday"):
        assert survey(open_corpus([source]).pieces("train")).words > 0
    with pytest.raises(UsageError):
        open_corpus(["owner/name"])
    assert connections == []
