"""Beam search against exhaustive search, where every continuation can be looked at; ends, limits and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import building
import pytest
import torch
from test_generation import GREEDY, PROMPTS, biased, written
from test_respelling import brute_force, next_log_probabilities

from lstmlm import beam
from lstmlm.beam import beam_search
from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.config import BeamConfig
from lstmlm.errors import UsageError
from lstmlm.generation import Session
from lstmlm.tokenizer import EOS, UNK

KINDS = ("word", "char", "byte", "bpe")
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
SAID = {"word": ["a", "b", EOS], "char": ["a", "b", " ", EOS], "byte": ["a", " ", EOS], "bpe": ["a", "b", " ab", " ", EOS]}
LIMIT = 3


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    """Models that only ever say a few tokens."""
    models = {}
    for kind in KINDS:
        options = {"vocabulary_size": 259} if kind == "bpe" else {"min_count": 1} if kind == "word" else {}
        tokenizer = building.tokenizer(kind, " ab ab ab a b\n" * 9, **options)
        model = building.model(tokenizer.vocabulary_size, seed=5, scale=2.0)
        with torch.no_grad():
            for token in range(tokenizer.vocabulary_size):
                model.output.bias[token] -= 0.0 if tokenizer.describe(token) in SAID[kind] else 80.0
        path = tmp_path_factory.mktemp(kind) / "toy"
        save_model(path, model, tokenizer)
        models[kind] = load_model(path)
    return models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    return {kind: building.saved_model(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}


Ranked = tuple[float, str, str, float]


def exhaustive(model: LoadedModel, prompt: str, stop: Sequence[str], penalty: float, ngram: int) -> list[Ranked]:
    """Score, text, reason and ln p of every continuation, the best first; of equal texts only the best."""
    tokenizer, session = model.tokenizer, Session(model)
    said = [token for token in range(tokenizer.vocabulary_size) if tokenizer.describe(token) in SAID[tokenizer.kind]]
    cut = session.spelling.cut(prompt)
    ids, skipped = tokenizer.encode(prompt), 0
    starts: list[tuple[tuple[int, ...], float, int]] = [((), 0.0, 0)]
    if tokenizer.kind == "bpe" and cut.pending:
        ids, skipped = tokenizer.encode(cut.context), len(cut.pending)
        covers = brute_force(model, cut.context, cut.pending)
        total = math.log(math.fsum(math.exp(mass) for _, mass in covers))
        lengths = {path: sum(len(tokenizer.spelling(token)) for token in path) for path, _ in covers}
        starts = [(path, mass - total, int(lengths[path] > skipped)) for path, mass in covers]
    if tokenizer.kind == "word" and prompt[-1:].strip():
        skipped = len(tokenizer.decode(ids[-1:]))
    before = ids[-1:] if tokenizer.kind == "word" and skipped else []
    found: dict[str, Ranked] = {}

    def end(tokens: tuple[int, ...], logprob: float, length: int, reason: str, place: int | None = None) -> None:
        text = tokenizer.decode([*before, *tokens])[skipped:][:place]
        found[text] = max(found.get(text, (-math.inf,)), (logprob / length**penalty, text, reason, logprob))

    def visit(tokens: tuple[int, ...], logprob: float, length: int) -> None:
        text = tokenizer.decode([*before, *tokens])[skipped:]
        if places := [text.index(string) for string in stop if string in text]:
            return end(tokens, logprob, length, "stop", min(places))
        if length == LIMIT:
            return end(tokens, logprob, length, "length")
        sequence = [*ids, *tokens]
        log_probabilities_V = next_log_probabilities(model, sequence)
        seen = [tuple(sequence[first : first + ngram]) for first in range(len(sequence) - ngram + 1)]
        for token in said:
            if ngram and tuple([*sequence, token][-ngram:]) in seen:
                continue
            grown = logprob + float(log_probabilities_V[token])
            if token == tokenizer.eos and tokenizer.kind != "word":
                end(tokens, grown, length + 1, "eos")
            else:
                visit((*tokens, token), grown, length + 1)
        return None

    for tokens, logprob, length in starts:
        visit(tokens, logprob, length)
    return sorted(found.values(), reverse=True)


@EACH_KIND
@pytest.mark.parametrize(
    ("prompt", "stop", "penalty", "ngram"),
    [
        ("", (), 1.0, 0),
        ("a b a", (), 0.0, 0),
        ("ab ", ("b",), -1.0, 0),
        ("a", ("b a", "aa"), 1.0, 0),
        ("b b", (), 2.0, 2),
    ],
)
def test_with_enough_beams_it_is_exhaustive_search(
    toys: dict[str, LoadedModel], kind: str, prompt: str, stop: tuple[str, ...], penalty: float, ngram: int
) -> None:
    expected = [entry for entry in exhaustive(toys[kind], prompt, stop, penalty, ngram) if entry[3] > -40]
    config = BeamConfig(beams=200, length_penalty=penalty, no_repeat_ngram_size=ngram)
    for n in (1, min(12, len(expected))):
        found = beam_search(Session(toys[kind]), prompt, config, n=n, max_tokens=LIMIT, stop=stop)
        assert [(sample.text, sample.finish_reason) for sample in found] == [entry[1:3] for entry in expected[:n]]
        assert [sample.logprob for sample in found] == pytest.approx([entry[3] for entry in expected[:n]], abs=1e-4)


@EACH_KIND
@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.5, 1.0])
def test_it_ends_early_only_where_nothing_can_change(
    models: dict[str, LoadedModel], kind: str, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search() -> list[tuple[str, float]]:
        config = BeamConfig(beams=4, length_penalty=penalty)
        found = beam_search(Session(models[kind]), "the c", config, n=2, max_tokens=12, stop=("t", "."))
        return [(sample.text, round(sample.logprob, 4)) for sample in found]

    early = search()
    monkeypatch.setattr(beam, "_decided", lambda *_: False)
    assert search() == early


@pytest.mark.parametrize("kind", ["word", "char", "byte"])
def test_one_beam_is_greedy_where_no_text_ends(tmp_path: Path, kind: str) -> None:
    model = biased(tmp_path, kind, eos=-1000.0)
    (found,) = beam_search(Session(model), "the c", BeamConfig(beams=1), max_tokens=12)
    assert found.text == written(model, "the c", GREEDY, max_tokens=12)


@EACH_KIND
@pytest.mark.parametrize("prompt", PROMPTS)
def test_continuations_differ_and_are_ranked(models: dict[str, LoadedModel], kind: str, prompt: str) -> None:
    session = Session(models[kind])
    found = beam_search(session, prompt, BeamConfig(beams=4, length_penalty=0.0), n=4, max_tokens=6, logprobs=2)
    assert 1 <= len({sample.text for sample in found}) == len(found) <= 4
    assert [sample.logprob for sample in found] == sorted((sample.logprob for sample in found), reverse=True)
    for sample in found:
        total = math.fsum(token.logprob for token in sample.tokens)
        assert total >= sample.logprob - 1e-6  # what is not a token: the spelling of what was given, the end
        if kind != "bpe" and sample.finish_reason == "length":
            assert total == pytest.approx(sample.logprob)
        assert all(len(token.top) == 2 for token in sample.tokens)
    assert written(session, prompt, seed=3, max_tokens=9) == written(models[kind], prompt, seed=3, max_tokens=9)


@EACH_KIND
def test_the_end_of_a_document_ends_a_path(tmp_path: Path, kind: str) -> None:
    model = biased(tmp_path, kind, eos=1000.0)
    (found,) = beam_search(Session(model), "the cat\n", BeamConfig(), max_tokens=3)
    assert (found.text, found.finish_reason) == (("\n\n\n", "length") if kind == "word" else ("", "eos"))


@pytest.mark.parametrize("kind", ["word", "char"])
def test_the_unknown_is_never_written(tmp_path: Path, kind: str) -> None:
    model = biased(tmp_path, kind, unk=1000.0)
    for sample in beam_search(Session(model), "the 😀 ", BeamConfig(), n=5, max_tokens=5):
        assert sample.text
        assert UNK not in sample.text
        assert "\ufffd" not in sample.text


@EACH_KIND
def test_a_text_of_no_tokens_is_certain(models: dict[str, LoadedModel], kind: str) -> None:
    (found,) = beam_search(Session(models[kind]), "the c", BeamConfig(), n=2, max_tokens=0)
    assert (found.text, found.finish_reason, found.logprob, found.tokens) == ("", "length", 0.0, [])


def test_what_is_out_of_range_is_refused(bpe_model: LoadedModel) -> None:
    session = Session(bpe_model)
    for n in (0, 4):
        with pytest.raises(UsageError, match=f"n is {n}; expected a number from 1 to that of the beams, 3"):
            beam_search(session, "", BeamConfig(beams=3), n=n)
    with pytest.raises(UsageError, match="stop string is empty"):
        beam_search(session, "", BeamConfig(), stop=("",))
    for field, value in (("beams", 0), ("length_penalty", math.nan), ("length_penalty", 11.0), ("no_repeat_ngram_size", -1)):
        with pytest.raises(UsageError, match=f"{field} is {value}; expected"):
            BeamConfig(**{field: value})  # type: ignore[arg-type]
