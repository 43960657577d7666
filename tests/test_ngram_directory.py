"""An n-gram model on disk, in other toolkits' format, and on the command line."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import building
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.cli.main import run
from lstmlm.config import TOKENIZERS
from lstmlm.corpus import Piece
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.ngram import LoadedNGram, arpa_lines, load_ngram, save_ngram, train_ngram
from lstmlm.ngram.arpa import arpa_symbols
from lstmlm.token_store import read_segments
from lstmlm.tokenizer import Tokenizer

HELD_OUT = "the cat saw the red rug .\nthe zebra can't sit .\n\non a mat\n"


def saved(path: Path, kind: str, order: int = 3) -> LoadedNGram:
    tokenizer = building.tokenizer(kind)
    texts, _ = read_segments(tokenizer, [[Piece(building.text(), ends_document=True)]])
    model = train_ngram(texts, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=order)
    save_ngram(path, model, tokenizer, documents="file", training={"tokens": len(texts[0])})
    return load_ngram(path)


def held_out(tokenizer: Tokenizer) -> np.ndarray:
    segments, _ = read_segments(tokenizer, [[Piece(HELD_OUT, ends_document=True)]])
    return segments[0]


@pytest.fixture
def ngrams(tmp_path: Path) -> LoadedNGram:
    return saved(tmp_path / "ngrams", "word")


# -- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 4])
def test_what_is_loaded_is_what_was_saved(order: int, tmp_path: Path) -> None:
    first = saved(tmp_path / "first", "word", order)
    save_ngram(tmp_path / "second", first.model, first.tokenizer, documents="file", training=first.training)
    second = load_ngram(tmp_path / "second")
    ids = held_out(first.tokenizer)
    assert (first.model.score(ids) == second.model.score(ids)).all()
    assert (first.sha256, first.training, second.model.order) == (second.sha256, second.training, order)


def test_each_kind_of_model_says_so_where_the_other_is_asked_for(ngrams: LoadedNGram, word_model: LoadedModel) -> None:
    with pytest.raises(ArtefactError, match=r"not that of an lstmlm model \(its format is 'lstmlm-ngram'\)"):
        load_model(ngrams.path)
    with pytest.raises(ArtefactError, match=r"not that of an n-gram model \(its format is 'lstmlm-model'\)"):
        load_ngram(word_model.path)


def test_a_directory_that_exists_is_not_touched(ngrams: LoadedNGram) -> None:
    with pytest.raises(UsageError, match="exists"):
        save_ngram(ngrams.path, ngrams.model, ngrams.tokenizer, documents="file")


def falling(tensors: dict[str, Tensor]) -> None:
    tensors["keys.2"] = tensors["keys.2"].flip(0)


def far(tensors: dict[str, Tensor]) -> None:
    tensors["keys.3"][-1] = 1 << 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (falling, "order 2 are not those of an n-gram model"),
        (far, "order 3 are not those of an n-gram model"),
        (lambda tensors: tensors["backoff.1"].fill_(2), "order 1 are not those"),
        (lambda tensors: tensors["discounted.2"].fill_(math.nan), "order 2 are not those"),
        (lambda tensors: tensors.pop("discounted.2"), "tensor discounted.2 is absent"),
        (lambda tensors: tensors.update({"keys.2": tensors["keys.2"].float()}), "tensor keys.2 is float32"),
        (lambda tensors: tensors.update({"backoff.2": torch.ones(1)}), "order 2 are not of one length"),
        (lambda tensors: tensors.update({"more": torch.ones(1)}), "does not hold the arrays"),
        (lambda tensors: tensors.pop("uniform"), "does not hold the arrays"),
        (lambda tensors: [tensors.pop(name) for name in ("keys.3", "discounted.3", "backoff.2")], "has order 2, which is"),
    ],
)
def test_arrays_that_cannot_be_are_refused(
    ngrams: LoadedNGram, change: Callable[[dict[str, Tensor]], object], said: str
) -> None:
    path = ngrams.path / "ngram.safetensors"
    tensors = load_file(path)
    change(tensors)
    path.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    manifest = json.loads((ngrams.path / "MANIFEST.json").read_text())
    manifest["files"][path.name] = {
        "size": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (ngrams.path / "MANIFEST.json").write_text(json.dumps(manifest) + "\n")
    with pytest.raises(ArtefactError) as caught:
        load_ngram(ngrams.path)
    assert said in str(caught.value)


# -- ARPA -------------------------------------------------------------------------------------------------------------


class Arpa:
    """A reader of the format by its definition: the longest n-gram that is listed, times what the longer ones give."""

    def __init__(self, lines: list[str]) -> None:
        self.log10: dict[tuple[str, ...], float] = {}
        self.backoff: dict[tuple[str, ...], float] = {}
        self.announced: dict[int, int] = {}
        order = 0
        for line in lines:
            if line.startswith("ngram "):
                number, count = line.removeprefix("ngram ").split("=")
                self.announced[int(number)] = int(count)
            elif line.endswith("-grams:"):
                order = int(line[1:].partition("-")[0])
            elif "\t" in line:
                log10, gram, *backoff = line.split("\t")
                words = tuple(gram.split(" "))
                assert len(words) == order
                assert words not in self.log10
                self.log10[words] = float(log10)
                self.backoff[words] = float(backoff[0]) if backoff else 0.0
        assert lines[0] == "\\data\\"
        assert lines[-1] == "\\end\\"

    def score(self, context: tuple[str, ...], word: str) -> float:
        """log10 p(word | context)"""
        if (*context, word) in self.log10:
            return self.log10[(*context, word)]
        return self.backoff.get(context, 0.0) + self.score(context[1:], word)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_arpa_file_gives_the_same_scores(kind: str, tmp_path: Path) -> None:
    loaded = saved(tmp_path / "ngrams", kind, 4)
    symbols = arpa_symbols(loaded.tokenizer)
    assert len(set(symbols)) == len(symbols)
    assert not any(character.isspace() for symbol in symbols for character in symbol)
    arpa = Arpa("".join(arpa_lines(loaded.model, symbols)).splitlines())
    extra = loaded.tokenizer.unk is None
    assert arpa.announced == {
        number: len(grams.keys_G) + (extra and number == 1) for number, grams in enumerate(loaded.model.orders, 1)
    }
    assert sum(arpa.announced.values()) == len(arpa.log10)
    context: tuple[str, ...] = ("<s>",)
    found = []
    ids = held_out(loaded.tokenizer)
    for token in map(int, ids):
        found.append(-arpa.score(context, symbols[token]) * math.log(10))
        context = ("<s>",) if token == loaded.tokenizer.eos else (*context, symbols[token])[-3:]
    np.testing.assert_allclose(found, loaded.model.score(ids), atol=1e-5)


def test_kenlm_reads_the_arpa_file_alike(ngrams: LoadedNGram, tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    path = tmp_path / "model.arpa"
    path.write_text("".join(arpa_lines(ngrams.model, arpa_symbols(ngrams.tokenizer))))
    model = kenlm.Model(str(path))
    ids = held_out(ngrams.tokenizer)
    symbols = [ngrams.tokenizer.describe(token) for token in map(int, ids)]
    found: list[float] = []
    for line in " ".join(symbols).split("<eos>")[:-1]:
        found += [-math.log(10) * log10 for log10, _, _ in model.full_scores(line.strip())]
    np.testing.assert_allclose(found, ngrams.model.score(ids), atol=1e-4)


def test_words_that_the_format_keeps_for_itself_stay_words() -> None:
    tokenizer = building.tokenizer("word", "<s> </s> \\<s> <UNK> \\x20 a\u00a0b\n" * 3)
    symbols = arpa_symbols(tokenizer)
    assert len(set(symbols)) == len(symbols)
    assert not {"<s>", "<UNK>"} & set(symbols)
    assert symbols.count("</s>") == symbols.count("<unk>") == 1


# -- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def trained(source: Path, tmp_path: Path) -> Path:
    assert run(["ngram", str(source), "--tokenizer", "word", "--order", "3", "-o", str(tmp_path / "trained")]) == 0
    return tmp_path / "trained"


def test_an_ngram_model_is_trained_and_evaluated_by_the_same_commands(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = tmp_path / "trained"
    assert run(["ngram", str(source), "--tokenizer", "word", "--order", "3", "-o", str(trained)]) == 0
    out, err = capsys.readouterr()
    assert "given up to 2 tokens before it" in out
    assert "perplexity per word" in out
    assert "n-grams of up to 3 tokens" in err
    assert run(["eval", str(trained), "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    loaded = load_ngram(trained)
    assert result["model"]["order"] == 3
    assert result["model"]["parameters"] == loaded.model.num_parameters
    assert result["perplexity"]["word"] == pytest.approx(float(out.split("perplexity per word")[1].split()[0]), abs=0.01)
    assert result["text"]["sha256"] == loaded.training["text_sha256"]["test"]
    assert 0 < result["accuracy"]["top1"] <= result["accuracy"]["top3"] <= 1


def test_ranks_count_what_is_likelier(ngrams: LoadedNGram, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "held-out.txt"
    path.write_text(HELD_OUT)
    assert run(["eval", str(ngrams.path), str(path), "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    context, first = ngrams.model.start, 0
    ids = held_out(ngrams.tokenizer)
    for token in map(int, ids):
        first += int(np.argmax(ngrams.model.probabilities(context)) == token)
        context = ngrams.model.advance(context, token)
    assert result["accuracy"]["top1"] == first / len(ids)
    assert result["nll_nats"] == pytest.approx(float(ngrams.model.score(ids).sum()))


@pytest.mark.parametrize("mode", ["document", "line"])
def test_an_ngram_model_has_no_more_memory_in_one_mode_than_in_another(
    mode: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = []
    for chosen in ("stream", mode):
        capsys.readouterr()
        assert run(["eval", str(trained), "--mode", chosen, "--json", "-"]) == 0
        figures.append(json.loads(capsys.readouterr().out)["nll_nats"])
    assert figures[0] == pytest.approx(figures[1])


def test_the_tokenizer_can_be_another_models(
    source: Path, bpe_model: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alike"
    assert run(["ngram", str(source), "--from", str(bpe_model.path), "-o", str(path)]) == 0
    assert load_ngram(path).tokenizer.fingerprint == bpe_model.tokenizer.fingerprint
    capsys.readouterr()
    assert run(["ngram", str(source), "--from", str(bpe_model.path), "--tokenizer", "word", "-o", str(path) + "2"]) == 2
    assert "leave --tokenizer or --from away" in capsys.readouterr().err
    assert run(["ngram", str(source), "--order", "2", "-o", str(path)]) == 2
    assert "exists" in capsys.readouterr().err


def test_arpa_is_printed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["arpa", str(trained)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("\\data\\\nngram 1=")
    assert out.endswith("\n\\end\\\n")
    assert err == ""


def test_info_tells_what_it_is(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["info", str(trained), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["kind"], about["order"], about["tokenizer"]["kind"]) == ("ngram", 3, "word")
    assert about["ngrams"] == load_ngram(trained).model.num_parameters


def test_the_vocabulary_has_the_size_that_was_asked_for(source: Path, tmp_path: Path) -> None:
    for size in (300, 320):
        assert run(["ngram", str(source), "--vocab-size", str(size), "-o", str(tmp_path / str(size))]) == 0
        assert load_ngram(tmp_path / str(size)).tokenizer.vocabulary_size == size
