"""Text in: the text policy, compressed files, folders, built-in corpora, faults."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import building
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lstmlm.config import CorpusConfig
from lstmlm.corpus import Corpus, Piece, built_in_corpora, open_corpus, open_texts, source_name, survey
from lstmlm.corpus.reading import into_documents, read_text, split_lines
from lstmlm.errors import DataError, LstmlmError, UsageError

MEBIBYTE = 1 << 20
COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def read(path: Path, errors: str = "strict") -> str:
    return "".join(read_text(path, errors))


def text_of(corpus: Corpus, split: str) -> str:
    return "".join(piece.text + piece.separator for piece in corpus.pieces(split))


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def policy(text: str) -> str:
    """The text policy in one line."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


# --- bytes -> text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "bad"),
    [
        (b"", b"\xffabc"),
        (b"fine text\n", b"\xe9t\xe9"),
        (b"the end ", b"\xc3"),
        (b"the end ", b"\xf0\x9f\x98"),
        (b"x" * (MEBIBYTE - 1), b"\xe2\x28\xa1 and more"),
        (b"x" * (MEBIBYTE - 2), b"\xf0\x9f"),
        (b"x" * MEBIBYTE, b"\x80"),
        (b"x" * (MEBIBYTE - 1), b"\xc3\nfoo"),
        (b"", b"\xed\xa0\x80"),
    ],
    ids=["start", "middle", "end", "end-long", "across", "across-end", "after", "across-line", "surrogate"],
)
def test_the_first_byte_that_is_not_utf8_is_named(tmp_path: Path, before: bytes, bad: bytes) -> None:
    path = write(tmp_path / "bad.txt", before + bad)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"offset {len(before):,};" in message
    assert f"0x{bad[0]:02x}" in message
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_recognized(tmp_path: Path, encoding: str) -> None:
    path = write(
        tmp_path / "wide.txt", "\ufeffhello".encode(encoding) if encoding == "utf-16-be" else "hello".encode(encoding)
    )
    with pytest.raises(DataError, match="UTF-16") as caught:
        read(path)
    assert "offset 0;" in str(caught.value)


def test_the_offset_in_a_compressed_file_is_that_of_the_text(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.txt.gz", gzip.compress(b"x" * 1234567 + b"\xff"))
    with pytest.raises(DataError, match="offset 1,234,567;"):
        read(path)


def test_encoding_errors_replace_goes_on_and_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.txt", b"one \xff two\n" + b"x" * (MEBIBYTE - 9) + b"\xc3\n")
    corpus = open_texts([path], CorpusConfig(encoding_errors="replace"), None)
    counts = survey(corpus.pieces("test"))
    assert counts.replaced == 2
    assert text_of(corpus, "test").startswith("one \ufffd two\nxxx")


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab \r\n\ufeff\0\x0b\x0c\x1c\x85\u2028\u2029é😀")))
@example("\ufeff\ufeffa")
@example("a\r")
def test_only_line_feeds_end_lines_and_one_mark_is_dropped(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = write(tmp_path_factory.mktemp("policy") / "text.txt", text)
    assert read(path) == policy(text)
    assert split_lines(policy(text)) == [line + "\n" for line in policy(text).split("\n")[:-1]] + [
        line for line in policy(text).split("\n")[-1:] if line
    ]


def test_a_carriage_return_at_the_border_of_two_blocks_is_one_line_end(tmp_path: Path) -> None:
    text = "x" * (MEBIBYTE - 1) + "\r\nend\r"
    assert read(write(tmp_path / "text.txt", text)) == policy(text)


def test_a_byte_order_mark_inside_a_text_is_text(tmp_path: Path) -> None:
    text = "x" * MEBIBYTE + "\ufeffend"
    assert read(write(tmp_path / "text.txt", text)) == text


def test_characters_across_the_borders_of_blocks_stay_whole(tmp_path: Path) -> None:
    text = "a" + "😀é\n" * (MEBIBYTE // 3)
    assert read(write(tmp_path / "text.txt", text)) == text


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_a_windows_file_gives_the_same_ids_as_its_unix_twin(tmp_path: Path, kind: str) -> None:
    text = "one two\n\nthe \0 \x1b[31m cat\u2028sat\x0b\x0c\x85 on\nthe end"
    windows = write(tmp_path / "windows.txt", "\ufeff" + text.replace("\n", "\r\n"))
    unix = write(tmp_path / "unix.txt", text)
    tokenizer = building.tokenizer(kind, text + building.text())
    ids = [
        [
            token
            for part in tokenizer.encode_documents(open_texts([path], CorpusConfig(), None).pieces("test"))
            for token in part.ids
        ]
        for path in (windows, unix)
    ]
    assert ids[0] == ids[1]
    assert len(ids[1]) > 9


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_text_equals_plain_text(tmp_path: Path, suffix: str) -> None:
    data = ("é😀 " + building.text()).encode()
    assert read(write(tmp_path / f"text.txt{suffix}", COMPRESS[suffix](data))) == data.decode()
    assert read(write(tmp_path / f"text.TXT{suffix.upper()}", COMPRESS[suffix](data))) == data.decode()


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["truncated", "altered", "other"])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    data = COMPRESS[suffix](building.text().encode())
    middle = len(data) // 2
    data = {
        "truncated": data[:middle],
        "altered": data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + 8]) + data[middle + 8 :],
        "other": b"not compressed at all, only so named",
    }[damage]
    path = write(tmp_path / f"text.txt{suffix}", data)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_reading_is_lazy_and_in_bounded_blocks_of_whole_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "long.txt", b"a line of text\n" * 500_000 + b"\xff")
    blocks = list(islice(read_text(path), 5))  # the bad byte is beyond
    assert all(len(block) <= 2 * MEBIBYTE and block.endswith("\n") for block in blocks)
    with pytest.raises(DataError):
        read(path)


@pytest.mark.parametrize("rule", ["file", "blank-line"])
def test_an_endless_line_comes_in_bounded_pieces_and_stays_one_line(tmp_path: Path, rule: str) -> None:
    text = "word and " * 600_000 + "\nlast\n"
    pieces = list(into_documents(read_text(write(tmp_path / "line.txt", text)), rule))
    assert max(len(piece.text) for piece in pieces) <= 5 * MEBIBYTE < len(text)
    assert "".join(piece.text for piece in pieces) == text
    assert sum(piece.ends_document for piece in pieces) == 1
    tokenizer = building.tokenizer("word", "word word and and last last\n")
    encoded = list(tokenizer.encode_documents(pieces))
    assert sum(len(part.line_ends) for part in encoded) == 2
    assert sum(len(part.ids) for part in encoded) == 2 * 600_000 + 1 + 2


def test_the_end_of_a_line_that_was_cut_is_not_a_blank_line() -> None:
    pieces = list(into_documents(["an endless line", " \n", "second line\n", "\n", "next\n"], "blank-line"))
    documents = "".join(piece.text + ("|" if piece.ends_document else "") for piece in pieces)
    assert documents == "an endless line \nsecond line\n|next\n|"


def test_many_empty_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.txt", b"a\n" + b"\n" * 300_000 + b"b\n")
    counts = {
        rule: survey(open_texts([path], CorpusConfig(documents=rule), None).pieces("test"))
        for rule in ("file", "blank-line")
    }
    assert [(rule, count.lines, count.documents) for rule, count in counts.items()] == [
        ("file", 300_002, 1),
        ("blank-line", 300_002, 2),
    ]


# --- documents -------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["a\n", "bb c\n", "\n", " \n", "\u3000\n"]), max_size=12), st.sampled_from(["", "end", "  "])
)
def test_blank_lines_end_documents_and_belong_to_none(lines: list[str], last: str) -> None:
    text = "".join(lines) + last
    pieces = list(into_documents([text] if text else [], "blank-line"))
    assert "".join(piece.text + piece.separator for piece in pieces) == text
    documents = "".join(piece.text + ("|" if piece.ends_document else "") for piece in pieces)
    blocks: list[str] = [""]
    for line in split_lines(text):
        blocks = [*blocks, ""] if not line.strip() else [*blocks[:-1], blocks[-1] + line]
    assert documents == "".join(block + "|" for block in blocks if block)


def test_everyday_comes_with_lstmlm() -> None:
    corpus = open_corpus(["everyday"])
    assert corpus.name == "everyday"
    assert corpus.splits == ("train", "valid", "test")
    assert corpus.config.documents == "blank-line"
    counts = {split: survey(corpus.pieces(split)) for split in corpus.splits}
    for split, count in counts.items():
        data = (built_in_corpora()["everyday"] / f"{split}.txt").read_bytes()
        assert (count.bytes, count.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert count.documents == 1 + data.decode().strip().count("\n\n")
        assert count.words == len(data.split())
    assert counts["test"].documents == 7
    assert counts["train"].words == 266_286


def test_a_built_in_corpus_keeps_its_own_rule_only_where_none_was_asked_for() -> None:
    corpus = open_corpus(["everyday"], CorpusConfig(documents="file"))
    assert survey(corpus.pieces("test")).documents == 1


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("TRAIN.TXT", "validation.md", "test.txt"),
        ("my.train.txt", "dev.txt", "test.raw"),
        ("train.txt", "val.txt", "test.txt"),
    ],
)
def test_files_named_for_splits_are_the_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, text in zip(names, ("one\n", "two\n", "three\n"), strict=True):
        write(tmp_path / name, text)
    write(tmp_path / "README.md", "about the data\n")
    corpus = open_corpus([tmp_path])
    assert [text_of(corpus, split) for split in ("train", "valid", "test")] == ["one\n", "two\n", "three\n"]
    assert text_of(open_texts([tmp_path], CorpusConfig(), None), "test") == "three\n"
    assert text_of(open_texts([tmp_path], CorpusConfig(), "valid"), "test") == "two\n"


def test_compressed_files_may_be_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.txt.gz", gzip.compress(b"one\n"))
    write(tmp_path / "valid.txt.xz", lzma.compress(b"two\n"))
    corpus = open_corpus([tmp_path])
    assert corpus.splits == ("train", "valid")
    assert text_of(corpus, "valid") == "two\n"


def test_validation_is_cut_from_training_where_it_is_missing_and_test_stays(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", building.text())
    write(tmp_path / "test.txt", "three\n")
    corpus = open_corpus([tmp_path])
    assert corpus.splits == ("train", "valid", "test")
    assert text_of(corpus, "train") + text_of(corpus, "valid") == building.text()
    assert text_of(corpus, "test") == "three\n"


def test_a_folder_without_splits_is_all_its_text_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "b\n")
    write(tmp_path / "a" / "deep" / "x.md", "x\n")
    write(tmp_path / "c.txt.bz2", bz2.compress(b"c\n"))
    write(tmp_path / ".hidden.txt", b"\xff")
    write(tmp_path / ".git" / "notes.txt", b"\xff")
    write(tmp_path / "picture.png", b"\x89PNG\0")
    everything = open_texts([tmp_path], CorpusConfig(), None)
    assert text_of(everything, "test") == "x\nb\nc\n"
    assert survey(everything.pieces("test")).documents == 3


def test_a_folder_without_text_says_what_was_expected(tmp_path: Path) -> None:
    write(tmp_path / "picture.png", b"\x89PNG\0")
    with pytest.raises(DataError, match="no text files; expected plain text"):
        open_corpus([tmp_path])


# --- sources that cannot be meant, or hold nothing -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.txt", "", "x" * 5000, "a\0b", "hf:", "hf:only-a-name"])
def test_a_source_that_cannot_be_meant_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_corpus([name])
    assert name[:100] in str(caught.value) or "\0" in name or name.startswith("hf:")


def test_no_source_at_all() -> None:
    with pytest.raises(UsageError, match="at least one source"):
        open_corpus([])


@pytest.mark.parametrize("text", ["", " \n\t\n \n", "\ufeff"])
@pytest.mark.parametrize("rule", ["file", "blank-line"])
def test_a_text_of_nothing_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    path = write(tmp_path / "nothing.txt", text)
    config = CorpusConfig(documents=rule)
    with pytest.raises(DataError, match=r"empty|single line"):
        list(open_corpus([path], config).pieces("train"))
    with pytest.raises(DataError, match="empty"):
        list(open_texts([path], config, None).pieces("test"))


def test_one_token_can_be_read_but_not_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "one.txt", "token")
    assert survey(open_texts([path], CorpusConfig(), None).pieces("test")).words == 1
    with pytest.raises(DataError, match="single line"):
        open_corpus([path])


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "text.txt", building.text())
    with pytest.raises(UsageError, match="no test split"):
        list(open_corpus([path], CorpusConfig(split=(9, 1, 0))).pieces("test"))
    with pytest.raises(UsageError, match="no splits"):
        open_texts([path], CorpusConfig(), "valid")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LstmlmError) as caught:
        read(tmp_path)
    assert caught.value.exit_code == 2


def test_sources_join_and_can_be_read_again(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.txt", building.text()), write(tmp_path / "b.txt", building.text(60))
    corpus = open_corpus([first, second])
    assert corpus.name == "a+b"
    assert text_of(corpus, "train") == text_of(corpus, "train")
    assert sum(len(text_of(corpus, split)) for split in corpus.splits) == len(building.text()) + len(building.text(60))
    assert [type(piece) for piece in islice(corpus.pieces("train"), 1)] == [Piece]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/novel.txt"], "novel"),
        (["novel.txt.gz", "x/letters.jsonl"], "novel+letters"),
        (["novel.txt", "novel.md"], "novel"),
        (["wiki.train.tokens"], "wiki.train"),
        (["hf:owner/name:config"], "name"),
        (["some/folder/"], "folder"),
    ],
)
def test_the_name_of_a_source(names: list[str], expected: str) -> None:
    assert source_name(names) == expected


@pytest.mark.parametrize("name", [".", "..", "../.."])
def test_the_name_of_a_source_is_fit_for_a_directory(name: str) -> None:
    assert "." not in source_name([name])
