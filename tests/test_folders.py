"""Folders as text: which files count, splits by name, and scoring a folder as the files it holds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import building
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.cli.main import run as run_command
from lstmlm.config import CorpusConfig
from lstmlm.corpus import Corpus, open_corpus, open_texts
from lstmlm.errors import DataError, LstmlmError, UsageError
from lstmlm.evaluation import evaluate

Out = pytest.CaptureFixture[str]


def text_of(corpus: Corpus, split: str = "test") -> str:
    return "".join(piece.text + piece.separator for piece in corpus.pieces(split))


def read_all(*sources: Path) -> str:
    return text_of(open_texts(sources, CorpusConfig(), None))


def filled(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A folder of texts of unequal length, one in a folder below it, one compressed."""
    files: dict[str, str | bytes] = {
        "b.txt": building.text(7),
        "a/first": "a cat saw the dog",
        "c.md.gz": gzip.compress(building.text(3).encode()),
    }
    return filled(tmp_path / "letters", files)


# --- which files are text --------------------------------------------------------------------------------------------


def test_files_without_a_known_suffix_are_text(tmp_path: Path) -> None:
    filled(tmp_path, {"LICENCE": "a\n", "chapter.1": "b\n", "deep/notes": "c\n", "page.html": "d\n"})
    assert read_all(tmp_path) == "a\nb\nc\nd\n"


def test_binary_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    filled(
        tmp_path, {"picture.png": b"\x89PNG\r\n\0\xff", "late.bin": b"x" * 8191 + b"\0", ".hidden": "no\n", ".git/x": "no\n"}
    )
    with pytest.raises(DataError, match="no text files; expected plain text"):
        read_all(tmp_path)
    filled(tmp_path, {"words": "yes\n"})
    assert read_all(tmp_path) == "yes\n"


@pytest.mark.parametrize("content", ["hello\n".encode("utf-16"), b"caf\xe9\n"], ids=["UTF-16", "Latin-1"])
def test_text_of_another_encoding_is_no_binary_file_but_an_error(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path, {"a": "fine\n", "other": content})
    with pytest.raises(DataError, match="other"):
        read_all(tmp_path)


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("valid",), ("test",), ("valid", "test")])
def test_held_out_text_alone_can_be_scored_but_not_trained_on(tmp_path: Path, names: tuple[str, ...]) -> None:
    filled(tmp_path, {f"{name}.txt": f"{name}\n" for name in names} | {"README": "about\n"})
    with pytest.raises(DataError, match=rf"{' and '.join(names)} text, but no train\.\*"):
        open_corpus([tmp_path])
    for name in names:
        assert text_of(open_texts([tmp_path], CorpusConfig(), name)) == f"{name}\n"
    with pytest.raises(UsageError, match="has no train split"):
        open_texts([tmp_path], CorpusConfig(), "train")


def test_a_run_or_a_model_is_no_text(trained_run: Path) -> None:
    for folder in (trained_run, max(trained_run.glob("step-*"))):
        for opened in (lambda: open_corpus([folder]), lambda: open_texts([folder], CorpusConfig(), None)):  # noqa: B023
            with pytest.raises(UsageError, match="is a run or a model; expected text") as caught:
                opened()
            assert caught.value.exit_code == 2


def test_a_run_given_as_text_to_a_command_is_exit_2(trained_run: Path, tmp_path: Path, capsys: Out) -> None:
    run = str(trained_run)
    for arguments in (["eval", run, run], ["train", run, "-o", str(tmp_path / "new"), "--steps", "1"]):
        assert run_command(arguments) == 2
        assert "is a run or a model; expected text" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# --- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stream", "document", "line"])
def test_a_folder_scores_as_its_files_one_by_one(bpe_model: LoadedModel, letters: Path, mode: str) -> None:
    def score(*sources: Path) -> tuple[float, int]:
        result = evaluate(bpe_model, open_texts(sources, CorpusConfig(), None), "test", mode=mode)
        return result["nll_nats"], result["tokens"]

    files = [letters / name for name in ("a/first", "b.txt", "c.md.gz")]
    alone = [score(file) for file in files]
    nats, tokens = score(letters)
    assert nats == pytest.approx(sum(each for each, _ in alone), rel=1e-6)
    assert tokens == sum(each for _, each in alone)
    assert score(*files) == pytest.approx((nats, tokens), rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_empty_one_of_several_texts_is_named(bpe_model: LoadedModel, letters: Path, place: int, capsys: Out) -> None:
    names = [letters / "a" / "first", letters / "b.txt", letters / "c.md.gz"]
    empty = letters / "nothing.txt"
    empty.write_text(" \n\n")
    texts = [*map(str, names[:place]), str(empty), *map(str, names[place:])]
    assert run_command(["eval", str(bpe_model.path), *texts]) == 4
    assert f"{empty} is empty, or only white space" in capsys.readouterr().err
    assert run_command(["eval", str(bpe_model.path), str(letters)]) == 4  # also inside a folder
    assert f"{empty} is empty" in capsys.readouterr().err


# --- tables ----------------------------------------------------------------------------------------------------------

ROWS: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": lambda text: b'{"text": "fine"}\n{"text": "' + text + b'"}\n',
    ".csv": lambda text: b"n,text\n1,fine\n2," + text + b"\n",
}


@pytest.mark.parametrize("suffix", ROWS)
@pytest.mark.parametrize("compressed", [False, True])
def test_the_first_byte_of_a_table_that_is_not_utf8_is_named(tmp_path: Path, suffix: str, compressed: bool) -> None:
    content = ROWS[suffix](b"caf\xe9 au lait")
    path = tmp_path / (f"rows{suffix}" + (".gz" if compressed else ""))
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert caught.value.exit_code == 4
    assert f"{path} is not UTF-8: byte 0xe9 at offset {content.index(0xE9)}" in str(caught.value)
    path.write_bytes(gzip.compress(ROWS[suffix]("café".encode())) if compressed else ROWS[suffix]("café".encode()))
    assert "café" in read_all(path)


@pytest.mark.parametrize("suffix", ROWS)
def test_bytes_of_a_table_cannot_be_replaced(bpe_model: LoadedModel, tmp_path: Path, suffix: str, capsys: Out) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(ROWS[suffix](b"fine too"))
    with pytest.raises(LstmlmError, match="is a table: --encoding-errors replace") as caught:
        text_of(open_texts([path], CorpusConfig(encoding_errors="replace"), None))
    assert caught.value.exit_code == 2
    assert run_command(["eval", str(bpe_model.path), str(path), "--encoding-errors", "replace"]) == 2
    assert "is a table" in capsys.readouterr().err
    assert run_command(["eval", str(bpe_model.path), str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["text"]["documents"] == 2


def test_archives_and_empty_files_are_passed_over_but_damage_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "photos.tar.gz").write_bytes(gzip.compress(b"photo\0\0\0"))
    pieces = open_texts([tmp_path], CorpusConfig(), None).pieces("test")
    assert "".join(piece.text for piece in pieces) == "some text\n"
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"more text\n")[:-4])
    with pytest.raises(DataError, match=r"b\.txt\.gz"):
        list(open_texts([tmp_path], CorpusConfig(), None).pieces("test"))
