from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import building
import pytest
import recomputation
import torch

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.cli.main import run
from lstmlm.config import MODES, CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.errors import UsageError
from lstmlm.evaluation import evaluate

TEXT = """\ufeffthe cat sat on the mat .\r
the dog can't find 42 zebras \u2014 na\u00efve !\r
\r
a cat saw the <eos> table .\rthe  man (in the u.s.) sat
on the <unk> rug .
a cat\tsaw \u732b

the man in the red hat"""
"""A mark at its front, three kinds of line ends, blank lines, unknown words and characters, no line end at its end."""

Evaluate = Callable[..., dict[str, Any]]
VARIANTS: dict[str, dict[str, Any]] = {
    "tied with projection, residual": {"num_layers": 2, "residual": True},
    "tied": {"embedding_size": 16},
    "untied": {"tied": False, "num_layers": 2},
    "adaptive": {"softmax": "adaptive", "cutoffs": (5, 12)},
    "adaptive, untied": {"softmax": "adaptive", "cutoffs": (7,), "tied": False},
    "traces": {"traces": (2, 30)},
    "traces, adaptive, without projection": {"traces": (5,), "softmax": "adaptive", "cutoffs": (5,), "embedding_size": 16},
    "one-hot": {"input": "one-hot"},
    "one-hot, residual": {"input": "one-hot", "num_layers": 3, "residual": True},
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.fixture
def eval_json(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """`lstmlm eval ... --json -`: its standard output, which must be one strict JSON object and nothing else."""

    def command(*arguments: object) -> dict[str, Any]:
        code = run(["eval", *map(str, arguments), "--json", "-"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        result: dict[str, Any] = json.loads(captured.out, parse_constant=refuse)
        return result

    return command


def evaluated(loaded: LoadedModel, *paths: Path, **options: Any) -> dict[str, Any]:
    return evaluate(loaded, open_texts(paths, CorpusConfig(documents=loaded.documents), None), **options)


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_independent_recomputation_agrees(
    variant: str, cell: str, kind: str, tmp_path: Path, text: Path, eval_json: Evaluate
) -> None:
    """Everything from the files of the model directory, by the written format, without a line of the package."""
    documents = "blank-line" if variant.startswith("tied") else "file"
    scale = 1.0 if cell == "rnn" else 2.0
    building.saved_model(tmp_path / "model", kind, documents=documents, cell=cell, scale=scale, **VARIANTS[variant])
    model = recomputation.read_model(tmp_path / "model")
    plain = recomputation.read_text(text)
    for mode in MODES:
        parts = recomputation.segments(model, plain, mode)
        expected, found = recomputation.score(model, parts), eval_json(tmp_path / "model", text, "--mode", mode)
        count, nats = len(expected.nats), math.fsum(expected.nats)
        assert found["tokens"] == count
        assert abs(found["nll_nats"] - nats) < 1e-5 * count
        unk = model.config["tokenizer"]["unk"]
        assert found["tokens_eos"] == expected.ids.count(model.config["tokenizer"]["eos"])
        assert found["tokens_unknown"] == (0 if unk is None else expected.ids.count(unk))
        known = [nats for token, nats in zip(expected.ids, expected.nats, strict=True) if token != unk]
        assert found["oov"]["excluding"] == pytest.approx(math.exp(math.fsum(known) / len(known)), rel=1e-4)
        for k in (1, 3, 5, 10):  # two tokens may change places with one that is as good as equal
            assert found["accuracy"][f"top{k}"] == pytest.approx(sum(r <= k for r in expected.ranks) / count, abs=2 / count)
        assert found["mrr10"] == pytest.approx(sum(1 / r for r in expected.ranks if r <= 10) / count, abs=2 / count)


def test_the_figures_follow_from_sum_and_counts(bpe_model: LoadedModel, text: Path, eval_json: Evaluate) -> None:
    found, plain = eval_json(bpe_model.path, text), recomputation.read_text(text)
    nats, words, size = found["nll_nats"], len(plain.split()), len(plain.encode())
    lines = plain.count("\n") + 1
    assert found["text"] == {
        "paths": [str(text)],
        "split": None,
        "sha256": hashlib.sha256(plain.encode()).hexdigest(),
        "bytes": size,
        "chars": len(plain),
        "words": words,
        "lines": lines,
        "documents": 1,
    }
    assert found["perplexity"] == pytest.approx(
        {
            "token": math.exp(nats / found["tokens"]),
            "word": math.exp(nats / words),
            "word_with_eos": math.exp(nats / (words + lines)),
            "byte": math.exp(nats / size),
        }
    )
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size)
    assert found["bits_per_char"] == pytest.approx(nats / math.log(2) / len(plain))
    assert found["oov"] == pytest.approx(
        {
            "rate": 0.0,
            "including": found["perplexity"]["token"],
            "excluding": found["perplexity"]["token"],
            "adjusted": None,
        }
    )
    assert found["schema"] == "lstmlm.eval/1"
    assert found["protocol"] == {
        "mode": "stream",
        "documents": "file",
        "start": "eos",
        "precision": "fp32",
        "approximate": False,
    }
    weights = (bpe_model.path / "model.safetensors").read_bytes()
    assert found["model"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert found["model"]["parameters"] == bpe_model.model.num_parameters
    assert found["confidence95"]["perplexity_token"] is None  # one block of lines says nothing of others
    assert found["rows"] == {}
    assert found["seconds"] >= 0 < found["tokens_per_second"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_chunk_size_does_not_change_the_figure(cell: str, mode: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # steps this short are faster alone
    source = write(tmp_path / "text.txt", building.text(40))
    loaded = building.saved_model(tmp_path / "m", "bpe", cell=cell, documents="blank-line", scale=1.0, num_layers=2)
    found = [evaluated(loaded, source, mode=mode, chunk=chunk) for chunk in (1, 7, 35, 1000)]
    sums = [result["nll_nats"] for result in found]
    assert max(sums) - min(sums) < 1e-6 * found[0]["tokens"]
    assert len({result["tokens"] for result in found}) == 1


@pytest.mark.parametrize("input", ["embedding", "one-hot"])
@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_a_model_that_knows_nothing_has_perplexity_v(kind: str, input: str, tmp_path: Path, text: Path) -> None:
    vocabulary = building.tokenizer(kind)
    model = building.model(vocabulary.vocabulary_size, input=input, tied=False)
    assert model.output.weight is not None
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    save_model(tmp_path / "m", model, vocabulary, documents="blank-line")
    for mode in MODES:
        found = evaluated(load_model(tmp_path / "m"), text, mode=mode)
        assert math.isclose(found["perplexity"]["token"], vocabulary.vocabulary_size, rel_tol=1e-12)
        if kind == "byte" and mode == "stream":  # per byte: three <eos> for three documents, two blank lines without tokens
            size = found["text"]["bytes"]
            assert found["tokens"] == size - 2 + 3
            assert math.isclose(found["bits_per_byte"], math.log2(257) * (size + 1) / size, rel_tol=1e-12)


def test_several_texts_are_one_pooled_result(bpe_model: LoadedModel, tmp_path: Path, eval_json: Evaluate) -> None:
    """Sums and counts add up, the state is reset between files; a mean of the perplexities is something else."""
    parts = ["the cat sat on the mat .\n", "zq#!\n" * 9, "she put the keys"]
    paths = [write(tmp_path / f"{number}.txt", part) for number, part in enumerate(parts)]
    single = [eval_json(bpe_model.path, path) for path in paths]
    for mode in ("stream", "document"):
        pooled = eval_json(bpe_model.path, *paths, "--mode", mode)
        nats, tokens = math.fsum(found["nll_nats"] for found in single), sum(found["tokens"] for found in single)
        assert pooled["nll_nats"] == pytest.approx(nats, rel=1e-6)
        assert pooled["tokens"] == tokens
        assert pooled["tokens_eos"] == 3
        for name in ("bytes", "chars", "words", "lines", "documents"):
            assert pooled["text"][name] == sum(found["text"][name] for found in single)
        assert pooled["text"]["sha256"] == hashlib.sha256("".join(parts).encode()).hexdigest()
        assert pooled["perplexity"]["token"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
        mean = sum(found["perplexity"]["token"] for found in single) / 3
        assert pooled["perplexity"]["token"] != pytest.approx(mean, rel=0.01)
        for k in (1, 10):
            right = sum(found["accuracy"][f"top{k}"] * found["tokens"] for found in single)
            assert pooled["accuracy"][f"top{k}"] * tokens == pytest.approx(right, abs=1)


def test_lines_are_scored_as_files_of_their_own(word_model: LoadedModel, tmp_path: Path, eval_json: Evaluate) -> None:
    """Of very different lengths, so that padding would show."""
    lines = ["the cat\n", "the man in the red hat fed the cat .\n", "a\n", "cat " * 60 + "\n", "\n", "the dog saw"]
    whole = eval_json(word_model.path, write(tmp_path / "all.txt", "".join(lines)), "--mode", "line")
    single = [evaluated(word_model, write(tmp_path / "one.txt", line)) for line in lines if line.strip()]
    blank = recomputation.score(recomputation.read_model(word_model.path), [[word_model.tokenizer.eos]])
    assert whole["tokens"] == sum(found["tokens"] for found in single) + 1
    assert whole["nll_nats"] == pytest.approx(math.fsum(found["nll_nats"] for found in single) + blank.nats[0], rel=1e-6)


def test_stream_carries_what_document_and_line_forget(bpe_model: LoadedModel, source: Path) -> None:
    found = {mode: evaluated(bpe_model, source, mode=mode) for mode in MODES}
    assert len({result["tokens"] for result in found.values()}) == 1
    assert found["stream"]["nll_nats"] == found["document"]["nll_nats"]  # one file, one document
    assert abs(found["stream"]["nll_nats"] - found["line"]["nll_nats"]) > 0.1


@pytest.mark.parametrize("length", [1, 2, 511, 512, 513, 1023, 1024, 1025])
def test_no_token_is_dropped_at_the_end_of_a_chunk(length: int, tmp_path: Path) -> None:
    """One byte more is one token more, and its nats are those a shorter text already had plus its own."""
    loaded = building.saved_model(tmp_path / "m", "byte", scale=1.0)
    text = ("the cat sat on a mat and saw the dog " * 30)[:length]
    found = evaluated(loaded, write(tmp_path / "t.txt", text.replace(" ", "_")))
    assert (found["tokens"], found["tokens_eos"], found["text"]["bytes"]) == (length + 1, 1, length)
    expected = recomputation.score(recomputation.read_model(loaded.path), [[*text.replace(" ", "_").encode(), 256]])
    assert found["nll_nats"] == pytest.approx(math.fsum(expected.nats), abs=1e-5 * (length + 1))


def test_dropout_is_off(tmp_path: Path, text: Path, bpe_model: LoadedModel) -> None:
    dropout: dict[str, Any] = {"dropout_input": 0.9, "dropout_hidden": 0.9, "dropout_output": 0.9}
    loaded = building.saved_model(tmp_path / "m", "bpe", **dropout)
    assert evaluated(loaded, text)["nll_nats"] == evaluated(bpe_model, text)["nll_nats"]


def test_unknown_words_are_counted_and_kept_apart(word_model: LoadedModel, tmp_path: Path, eval_json: Evaluate) -> None:
    path = write(tmp_path / "t.txt", "the zebra saw the <unk> and the cat .\n")
    found = eval_json(word_model.path, path)
    assert (found["tokens"], found["tokens_unknown"], found["tokens_eos"]) == (10, 2, 1)
    assert found["oov"]["rate"] == pytest.approx(0.2)
    assert found["oov"]["including"] == found["perplexity"]["token"]
    assert found["oov"]["excluding"] != pytest.approx(found["oov"]["including"], rel=1e-3)
    assert found["lossless"] is False


def test_unknown_words_are_counted_as_the_tokenizer_reads_them(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("word", lowercase=True)
    save_model(tmp_path / "m", building.model(tokenizer.vocabulary_size), tokenizer)
    found = evaluated(load_model(tmp_path / "m"), write(tmp_path / "t.txt", "Zebra zebra ZEBRA QUOKKA The cat\n"))
    assert (found["tokens_unknown"], found["unknown_types"]) == (4, 2)


def test_blank_lines_that_no_token_spells_are_said_to_be_counted(tmp_path: Path) -> None:
    loaded = building.saved_model(tmp_path / "m", "bpe", documents="blank-line")
    rule = CorpusConfig(documents="blank-line")
    texts = [write(tmp_path / str(blank), ("the cat sat .\n" + "\n" * blank) * 30) for blank in (1, 20)]
    once, often = (evaluate(loaded, open_texts([path], rule, None)) for path in texts)
    assert once["nll_nats"] == often["nll_nats"]
    assert once["warnings"] == []
    assert [warning for warning in often["warnings"] if warning.startswith("600 bytes are blank lines")]


def test_lossless_is_a_statement_about_this_text(tmp_path: Path) -> None:
    loaded = building.saved_model(tmp_path / "m", "char")
    assert evaluated(loaded, write(tmp_path / "known.txt", "the cat .\n"))["lossless"] is True
    assert evaluated(loaded, write(tmp_path / "unknown.txt", "the \u732b .\n"))["lossless"] is False


def test_the_vocabulary_has_nothing_from_held_out_text(tmp_path: Path, eval_json: Evaluate) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder / "train.txt", building.text())
    write(folder / "valid.txt", "the cat validates the dog .\n" * 5)
    write(folder / "test.txt", "the cat tests the test .\n" * 5)
    building.trained(tmp_path / "run", folder, "word", steps=4)
    model = recomputation.read_model(load_model(tmp_path / "run").path.resolve())
    assert not {"validates", "tests", "test"} & model.tokenizer.get_vocab().keys()
    assert eval_json(tmp_path / "run")["tokens_unknown"] == 2 * 5
    assert eval_json(tmp_path / "run", "--split", "valid")["tokens_unknown"] == 5
    assert eval_json(tmp_path / "run", folder / "valid.txt")["text"]["words"] == 6 * 5


def test_training_validates_with_the_same_figure(trained_run: Path, eval_json: Evaluate) -> None:
    events = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    best = min(event["loss"] for event in events if event["event"] == "validation")
    found = eval_json(trained_run, "--split", "valid")
    assert found["nll_nats"] / found["tokens"] == pytest.approx(best, rel=1e-9)


def broken(path: Path, value: float, change: str = "all") -> Path:
    vocabulary = building.tokenizer("char")
    model = building.model(vocabulary.vocabulary_size)
    with torch.no_grad():
        model.output.bias[slice(None) if change == "all" else vocabulary.encode("q")[0]] = value
    save_model(path, model, vocabulary)
    return path


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_is_not_finite_is_an_error(
    value: float, tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", str(broken(tmp_path / "m", value)), str(text), "--json", "-"]) == 7
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "token 0 of the text has no finite probability" in captured.err


def test_a_perplexity_beyond_every_float_is_null(tmp_path: Path, eval_json: Evaluate) -> None:
    """All on one symbol that the text does not have: finite nats, no finite exponential, and still strict JSON."""
    found = eval_json(broken(tmp_path / "m", 1e5, "z"), write(tmp_path / "t.txt", "the cat"))
    assert found["nll_nats"] > 700 * found["tokens"]
    assert found["perplexity"] == {"token": None, "word": None, "word_with_eos": None, "byte": None}
    assert found["oov"]["including"] is found["oov"]["excluding"] is None
    assert found["bits_per_byte"] > 0


def test_json_goes_to_a_file_too(
    bpe_model: LoadedModel, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], eval_json: Evaluate
) -> None:
    assert run(["eval", str(bpe_model.path), str(text), "--json", str(tmp_path / "r.json")]) == 0
    assert "perplexity" in capsys.readouterr().out
    saved, printed = json.loads((tmp_path / "r.json").read_text()), eval_json(bpe_model.path, text)
    clock = {"seconds", "tokens_per_second"}
    assert saved.keys() == printed.keys()
    assert all(saved[name] == printed[name] for name in saved.keys() - clock)


@pytest.mark.parametrize("content", ["", "\n\n", " \t\n"])
def test_a_text_without_text_is_refused(
    content: str, bpe_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", str(bpe_model.path), str(write(tmp_path / "t.txt", content))]) == 4
    assert "empty" in capsys.readouterr().err


def test_an_unknown_mode_or_split_is_refused(bpe_model: LoadedModel, text: Path) -> None:
    with pytest.raises(UsageError, match="mode is 'sentence'; expected one of stream, document, line"):
        evaluated(bpe_model, text, mode="sentence")
    with pytest.raises(UsageError, match="no valid split"):
        evaluated(bpe_model, text, split="valid")
