"""Well-known mistakes in perplexities, one test each: the figure that the mistake gives, and that ours is the other one.

N tokens, V vocabulary
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import building
import numpy as np
import pytest
import torch
from torch import Tensor

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.config import CorpusConfig, TokenizerConfig
from lstmlm.corpus import Piece, open_corpus, open_texts
from lstmlm.errors import DivergedError
from lstmlm.evaluation import evaluate
from lstmlm.evaluation.curves import training_curves
from lstmlm.model.outputs import cross_entropy
from lstmlm.scoring import score_segments
from lstmlm.token_store import Ids, read_segments
from lstmlm.tokenizer import Tokenizer

LINES = ["the cat\n", "the man in the red hat fed the cat .\n", "a\n", "she put the keys on the table , then sat\n"] * 9
TEXT = "".join(LINES)


def report(loaded: LoadedModel, text: str, folder: Path, **options: Any) -> dict[str, Any]:
    path = folder / "evaluated.txt"
    path.write_text(text)
    return evaluate(loaded, open_texts([str(path)], CorpusConfig(documents=loaded.documents), None), **options)


def segments(loaded: LoadedModel, mode: str) -> list[Ids]:
    found, _ = read_segments(loaded.tokenizer, [[Piece(TEXT, ends_document=True)]], mode)
    return found


def logits(loaded: LoadedModel, parts: Sequence[Sequence[int]]) -> Tensor:
    """Of every token of some segments, [N, V]: by the definition, a whole segment at a time."""
    model, found = loaded.model, []
    with torch.no_grad():
        for ids in parts:
            inputs = torch.tensor([loaded.tokenizer.eos, *map(int, ids[:-1])])[:, None]
            found.append(model.logits(model(inputs, model.initial_state(1))[0][:, 0]))
    return torch.cat(found)


def surprisals(loaded: LoadedModel, parts: Sequence[Sequence[int]]) -> list[np.ndarray[Any, Any]]:
    """Nats of each token of each segment, in float64."""
    own = [torch.tensor(list(map(int, ids)))[:, None] for ids in parts]
    exact = [-logits(loaded, [ids]).double().log_softmax(-1).gather(1, o)[:, 0] for ids, o in zip(parts, own, strict=True)]
    return [nats_N.numpy() for nats_N in exact]


def pooled(parts: Sequence[np.ndarray[Any, Any]]) -> float:
    return math.exp(np.concatenate(parts).sum() / sum(map(len, parts)))


def check(found: float, right: float, *mistaken: float) -> None:
    """Ours is the right one, and could not be taken for another."""
    assert found == pytest.approx(right, rel=1e-5)
    for wrong in mistaken:
        assert abs(found / wrong - 1) > 1e-3


def test_mean_of_sentence_or_batch_perplexities(word_model: LoadedModel, tmp_path: Path) -> None:
    nats = surprisals(word_model, segments(word_model, "line"))
    of_sentences = np.mean([math.exp(part.mean()) for part in nats])
    of_batches = np.mean([pooled(nats[begin : begin + 5]) for begin in range(0, len(nats), 5)])
    exp_of_means = math.exp(np.mean([part.mean() for part in nats]))
    found = report(word_model, TEXT, tmp_path, mode="line")["perplexity"]["token"]
    check(found, pooled(nats), float(of_sentences), float(of_batches), exp_of_means)


@pytest.mark.parametrize("window", [35, 50, 64])
def test_last_batch_dropped(window: int, word_model: LoadedModel, tmp_path: Path) -> None:
    """What does not fill a window, or the rest of N over the columns of a batch; and the text's very first token."""
    (nats,) = surprisals(word_model, segments(word_model, "stream"))
    whole_windows = len(nats) // window * window
    assert whole_windows < len(nats)
    found = report(word_model, TEXT, tmp_path, chunk=window)
    check(found["perplexity"]["token"], pooled([nats]), pooled([nats[:whole_windows]]), pooled([nats[1:]]))
    assert found["tokens"] == len(nats)


def test_last_batch_dropped_from_the_sum_alone(word_model: LoadedModel, tmp_path: Path) -> None:
    """N - 1 tokens are scored, as nothing predicts the first, and N divide."""
    (nats,) = surprisals(word_model, segments(word_model, "stream"))
    found = report(word_model, TEXT, tmp_path)
    check(found["perplexity"]["token"], pooled([nats]), math.exp(nats[1:].sum() / len(nats)))


def test_padding_scored(word_model: LoadedModel, tmp_path: Path) -> None:
    """Lines filled up with `<eos>` to the longest of their batch."""
    parts, eos = segments(word_model, "line"), word_model.tokenizer.eos
    longest = max(map(len, parts))
    padded = surprisals(word_model, [[*ids, *[eos] * (longest - len(ids))] for ids in parts])
    only_in_denominator = math.exp(
        sum(nats[: len(ids)].sum() for nats, ids in zip(padded, parts, strict=True)) / len(parts) / longest
    )
    found = report(word_model, TEXT, tmp_path, mode="line")
    check(found["perplexity"]["token"], pooled(surprisals(word_model, parts)), pooled(padded), only_in_denominator)
    assert found["tokens"] == sum(map(len, parts)) < len(parts) * longest


@pytest.mark.parametrize("longest", [100, 128])
def test_truncation_with_the_full_length_in_the_denominator(longest: int, word_model: LoadedModel, tmp_path: Path) -> None:
    (nats,) = surprisals(word_model, segments(word_model, "document"))
    assert len(nats) > longest
    found = report(word_model, TEXT, tmp_path, mode="document")["perplexity"]["token"]
    check(found, pooled([nats]), math.exp(nats[:longest].sum() / len(nats)), pooled([nats[:longest]]))


def test_vocabulary_from_test_text(tmp_path: Path) -> None:
    """No word is unknown then, and the vocabulary knows of what it should not."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    held_out = "the zebra saw the giraffe .\n" * 5
    for name, content in (("train", building.text()), ("valid", held_out), ("test", held_out)):
        (folder / f"{name}.txt").write_text(content)
    building.trained(tmp_path / "run", folder, "word", steps=4)
    loaded = load_model(tmp_path / "run")
    mistaken = Tokenizer.train(TokenizerConfig(kind="word"), [Piece(building.text()), Piece(held_out, ends_document=True)])
    assert mistaken.unk not in mistaken.encode(held_out)
    assert loaded.tokenizer.vocabulary_size == mistaken.vocabulary_size - len({"zebra", "giraffe"})
    found = report(loaded, held_out, tmp_path)
    assert found["tokens_unknown"] == 2 * 5
    assert found["oov"]["including"] != pytest.approx(found["oov"]["excluding"], rel=1e-3)


def test_dropout_on(tmp_path: Path) -> None:
    """Also for a model that was left in training mode."""
    loaded = building.saved_model(tmp_path / "m", "word", dropout_hidden=0.5, dropout_input=0.3, num_layers=2)
    parts = segments(loaded, "stream")
    right = pooled(surprisals(loaded, parts))
    loaded.model.train()
    torch.manual_seed(1)
    mistaken = pooled(surprisals(loaded, parts))
    check(report(loaded, TEXT, tmp_path)["perplexity"]["token"], right, mistaken)


@pytest.mark.parametrize("columns", [3, 15])
def test_sampled_loss_reported_as_perplexity(columns: int, word_model: LoadedModel, tmp_path: Path) -> None:
    """A normalizer over some candidates and the target is too small, and so is the loss."""
    model, (ids,) = word_model.model, segments(word_model, "stream")
    inputs = torch.tensor([word_model.tokenizer.eos, *map(int, ids[:-1])])[:, None]
    with torch.no_grad():
        hidden, weight = model.output.factors(model(inputs, model.initial_state(1))[0][:, 0], model.tied_VE)
        sampled = cross_entropy(hidden, weight, model.output.bias, torch.from_numpy(ids.astype(np.int64)), columns)
    right = pooled(surprisals(word_model, [ids]))
    assert math.exp(float(sampled)) < right
    check(report(word_model, TEXT, tmp_path)["perplexity"]["token"], right, math.exp(float(sampled)))


def test_sampled_loss_in_training_is_no_perplexity_of_a_report(tmp_path: Path, source: Path) -> None:
    """Its validations are exact, and the curve of its steps says what it is."""
    building.trained(tmp_path / "run", source, "word", negatives=8)
    loaded = load_model(tmp_path / "run")
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(event["sampled"] for event in events if event["event"] == "step")
    curves = training_curves(loaded)
    assert curves is not None
    assert curves["sampled"] is True
    found = evaluate(loaded, open_corpus([str(source)]), "valid")
    assert found["nll_nats"] / found["tokens"] == pytest.approx(min(point["loss"] for point in curves["curve"]), rel=1e-9)


def test_bf16_normalizer(tmp_path: Path) -> None:
    """Eight bits of precision: single tokens and the sum are off by far more than rounding in float32."""
    loaded = building.saved_model(tmp_path / "m", "word")
    parts = segments(loaded, "stream")
    targets_N1 = torch.from_numpy(parts[0].astype(np.int64))[:, None]
    logits_NV = logits(loaded, parts)
    half_N = logits_NV.bfloat16().logsumexp(-1).float() - logits_NV.gather(1, targets_N1)[:, 0]
    all_half_N = -logits_NV.bfloat16().log_softmax(-1).gather(1, targets_N1)[:, 0].float()
    found = score_segments(loaded.model, parts, eos=loaded.tokenizer.eos).nats_N
    (exact,) = surprisals(loaded, parts)
    ours = np.abs(found - exact).max()
    assert ours < 1e-5
    for mistaken_N in (half_N, all_half_N):
        assert np.abs(mistaken_N.numpy() - exact).max() > 100 * ours
        assert abs(float(mistaken_N.double().sum()) - exact.sum()) > 100 * abs(found.sum() - exact.sum())


def test_skipping_infinite_surprisals(tmp_path: Path) -> None:
    """A word with probability 0 leaves no perplexity; without it, or with a least probability, there would be a good one."""
    loaded = building.saved_model(tmp_path / "m", "word", tied=False)
    with torch.no_grad():
        loaded.model.output.bias[loaded.tokenizer.encode("hat")[0]] = -math.inf
    (nats,) = surprisals(loaded, segments(loaded, "stream"))
    assert np.isinf(nats).sum() == TEXT.count("hat")
    assert math.isfinite(pooled([nats[np.isfinite(nats)]]))
    assert math.isfinite(pooled([np.minimum(nats, -math.log(1e-10))]))
    first = int(np.flatnonzero(np.isinf(nats))[0])
    with pytest.raises(DivergedError, match=f"token {first} of the text has no finite probability"):
        report(loaded, TEXT, tmp_path)
