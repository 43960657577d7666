"""`lstmlm score` in all its formats: tables for statistics, colours for people."""

from __future__ import annotations

import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from building import ODD_TEXT as TEXT
from building import ODD_WORDS as WORDS

from lstmlm.checkpoint import LoadedModel
from lstmlm.cli.main import run
from lstmlm.cli.score import COLUMNS
from lstmlm.config import CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.evaluation import evaluate
from lstmlm.report.colours import RAMP, colour
from lstmlm.report.formatting import visible
from lstmlm.surprisal import Surprisal, surprisals


def scored(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What `lstmlm score` writes; nothing goes to stderr."""
    code = run(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def test_a_file_is_read_by_the_text_policy(
    bpe_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No byte order mark, one kind of line end; the rows of all tokens add up to what `eval` reports."""
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffa\\b\r\nthe cat\r the\tcaf\u00e9".encode())
    rows = [row.split("\t") for row in scored(capsys, bpe_model.path, path, "--per", "token").splitlines()]
    assert rows[0] == ["text", "start", "end", "tokens", "nats", "bits", "unknown"]
    assert "".join(row[0] for row in rows[1:]) == r"a\\b\nthe cat\n the\tcaf\u00e9".replace(r"\u00e9", "\u00e9")
    expected = evaluate(bpe_model, open_texts([str(path)], CorpusConfig(), None))
    assert math.fsum(float(row[4]) for row in rows[1:]) == pytest.approx(expected["nll_nats"], abs=1e-6 * len(rows))
    for _, start, end, tokens, nats, bits, unknown in rows[1:]:
        assert (int(end) >= int(start), tokens, unknown) == (True, "1", "0")
        assert float(nats) / math.log(2) == pytest.approx(float(bits), abs=2e-6)


def test_json_has_all_of_it(word_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    found = json.loads(scored(capsys, word_model.path, tmp_path / "text.txt", "--format", "jsonl"))
    expected = surprisals(word_model, TEXT, "word")
    assert found["text"] == TEXT
    assert [[unit[name] for name in COLUMNS] for unit in found["units"]] == [
        [getattr(unit, name) for name in COLUMNS] for unit in expected
    ]
    assert {tuple(unit) for unit in found["units"]} == {COLUMNS}
    assert any(unit["unknown"] for unit in found["units"])


def table(text: str) -> list[dict[str, str]]:
    header, *rows = (row.split("\t") for row in text.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_a_table_by_sentence_and_word(
    word_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    rows = table(scored(capsys, word_model.path, tmp_path / "text.txt", "--format", "psycholing"))
    words = surprisals(word_model, TEXT, "word")
    assert list(rows[0]) == ["sentence_id", "token_id", "token", "surprisal", "tokens", "unknown"]
    assert [row["token"] for row in rows] == WORDS
    assert [row["sentence_id"] for row in rows] == ["1"] * 8 + ["4"] * 4 + ["6"] * 3
    assert [row["token_id"] for row in rows] == [*"12345678", *"1234", *"123"]
    assert [float(row["surprisal"]) for row in rows] == pytest.approx([word.bits for word in words], abs=1e-6)
    assert [row["unknown"] == "1" for row in rows] == [word.unknown for word in words]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the cat\n\nthe zebra\n")))
    alone = table(scored(capsys, word_model.path, "--format", "psycholing"))
    assert [(row["sentence_id"], row["token_id"], row["token"]) for row in alone] == [
        ("1", "1", "the"),
        ("1", "2", "cat"),
        ("3", "1", "the"),
        ("3", "2", "zebra"),
    ]
    assert alone[0]["surprisal"] == alone[2]["surprisal"] == rows[0]["surprisal"]  # nothing is remembered


def test_all_columns(bpe_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    arguments = bpe_model.path, tmp_path / "text.txt", "--columns", "all"
    words = surprisals(bpe_model, TEXT, "word", expectations=True)
    for style in ("tsv", "psycholing"):
        rows = table(scored(capsys, *arguments, "--format", style))
        assert list(rows[0])[-4:] == ["rank", "entropy_bits", "guess", "probability"]
        assert [int(row["rank"]) for row in rows] == [word.expectation.rank for word in words if word.expectation]
    units = json.loads(scored(capsys, *arguments, "--format", "jsonl"))["units"]
    for unit, word in zip(units, words, strict=True):
        expected = word.expectation
        assert expected is not None
        assert unit["guess"] == expected.guess
        assert (unit["entropy_bits"], unit["probability"]) == (expected.entropy_bits, expected.probability)
    titles = Page(scored(capsys, *arguments, "--format", "html")).titles
    assert all(f"rank {unit['rank']}, expected " in title for unit, title in zip(units, titles, strict=True))


def test_colours_and_none(
    word_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT + "\x1b[2J")
    arguments = word_model.path, tmp_path / "text.txt", "--format", "ansi"
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = scored(capsys, *arguments)
    monkeypatch.setenv("TERM", "dumb")
    dumb = scored(capsys, *arguments)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = scored(capsys, *arguments)
    harmless = TEXT + r"\x1b[2J" + "\n"
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == harmless
    assert "38;5;" in coloured
    assert "\x1b" not in plain
    assert plain == dumb
    assert re.sub(r"\[\d+\]", "", plain) == harmless
    assert [int(bits) for bits in re.findall(r"\[(\d+)\]", plain)] == [
        round(word.bits) for word in surprisals(word_model, TEXT + "\x1b[2J", "word")
    ]


def test_joiners_are_kept_and_what_turns_a_line_around_is_not(
    word_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Persian words and families of emoji need their joiners."""
    monkeypatch.setenv("TERM", "dumb")
    (tmp_path / "text.txt").write_text(
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f467 a\u202eb"
    )
    found = re.sub(r"\[\d+\]", "", scored(capsys, word_model.path, tmp_path / "text.txt", "--format", "ansi"))
    assert found == "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f467 a\\u202eb\n"


def test_nothing_acts_in_a_page(word_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "the\x07 cat \u202esat\u202c \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 on\n"
    path = tmp_path / "a\u202eb\x1b.txt"
    path.write_text(text)
    source = scored(capsys, word_model.path, path, "--format", "html")
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", source)
    assert '<html lang="en">' in source
    assert Page(source).text == "\n" + visible(text)
    assert len(Page(source).titles) == len(surprisals(word_model, text, "word"))
    assert source.count("a\\u202eb\\x1b.txt") == 2


def test_line_ends_are_seen_where_they_are_tokens(
    bpe_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("the\n\n\tcat\n")
    source = scored(capsys, bpe_model.path, tmp_path / "text.txt", "--format", "html", "--per", "token")
    assert source.count(' class="end">\n</span>') == 3
    assert Page(source).text.strip("\n") == "the\n\n\tcat"


def test_the_ramp_rises_and_can_be_read_on_black_and_on_white() -> None:
    """Contrast as the Web Content Accessibility Guidelines define it (WCAG 2, relative luminance)."""
    for text_colour in RAMP[1:]:
        red, green, blue = (int(text_colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert min((luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)) > 4.2
    units = [Surprisal("a", 0, 1, bits * math.log(2), 2, False) for bits in (0.0, 1.9, 2.1, 15.9, 16.1, 500.0)]
    assert [RAMP.index(colour(unit, "word")) for unit in units] == [0, 0, 1, 7, 7, 7]
    assert [RAMP.index(colour(unit, "line")) for unit in units] == [0, 0, 0, 3, 4, 7]


class Page(HTMLParser):
    """What a browser shows of the text, and the titles of its pieces."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.titles, self.inside = "", [], False  # type: ignore[var-annotated]
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = self.inside or tag == "pre"
        self.titles += [value for name, value in attrs if name == "title" and tag == "span"]
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


def test_a_page_shows_the_text_and_its_figures(
    word_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n" + TEXT + " <b>&amp;</b>"
    path = tmp_path / "<text>.txt"
    path.write_text(text)
    source = scored(capsys, word_model.path, path, "--format", "html")
    found, words = Page(source), surprisals(word_model, text, "word")
    assert found.text.removeprefix("\n") == text  # a browser drops the line end after <pre>
    assert [title.split()[0] for title in found.titles] == [f"{word.bits:.2f}" for word in words]
    assert [title.endswith("unknown") for title in found.titles] == [word.unknown for word in words]
    assert f"<title>{str(path).replace('<', '&lt;').replace('>', '&gt;')}</title>" in source


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "html"], 2, "lstmlm: html and --encoding-errors are for one text; expected a FILE\n"),
        (["-", "--encoding-errors", "replace"], 2, "lstmlm: html and --encoding-errors are for one text; expected a FILE\n"),
        (["--format", "psycholing", "--per", "line"], 2, "lstmlm: psycholing has a row for each word or token; expected"),
        (["--format", "ansi", "--columns", "all"], 2, "lstmlm: colours have no columns; expected another --format"),
        (["rows.jsonl"], 2, "lstmlm: rows.jsonl is a table; expected a text file"),
        (["nowhere.txt"], 2, "lstmlm: nowhere.txt: No such file or directory\n"),
        (["empty.txt"], 4, "lstmlm: empty.txt is empty; expected some text\n"),
        (["latin-1.txt"], 4, "lstmlm: latin-1.txt is not UTF-8: byte 0xe9 at offset 1,003; convert it"),
    ],
)
def test_what_cannot_be_scored(
    bpe_model: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin-1.txt").write_bytes(b"\n" * 1000 + b"caf\xe9")
    assert run(["score", str(bpe_model.path), *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
