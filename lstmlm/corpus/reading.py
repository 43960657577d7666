r"""Bytes -> text, by the text policy: strict UTF-8, no byte order mark, `\n` as the only line end.

Text travels as `Piece`s of whole lines, so that a file of any size passes through a few megabytes of memory.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lstmlm.errors import DataError, StorageError, UsageError

_OPENERS: dict[str, Callable[[Path], BinaryIO]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}  # type: ignore[dict-item]
COMPRESSED = tuple(_OPENERS)
_BLOCK_BYTES = 1 << 20
_LONGEST_LINE = 4 << 20
"""Characters after which a line is cut (before a space if it has one), so that one endless line cannot fill memory."""
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Piece:
    r"""Some text of one document, usually whole lines with their `\n`.

    `separator` is text that belongs to the file but to no document (the blank lines between two documents): it is
    counted and hashed, and never encoded. It follows `text`.
    """

    text: str
    ends_document: bool = False
    separator: str = ""


def beginning(path: Path, size: int = 8192) -> bytes:
    """The first bytes of a plain or compressed file; of one that cannot be read, a word (reading it will say why)."""
    try:
        with _OPENERS.get(path.suffix.lower(), _open_plain)(path) as file:
            return file.read(size)
    except (EOFError, lzma.LZMAError, zlib.error, OSError):
        return b"unreadable"


def read_text(path: Path, encoding_errors: str = "strict") -> Iterator[str]:
    """Yield the text of a plain or compressed file in blocks that end at line ends.

    Raises:
        UsageError: the file does not exist or is a directory.
        DataError: not UTF-8 (with the byte offset), or a damaged compressed file.
        StorageError: it cannot be read.
    """
    try:
        with _OPENERS.get(path.suffix.lower(), _open_plain)(path) as file:
            yield from _lines(_decoded(file, path, encoding_errors))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole {path.suffix} file: {error}") from error
    except OSError as error:
        if path.suffix.lower() == ".bz2" and error.errno is None:  # bz2 reports damage as a bare OSError
            raise DataError(f"{path} is not a whole .bz2 file: {error}") from error
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _open_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _decoded(file: BinaryIO, path: Path, encoding_errors: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(encoding_errors)
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    first = True
    while True:
        block = file.read(_BLOCK_BYTES)
        held_back = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _not_utf8(path, offset - held_back + error.start, error) from error
        offset += len(block)
        if first and text:
            text = text.removeprefix(_BYTE_ORDER_MARK)
            first = False
        yield newlines.decode(text, final=not block)
        if not block:
            return


def _not_utf8(path: Path, offset: int, error: UnicodeDecodeError) -> DataError:
    hint = "convert it with `iconv -t UTF-8`, or use --encoding-errors replace"
    if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and offset == 0:
        hint = "it looks like UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"
    return DataError(f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {offset:,}; {hint}")


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """Regroup blocks so that each ends at a line end (the last one, or a far too long line, may not)."""
    rest = ""
    for block in blocks:
        rest += block
        cut = rest.rfind("\n") + 1
        if not cut and len(rest) > _LONGEST_LINE:
            cut = max(rest.rfind(" "), 0) or len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def normalized(text: str) -> str:
    """The text policy for a text that is already a string (a row of a table)."""
    return text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")


def split_lines(text: str) -> list[str]:
    r"""Lines with their `\n`; unlike `str.splitlines`, nothing but `\n` ends a line."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def into_documents(blocks: Iterable[str], rule: str) -> Iterator[Piece]:
    """Cut the text of one file into documents: by `blank-line`, or the whole `file` as one."""
    pending = open_line = False
    for block in blocks:
        if rule == "file":
            yield Piece(block)
            pending = True
            continue
        lines: list[str] = []
        for line in split_lines(block):
            goes_on, open_line = open_line, not line.endswith("\n")
            if goes_on or line.strip():
                lines.append(line)
                continue
            yield Piece("".join(lines), ends_document=pending or bool(lines), separator=line)
            lines, pending = [], False
        if lines:
            yield Piece("".join(lines))
            pending = True
    if pending:
        yield Piece("", ends_document=True)
