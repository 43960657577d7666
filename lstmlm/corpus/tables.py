"""Tables and hub data sets -> documents, one per row, streamed through Hugging Face `datasets`."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lstmlm.corpus.reading import COMPRESSED, Piece, normalized, read_text
from lstmlm.errors import DataError, StorageError, UsageError

TABLES = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
HUB_PREFIX = "hf:"
_HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def table_format(path: Path) -> str | None:
    """The kind of table that `path`, plain or compressed, is by its name; `None` for other files."""
    plain = Path(path.stem) if path.suffix.lower() in COMPRESSED else path
    return TABLES.get(plain.suffix.lower())


def read_table(path: Path, text_field: str, encoding_errors: str = "strict") -> Iterator[Piece]:
    """Yield the rows of a `.jsonl`, `.csv` or `.parquet` file as documents; rows without a text are passed over.

    Raises:
        UsageError: the table has no column `text_field`, or bytes that are not UTF-8 should be replaced in it.
        DataError: it cannot be parsed, or the column holds something else than text.
    """
    if encoding_errors != "strict":
        raise UsageError(f"{path} is a table: --encoding-errors {encoding_errors} is for text files; convert it first")
    import datasets

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # a local file is nobody's business
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)  # errors are said once, by us
    kind = table_format(path)
    # in a CSV file every field is text: not a number that has lost its zeros, nor nothing because it says "NA"
    as_text = {"converters": {text_field: str}, "na_filter": False} if kind == "csv" else {}
    try:
        if not path.stat().st_size:
            raise DataError(f"{path} is empty; expected rows with a column {text_field!r}")
        if kind != "parquet":
            for _ in read_text(path):  # says where the first byte stands that is not UTF-8
                pass
        rows = datasets.load_dataset(
            kind, data_files={"train": glob.escape(str(path))}, split="train", streaming=True, **as_text
        )
        yield from _documents(rows, text_field, str(path))
    except (DataError, UsageError):
        raise
    except Exception as error:  # pyarrow, pandas and json each raise kinds of their own for a damaged file
        raise DataError(f"{path} cannot be read as {path.suffix}: {_first_line(error)}") from error


def hub_splits(source: str) -> dict[str, str]:
    """The splits of a hub data set, from our names to the hub's. This is the only place that opens the network.

    Raises:
        StorageError: the hub cannot be reached, or does not have it.
    """
    import datasets

    name, config = _hub_name(source)
    try:
        found = datasets.get_dataset_split_names(name, config)
    except Exception as error:  # every layer below (requests, fsspec, the hub) has its own errors
        raise StorageError(
            f"cannot open {source}: {_first_line(error)}; is the name right and the network there?"
        ) from error
    splits = {ours: theirs for ours, theirs in _HUB_SPLITS.items() if theirs in found}
    if "train" not in splits:
        raise UsageError(f"{source} has no split named train; it has {', '.join(map(str, found)) or 'none'}")
    return splits


def read_hub(source: str, split: str, text_field: str) -> Iterator[Piece]:
    """Yield the rows of one split of `hf:OWNER/NAME[:CONFIG]` as documents, as they arrive."""
    import datasets

    name, config = _hub_name(source)
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        yield from _documents(rows, text_field, source)
    except (DataError, UsageError):
        raise
    except Exception as error:
        raise StorageError(f"cannot read {source}: {_first_line(error)}") from error


def _hub_name(source: str) -> tuple[str, str | None]:
    name, _, config = source.removeprefix(HUB_PREFIX).partition(":")
    if name.count("/") != 1 or not all(name.split("/")):
        raise UsageError(f"{source!r} is not a hub data set; expected hf:OWNER/NAME or hf:OWNER/NAME:CONFIG")
    return name, config or None


def _documents(rows: Any, text_field: str, where: str) -> Iterator[Piece]:
    for number, row in enumerate(rows, 1):
        if text_field not in row:
            raise UsageError(f"{where} has no column {text_field!r}; it has {', '.join(row)} (choose with --text-field)")
        text = row[text_field]
        if text is None or text == "":
            continue
        if not isinstance(text, str):
            raise DataError(f"{where}, row {number}: column {text_field!r} holds a {type(text).__name__}; expected text")
        yield Piece(normalized(text), ends_document=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
