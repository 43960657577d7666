"""Models compared on the same text: hand-made differences against brute force, and whole comparisons of small models."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.cli.main import run
from lstmlm.comparison import compare, comparing, paired
from lstmlm.comparison.paired import FLIPS, SignFlips, holm, sign_flip_test
from lstmlm.config import CorpusConfig
from lstmlm.corpus import Corpus, Part, Piece, open_texts
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation import evaluate
from lstmlm.evaluation.intervals import bootstrap_ratios
from lstmlm.ngram import load_ngram, save_ngram, train_ngram
from lstmlm.predictor import AnyModel

Compare = Callable[..., dict[str, Any]]
DIFFERENCES_C = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.2, 0.15, -0.3, 0.35, 0.1])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """40 documents of ten sentences, parted by blank lines."""
    path = tmp_path / "text.txt"
    path.write_text(building.text(400))
    return path


@pytest.fixture
def compare_json(capsys: pytest.CaptureFixture[str]) -> Compare:
    """`lstmlm compare ... --json -`: its standard output, which must be one strict JSON object and nothing else."""

    def command(*arguments: object) -> dict[str, Any]:
        code = run(["compare", *map(str, arguments), "--json", "-"])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        result: dict[str, Any] = json.loads(captured.out)
        return result

    return command


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Trained for a while on text like that of the tests."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "text.txt").write_text(building.text())
    building.trained(folder / "run", folder / "text.txt", "bpe", steps=150, validate_every=50)
    return load_model(folder / "run")


def noisy(loaded: LoadedModel, path: Path, size: float, seed: int = 1) -> LoadedModel:
    """The same model with weights that are off by a little."""
    model = load_model(loaded.path).model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))
    save_model(path, model, loaded.tokenizer, documents="blank-line")
    return load_model(path)


def ngrams(loaded: LoadedModel, path: Path, order: int = 3) -> AnyModel:
    ids, tokenizer = building.ids_of(loaded, building.text(60)), loaded.tokenizer
    save_ngram(
        path,
        train_ngram([ids], vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=order),
        tokenizer,
        documents="blank-line",
    )
    return load_ngram(path)


def opened(path: Path, documents: str = "blank-line") -> Corpus:
    return open_texts([path], CorpusConfig(documents=documents), None)


# -- Statistics -----------------------------------------------------------------------------------------------------------


def test_few_clusters_are_tested_by_all_flips() -> None:
    observed = abs(DIFFERENCES_C.sum())
    as_far = sum(
        abs(sum(sign * value for sign, value in zip(signs, DIFFERENCES_C, strict=True))) >= observed - 1e-12
        for signs in itertools.product((1, -1), repeat=10)
    )
    found = sign_flip_test(DIFFERENCES_C)
    assert (found.p, found.flips, found.exact) == (as_far / 1024, 1024, True)
    assert 0.01 < found.p < 0.2


def test_random_flips_come_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = sign_flip_test(DIFFERENCES_C).p
    monkeypatch.setattr(paired, "FLIPS", 1_000)  # too few to try all 1,024
    monkeypatch.setattr(paired, "_NUMBERS_AT_ONCE", 77)
    found = sign_flip_test(DIFFERENCES_C)
    assert (found.flips, found.exact) == (1_000, False)
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1_000))


def test_a_p_of_random_flips_is_never_0() -> None:
    assert sign_flip_test(np.full(200, 0.5)).p == 1 / (1 + FLIPS)
    assert sign_flip_test(np.full(13, 0.5)).p == 2 / 2**13
    assert sign_flip_test(np.zeros(50)).p == sign_flip_test(np.zeros(5)).p == 1.0


def test_signs_that_cancel_the_same_in_another_order_count() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating point, but as far from 0."""
    assert sign_flip_test(np.array([0.1, 0.2, 0.3])).p == 2 / 8
    assert sign_flip_test(np.array([0.1, 0.2, -0.3])).p == 1.0


def test_the_bootstrap_draws_differences_with_their_counts() -> None:
    """Against every possible draw of five clusters; 2,000 draws stand for 3,125."""
    differences_C, counts_C = DIFFERENCES_C[:5], np.array([10, 20, 5, 15, 50])
    every_MC = np.array(list(itertools.product(range(5), repeat=5)))
    ratios_M = differences_C[every_MC].sum(-1) / counts_C[every_MC].sum(-1)
    low, high = bootstrap_ratios(differences_C, {"delta": counts_C})["delta"]
    assert np.mean(ratios_M <= low) == pytest.approx(0.025, abs=0.015)
    assert np.mean(ratios_M >= high) == pytest.approx(0.025, abs=0.015)
    mirrored = bootstrap_ratios(-differences_C, {"delta": counts_C})["delta"]
    assert mirrored == pytest.approx((-high, -low))


def test_holm_on_the_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]


# -- Whole comparisons ----------------------------------------------------------------------------------------------------


def test_a_model_equals_itself(
    good: LoadedModel, text: Path, compare_json: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lstmlm", "compare", "a b", "c"])
    found = compare_json(good.path, good.path, text, "--documents", "blank-line")
    assert found["provenance"]["command"] == "lstmlm compare 'a b' c"
    (comparison,) = found["comparisons"]
    assert (comparison["delta"], comparison["confidence95"], comparison["p"]) == (0.0, [0.0, 0.0], 1.0)
    assert (comparison["wins"], comparison["ties"], comparison["win_rate"]) == (0, 40, 0.5)
    assert (comparison["verdict"], comparison["perplexity"]["change"], comparison["p_holm"]) == ("equal", 0.0, None)


def test_a_slightly_worse_model_is_found_worse_and_the_other_way_round(
    good: LoadedModel, text: Path, tmp_path: Path
) -> None:
    other = noisy(good, tmp_path / "other", 0.03)
    found, mirrored = (compare(models, opened(text)) for models in ([good, other], [other, good]))
    (there,), (back,) = found["comparisons"], mirrored["comparisons"]
    assert 0 < there["perplexity"]["change"] < 0.1
    assert there["confidence95"][0] < there["delta"] < there["confidence95"][1]
    assert there["confidence95"][0] > 0
    assert (there["verdict"], back["verdict"]) == ("worse", "better")
    assert there["p"] == back["p"] < 0.05
    assert back["delta"] == -there["delta"]
    assert back["confidence95"] == pytest.approx([-there["confidence95"][1], -there["confidence95"][0]])
    assert back["win_rate"] == pytest.approx(1 - there["win_rate"])
    assert back["win_rate"] > 0.5
    assert there["wins"] < back["wins"] == 40 - there["wins"] - there["ties"]
    assert there["perplexity"]["confidence95"] == pytest.approx([math.expm1(nats) for nats in there["confidence95"]])
    assert (1 + back["perplexity"]["change"]) * (1 + there["perplexity"]["change"]) == pytest.approx(1)


def test_the_figures_are_those_of_single_evaluations(good: LoadedModel, text: Path, tmp_path: Path) -> None:
    """And every sum is there to recompute a delta from."""
    grams = ngrams(good, tmp_path / "grams")
    for mode in ("stream", "document", "line"):
        found = compare([good, grams], opened(text), mode=mode)
        single = [evaluate(loaded, opened(text), mode=mode) for loaded in (good, grams)]
        for model, alone in zip(found["models"], single, strict=True):
            assert model["nll_nats"] == pytest.approx(alone["nll_nats"], rel=1e-7)
            assert math.fsum(model["cluster_nats"]) == pytest.approx(model["nll_nats"])
            assert sum(model["cluster_tokens"]) == model["tokens"] == alone["tokens"]
            assert model["mean"]["perplexity_token"] == pytest.approx(alone["perplexity"]["token"], rel=1e-6)
            assert model["mean"]["bits_per_byte"] == pytest.approx(alone["bits_per_byte"], rel=1e-6)
        assert {name: found["text"][name] for name in found["text"]} == single[0]["text"]
        assert sum(found["clusters"]["bytes"]) == found["text"]["bytes"]
        assert sum(found["clusters"]["words"]) == found["text"]["words"]
        first, second = (model["nll_nats"] for model in found["models"])
        assert found["comparisons"][0]["delta"] == pytest.approx((second - first) / found["models"][0]["tokens"])


def test_different_tokenizers_are_compared_by_bytes(good: LoadedModel, text: Path, tmp_path: Path) -> None:
    other = building.saved_model(tmp_path / "byte", "byte", scale=1.0, documents="blank-line")
    found, mirrored = (compare(models, opened(text)) for models in ([good, other], [other, good]))
    (comparison,), text_bytes = found["comparisons"], found["text"]["bytes"]
    assert (comparison["unit"], comparison["denominator"]) == ("bits per byte", text_bytes)
    bits = [evaluate(loaded, opened(text))["bits_per_byte"] for loaded in (good, other)]
    assert comparison["delta"] == pytest.approx(bits[1] - bits[0], rel=1e-6)
    low, high = comparison["confidence95"]
    assert low < comparison["delta"] < high
    change, words = comparison["perplexity"], found["text"]["words"]
    assert change["per"] == "word"
    assert change["change"] == pytest.approx(math.expm1(comparison["delta"] * math.log(2) * text_bytes / words))
    assert change["confidence95"][0] < change["change"] < change["confidence95"][1]
    assert mirrored["comparisons"][0]["delta"] == -comparison["delta"]
    assert mirrored["clusters"] == found["clusters"]
    assert mirrored["models"] == found["models"][::-1]
    for model in found["models"]:
        assert math.fsum(model["cluster_nats"]) == pytest.approx(model["nll_nats"])
        assert sum(model["cluster_tokens"]) == model["tokens"]


@pytest.mark.parametrize("documents", ["file", "blank-line"])
def test_clusters_are_the_same_text_for_every_tokenizer(
    documents: str, good: LoadedModel, tmp_path: Path, compare_json: Compare
) -> None:
    """Strange line ends and all: what a cluster says decodes to as many bytes as the cluster has."""
    strange = "\ufeff\n\n the cat\r\n\r\n\rsat \t on\n\n\nthe m\u00e4t .\n" * 150 + "no line end"
    path = tmp_path / "strange.txt"
    path.write_bytes(strange.encode())
    byte = building.saved_model(tmp_path / "byte", "byte", scale=1.0)
    found = compare_json(good.path, byte.path, path, "--documents", documents)
    assert found["clusters"]["count"] > 1
    clusters, tokens = found["clusters"], found["models"][1]["cluster_tokens"]
    assert compare_json(byte.path, good.path, path, "--documents", documents)["clusters"] == clusters
    plain = strange.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert sum(clusters["bytes"]) == len(plain.encode())
    if documents == "file":  # one <eos>, at the end of the only file
        assert min(found["models"][0]["cluster_tokens"]) >= 1_000  # of the longer tokens, whoever comes first
        assert [size + (place == len(tokens) - 1) for place, size in enumerate(clusters["bytes"])] == tokens


def test_several_runs_are_averaged_and_their_spread_is_shown(good: LoadedModel, text: Path, tmp_path: Path) -> None:
    runs = [noisy(good, tmp_path / f"run-{seed}", 0.05, seed) for seed in (1, 2, 3)]
    found = compare([good, runs], opened(text), names=["good", "noisy"])
    single = [compare([good, one], opened(text)) for one in runs]
    model, figures = found["models"][1], [one["models"][1]["mean"]["perplexity_token"] for one in single]
    assert (model["name"], [one["path"] for one in model["runs"]]) == ("noisy", [str(one.path) for one in runs])
    assert model["mean"]["perplexity_token"] == pytest.approx(np.mean(figures))
    assert model["sd"]["perplexity_token"] == pytest.approx(np.std(figures, ddof=1))
    assert found["models"][0]["sd"] is None
    deltas = [one["comparisons"][0]["delta"] for one in single]
    assert found["comparisons"][0]["delta"] == pytest.approx(np.mean(deltas))
    clusters = np.mean([one["models"][1]["cluster_nats"] for one in single], axis=0)
    assert model["cluster_nats"] == pytest.approx(clusters.tolist())


def test_three_models_are_corrected_for_being_several(
    good: LoadedModel, text: Path, tmp_path: Path, compare_json: Compare
) -> None:
    near, far = noisy(good, tmp_path / "near", 0.003), noisy(good, tmp_path / "far", 0.1)
    found = compare_json(good.path, near.path, far.path, text, "--documents", "blank-line")
    assert [one["model"] for one in found["comparisons"]] == [1, 2]
    assert [one["p_holm"] for one in found["comparisons"]] == holm([one["p"] for one in found["comparisons"]])
    assert found["comparisons"][1]["verdict"] == "worse"
    pair = compare([good, far], opened(text))["comparisons"][0]
    assert found["comparisons"][1]["confidence95"] == pair["confidence95"]
    assert pair["p_holm"] is None


def test_a_verdict_is_that_of_the_corrected_p(
    good: LoadedModel, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "sign_flip_test", lambda differences_C: SignFlips(0.03, 100, False))
    near, far = noisy(good, tmp_path / "near", 0.003), noisy(good, tmp_path / "far", 0.1)
    assert [one["verdict"] for one in compare([good, far], opened(text))["comparisons"]] == ["worse"]
    three = compare([good, near, far], opened(text))["comparisons"]
    assert [(one["p"], one["p_holm"], one["verdict"]) for one in three] == [(0.03, 0.06, "not distinguished")] * 2


def test_too_few_clusters_are_said_to_be(good: LoadedModel, source: Path, tmp_path: Path) -> None:
    found = compare([good, noisy(good, tmp_path / "other", 0.5)], opened(source, "file"))
    assert found["clusters"]["count"] < 6
    assert found["comparisons"][0]["verdict"] == "not distinguished"
    assert any("no difference can be found" in warning for warning in found["warnings"])
    source.write_text("the cat sat on the mat .\n")
    found = compare([good, noisy(good, tmp_path / "another", 0.5)], opened(source))
    (alone,) = found["comparisons"]
    assert any(warning.startswith("the text has 1 block of lines, too few") for warning in found["warnings"])
    assert (alone["confidence95"], alone["perplexity"]["confidence95"], alone["p"]) == (None, None, 1.0)


# -- What is refused ------------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_loses_text_is_compared_with_its_own_kind_alone(
    good: LoadedModel, word_model: LoadedModel, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="its word tokenizer does not keep it all"):
        compare([good, word_model], opened(text))
    char = building.saved_model(tmp_path / "char", "char")
    assert compare([good, char], opened(text))["comparisons"][0]["unit"] == "bits per byte"
    text.write_text(text.read_text() + "\u732b\u732b\n")
    with pytest.raises(UsageError, match="2 of its tokens are unknown"):
        compare([good, char], opened(text))
    assert compare([char, char], opened(text))["comparisons"][0]["verdict"] == "equal"


def test_a_text_that_changes_in_between_is_refused(good: LoadedModel, tmp_path: Path) -> None:
    contents = iter(["the cat sat .\n", "the cat sat on the mat .\n"])

    def read() -> Iterator[Piece]:
        yield Piece(next(contents), ends_document=True)

    corpus = Corpus(("moving.txt",), CorpusConfig(documents="file"), {"test": [Part("moving.txt", read)]})
    byte = building.saved_model(tmp_path / "byte", "byte")
    with pytest.raises(DataError, match="another text when it was read again"):
        compare([good, byte], corpus)


def test_what_cannot_be_runs_of_one_configuration_is_refused(good: LoadedModel, text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="differ by their seed alone"):
        compare([good, [good, building.saved_model(tmp_path / "byte", "byte")]], opened(text))
    with pytest.raises(UsageError, match="same weights twice"):
        compare([good, [good, good]], opened(text))
    for models in ([good], [good, []]):
        with pytest.raises(UsageError, match="two models or more"):
            compare(models, opened(text))
    with pytest.raises(UsageError, match="mode is 'sentence'"):
        compare([good, good], opened(text), mode="sentence")


def test_the_command_refuses_what_cannot_be_meant(
    good: LoadedModel, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = noisy(good, tmp_path / "other", 0.1)
    for arguments, code, said in (
        ([good.path], 2, "Missing argument"),
        ([good.path, text], 2, "expected two MODELs or more, and a TEXT"),
        ([good.path, good.path, other.path], 2, "there is no TEXT"),
        ([good.path, other.path, text], 2, "say which this text has with --documents"),
        ([good.path, f"{other.path},{tmp_path / 'missing'}", text], 2, "missing does not exist"),
        ([good.path, good.path, text, "--json", tmp_path / "no" / "where.json"], 2, "expected a file name"),
    ):
        assert run(["compare", *map(str, arguments)]) == code
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.out == ""


def test_the_report_says_what_was_found(
    pair: list[LoadedModel], good: LoadedModel, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ",".join(str(loaded.path.parent) for loaded in pair)
    options = ["--documents", "blank-line", "--json", tmp_path / "c.json", "--markdown", tmp_path / "c.md"]
    options += ["--html", tmp_path / "c.html"]
    assert run(["compare", *map(str, [good.path, runs, text, *options])]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (comparison,) = json.loads((tmp_path / "c.json").read_text())["comparisons"]
    for shown in (captured.out, (tmp_path / "c.md").read_text()):
        for said in ("B - A", "worse", f"{comparison['delta']:+.4f}", "40 documents", "standard deviation", "seconds"):
            assert said in shown
    page = (tmp_path / "c.html").read_text()
    assert f"{comparison['delta']:+.4f}" in page
    assert "B - A" in page
    assert not re.search(r"https?://|<script", page)
