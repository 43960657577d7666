"""Text in: files, folders, compressed files, built-in corpora, tables and hub data sets -> documents per split.

- `reading`: bytes -> text by the text policy, text -> documents
- `tables`: .jsonl, .csv, .parquet and hub data sets -> documents
- `records`: tables of a few named columns, as experiments have them -> rows
- `splitting`: train, valid and test for a source that has no splits of its own
- `survey`: counts, hashes, overlap between splits

`open_corpus` is the door: it looks at each source's name, finds its splits or plans them, and reads nothing into memory.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lstmlm.config import SPLITS, CorpusConfig
from lstmlm.corpus.reading import COMPRESSED, Piece, beginning, into_documents, read_text
from lstmlm.corpus.splitting import plan_split
from lstmlm.corpus.survey import Overlap, Survey, TextCounts, measure_overlaps, survey
from lstmlm.corpus.tables import HUB_PREFIX, TABLES, hub_splits, read_hub, read_table, table_format
from lstmlm.errors import DataError, UsageError

__all__ = [
    "Corpus",
    "Overlap",
    "Part",
    "Piece",
    "Survey",
    "TextCounts",
    "built_in_corpora",
    "measure_overlaps",
    "open_corpus",
    "open_texts",
    "source_name",
    "survey",
]

Read = Callable[[], Iterator[Piece]]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".tokens", ".raw")
_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}


@dataclass(frozen=True)
class Part:
    """Text under one name, usually a file, that can be read again and again."""

    name: str
    read: Read
    by_row: bool = False
    """Whether a document is a row, whatever the rule for documents."""

    def pieces(self) -> Iterator[Piece]:
        """The text; an error where there is nothing but white space."""
        empty = True
        for piece in self.read():
            empty = empty and not piece.text.strip()
            yield piece
        if empty:
            raise DataError(f"{self.name} is empty, or only white space; expected some text")


@dataclass(frozen=True)
class Corpus:
    """Named splits of one or several sources."""

    names: tuple[str, ...]
    """The sources, as given."""
    config: CorpusConfig
    parts: dict[str, list[Part]]
    """The files of each split. A model's state is not carried from one to the next."""
    taken: Mapping[str, str | None] = field(default_factory=dict)
    """What a split is of the sources, where it is not what it is called; `None` for all of them."""

    @property
    def name(self) -> str:
        """A short name, fit for a directory: `everyday`, `novel+letters`."""
        return source_name(self.names)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, valid and test that hold any text."""
        return tuple(split for split in SPLITS if self.parts.get(split))

    def split_of_sources(self, split: str) -> str | None:
        """Which of the sources' splits this is; `None` where it is all of their text."""
        return self.taken.get(split, split)

    def document_rule(self, split: str) -> str | None:
        """What a document of this split is: `row`, or as configured; `None` where it is one here and the other there."""
        by_row = {part.by_row for part in self.parts.get(split, [])}
        return None if len(by_row) > 1 else "row" if by_row == {True} else self.config.documents or "file"

    def files(self, split: str) -> Iterator[Iterator[Piece]]:
        """The text of `split`, file by file."""
        if split not in self.splits:
            raise UsageError(f"{self.name} has no {split} split; it has {', '.join(self.splits)}")
        for part in self.parts[split]:
            yield part.pieces()

    def pieces(self, split: str) -> Iterator[Piece]:
        """All text of `split`, one document after the other."""
        for file in self.files(split):
            yield from file


def built_in_corpora() -> dict[str, Path]:
    """The corpora that come with lstmlm, by name: beside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    for folder in (here.parent / "corpora", here.parent.parent / "corpora"):
        if folder.is_dir():
            return {path.parent.name: path.parent for path in sorted(folder.glob("*/train.txt"))}
    return {}


def open_corpus(sources: Sequence[str | os.PathLike[str]], config: CorpusConfig | None = None) -> Corpus:
    """Open training text: each source's own splits, or 90/5/5 (`config.split`) cut from it.

    Raises:
        UsageError: a source that does not exist or is of no known kind.
        DataError: a source that cannot be read, or is too small to cut.
        StorageError: a hub data set that cannot be reached.
    """
    names = _names(sources)
    config = _with_document_rule(names, config or CorpusConfig())
    parts: dict[str, list[Part]] = {split: [] for split in SPLITS}
    for name in names:
        found = _own_splits(name, config)
        if "train" not in found:
            raise DataError(f"{name} has {' and '.join(found)} text, but no train.* to go with it")
        if "valid" not in found:
            by_row = all(part.by_row for part in found["train"])
            whole = partial(_chained, found.pop("train"))
            weights = config.split if "test" not in found else (*config.split[:2], 0)
            plan = plan_split(whole, weights, name)
            for split in SPLITS:
                if split not in found and plan.has(split):
                    part = partial(plan.part, whole, split)
                    found[split] = [Part(f"the {split} part of {name}", part, by_row)]
        for split, files in found.items():
            parts[split] += files
    return Corpus(tuple(names), config, parts)


def _chained(parts: Sequence[Part]) -> Iterator[Piece]:
    for part in parts:
        yield from part.read()


def open_texts(sources: Sequence[str | os.PathLike[str]], config: CorpusConfig, split: str | None) -> Corpus:
    """Open text to evaluate: everything a source holds, or where it has splits of its own, `split` (default test).

    The result has all of it under `test`, one part for each source.
    """
    parts: list[Part] = []
    taken: set[str | None] = set()
    names = _names(sources)
    for name in names:
        found = _own_splits(name, config)
        unsplit = list(found) == ["train"]
        wanted = split or ("train" if unsplit else "test")
        if unsplit and split not in (None, "train"):
            raise UsageError(f"{name} has no splits, so there is no {split} to choose; leave --split away to take all of it")
        if wanted not in found:
            raise UsageError(f"{name} has no {wanted} split; it has {', '.join(found)}")
        parts += found[wanted]
        taken.add(None if unsplit else wanted)
    return Corpus(tuple(names), config, {"test": parts}, {"test": taken.pop() if len(taken) == 1 else None})


def _names(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    if not sources:
        raise UsageError("expected at least one source: a file, a folder, everyday, or hf:OWNER/NAME")
    names = [os.fspath(source) for source in sources]
    if not all(names):
        raise UsageError("the name of a source is empty; expected a file, a folder, everyday, or hf:OWNER/NAME")
    return names


def source_name(names: Sequence[str]) -> str:
    """The sources' names without folders and suffixes, joined by `+`."""
    return "+".join(dict.fromkeys(map(_stem, names)))


def _stem(name: str) -> str:
    if name.startswith(HUB_PREFIX):
        return name.removeprefix(HUB_PREFIX).partition(":")[0].rpartition("/")[2]
    path = Path(name)
    while path.suffix.lower() in (*COMPRESSED, *TABLES, *TEXT_SUFFIXES):
        path = path.with_suffix("")
    return path.name if path.name not in ("", "..") else Path(name).resolve().name


def _with_document_rule(names: Sequence[str], config: CorpusConfig) -> CorpusConfig:
    if config.documents is not None:
        return config
    built_in = any(not os.path.exists(name) and name in built_in_corpora() for name in names)
    return replace(config, documents="blank-line" if built_in else "file")


def _own_splits(name: str, config: CorpusConfig) -> dict[str, list[Part]]:
    """The files of each split that the source itself has; a source without splits is all `train`."""
    if name.startswith(HUB_PREFIX):
        return {
            ours: [Part(f"{name} ({theirs})", partial(read_hub, name, theirs, config.text_field), by_row=True)]
            for ours, theirs in hub_splits(name).items()
        }
    path = Path(name)
    if not os.path.exists(name):  # unlike Path.exists, not an error for a name that no file can have
        if name not in built_in_corpora():
            raise UsageError(f"{name} does not exist, and is no built-in corpus ({', '.join(built_in_corpora())})")
        path = built_in_corpora()[name]
    if path.is_dir():
        return _folder_splits(path, config)
    return {"train": [_file(path, config)]}


def _folder_splits(folder: Path, config: CorpusConfig) -> dict[str, list[Part]]:
    if (folder / "run.json").exists() or (folder / "MANIFEST.json").exists():
        raise UsageError(f"{folder} is a run or a model; expected text")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_text(path, folder)]
    splits: dict[str, list[Path]] = {}
    for path in files:
        if path.parent == folder:
            named = [_SPLIT_NAMES[part] for part in path.name.lower().split(".")[:-1] if part in _SPLIT_NAMES]
            if len(named) == 1:
                splits.setdefault(named[0], []).append(path)
    if splits:
        return {split: [_file(path, config) for path in splits[split]] for split in SPLITS if split in splits}
    if not files:
        raise DataError(f"{folder} holds no text files; expected plain text, {' '.join(COMPRESSED)} or {' '.join(TABLES)}")
    return {"train": [_file(path, config) for path in files]}


def _is_text(path: Path, folder: Path) -> bool:
    """Not hidden, not empty, and without the zero byte that binary files begin with (UTF-16 is text, if not ours)."""
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    if table_format(path):
        return True
    start = beginning(path)
    return bool(start) and (b"\0" not in start or start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _file(path: Path, config: CorpusConfig) -> Part:
    def read() -> Iterator[Piece]:
        if table_format(path):
            return read_table(path, config.text_field, config.encoding_errors)
        return into_documents(read_text(path, config.encoding_errors), config.documents or "file")

    return Part(str(path), read, by_row=table_format(path) is not None)
