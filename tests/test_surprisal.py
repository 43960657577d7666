"""The sum that evaluation reports, taken apart: nothing is lost, and every piece stands where it should."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import building
import conversing
import numpy as np
import pytest
import torch
from building import ODD_TEXT as TEXT
from building import ODD_WORDS as WORDS

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.config import BOUNDARIES, UNITS, CorpusConfig
from lstmlm.corpus import open_texts
from lstmlm.corpus.reading import into_documents
from lstmlm.errors import DataError, DivergedError, UsageError
from lstmlm.evaluation import evaluate
from lstmlm.generation import Session
from lstmlm.ngram import LoadedNGram, train_ngram
from lstmlm.predictor import NeuralPredictor, open_predictor
from lstmlm.surprisal import Surprisal, surprisals, surprisals_of

KINDS = ("word", "char", "byte", "bpe")


def pieces(found: list[Surprisal]) -> list[str]:
    return [unit.text for unit in found]


def nats(found: list[Surprisal]) -> float:
    return math.fsum(unit.nats for unit in found)


@pytest.fixture(scope="module", params=[f"{kind}, {rule}" for kind in KINDS for rule in ("file", "blank-line")])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    kind, rule = request.param.split(", ")
    return building.saved_model(tmp_path_factory.mktemp("surprisal") / "model", kind, documents=rule)


def ngram(kind: str) -> LoadedNGram:
    tokenizer = building.tokenizer(kind)
    ids = np.array(tokenizer.encode(building.text()), np.uint16)
    model = train_ngram([ids], vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=3)
    return LoadedNGram(Path(kind), model, tokenizer, "file")


def evaluated(model: LoadedModel | LoadedNGram, path: Path) -> dict[str, Any]:
    path.write_text(TEXT)
    return evaluate(model, open_texts([str(path)], CorpusConfig(documents=model.documents), None))


def check_sums(model: LoadedModel | LoadedNGram, expected: dict[str, Any]) -> None:
    tokens, words, lines = (surprisals(model, TEXT, per) for per in UNITS)
    assert (len(tokens), sum(line.tokens for line in lines)) == (expected["tokens"], expected["tokens"])
    assert nats(tokens) == pytest.approx(expected["nll_nats"], rel=1e-12)
    assert nats(lines) == pytest.approx(expected["nll_nats"], rel=1e-12)
    assert sum(token.unknown for token in tokens) == expected["tokens_unknown"]
    rest = [token for token in tokens if not token.text.strip() and not touches_a_word(token)]
    assert nats(words) + nats(rest) == pytest.approx(expected["nll_nats"], rel=1e-12)


def touches_a_word(token: Surprisal) -> bool:
    """Whether a token without a whole character begins one that is no white space."""
    return token.start == token.end < len(TEXT) and not TEXT[token.end].isspace()


def test_pieces_add_up_to_what_is_evaluated(loaded: LoadedModel, tmp_path: Path) -> None:
    check_sums(loaded, evaluated(loaded, tmp_path / "text.txt"))


@pytest.mark.parametrize("kind", KINDS)
def test_so_they_do_for_ngrams(kind: str, tmp_path: Path) -> None:
    model = ngram(kind)
    check_sums(model, evaluated(model, tmp_path / "text.txt"))


def test_pieces_stand_where_they_say(loaded: LoadedModel) -> None:
    for per in UNITS:
        found = surprisals(loaded, TEXT, per)
        assert all(unit.text == TEXT[unit.start : unit.end] for unit in found)
        assert all(before.end <= after.start for before, after in pairwise(found))
    assert pieces(surprisals(loaded, TEXT, "word")) == WORDS
    blank = ["", "", "  "] if loaded.documents == "file" else []
    kept = [line for line in TEXT.split("\n") if line.strip()]
    assert sorted(pieces(surprisals(loaded, TEXT, "line"))) == sorted(kept + blank)


def test_every_character_belongs_to_one_token(loaded: LoadedModel) -> None:
    tokens = surprisals(loaded, TEXT)
    if loaded.tokenizer.kind == "word":
        assert [text for text in pieces(tokens) if text.strip()] == WORDS
    else:
        kept = "".join(piece.text for piece in into_documents([TEXT], loaded.documents))
        assert "".join(pieces(tokens)) == kept


def test_a_token_is_as_unexpected_as_the_model_says_step_by_step(loaded: LoadedModel) -> None:
    """A session that reads the tokens of one document one by one."""
    text = TEXT.split("\n")[0]
    session = Session(loaded)
    expected = []
    for token in [*loaded.tokenizer.encode(text), loaded.tokenizer.eos]:
        expected.append(-float(session.next_logits().double().log_softmax(-1)[token]))
        session.step(token)
    found = surprisals(loaded, text)
    assert [token.nats for token in found] == pytest.approx(expected, abs=1e-5)
    assert [token.bits for token in found] == pytest.approx([value / math.log(2) for value in expected], abs=1e-5)


def test_a_session_answers_like_its_model_and_stays_where_it_is(bpe_model: LoadedModel) -> None:
    session = Session(bpe_model)
    session.read_text("the dog")
    before = list(session.ids), session.next_logits()
    for boundary in BOUNDARIES:
        assert surprisals(session, TEXT, boundary=boundary) == surprisals(bpe_model, TEXT, boundary=boundary)
    assert session.ids == before[0]
    assert session.next_logits().equal(before[1])


def test_a_token_that_ends_inside_a_character_counts_to_its_word() -> None:
    """A space and the first byte of a character are one token here."""
    tokenizer = building.tokenizer("bpe", "\u4e2d \u4e2d \u4e00 \u4e11 \u4e22 \u4e33" * 50, vocabulary_size=262)
    assert any(tokenizer.spelling(token) == b" \xe4\xb8" for token in tokenizer.encode(" \u4e01"))
    model = LoadedModel(Path("m"), building.model(tokenizer.vocabulary_size), tokenizer, "file")
    tokens, words = surprisals(model, "a \u4e01"), surprisals(model, "a \u4e01", "word")
    assert [(token.text, token.start, token.end) for token in tokens] == [
        ("a", 0, 1),
        (" ", 1, 2),
        ("\u4e01", 2, 3),
        ("", 3, 3),
    ]
    assert [(word.text, word.tokens) for word in words] == [("a", 1), ("\u4e01", 2)]


@pytest.mark.parametrize("kind", ["word", "bpe", "char", "byte"])
def test_offsets_are_those_of_the_text_before_normalization(kind: str, tmp_path: Path) -> None:
    tokenizer = building.tokenizer(kind, normalization="nfkc", lowercase=True)
    model = LoadedModel(tmp_path, building.model(tokenizer.vocabulary_size), tokenizer, "file")
    text = "THE \ufb01n cafe\u0301 \u0130 a\u00b4b \u2460 dog"
    assert pieces(surprisals(model, text, "word")) == text.split()
    assert "".join(pieces(surprisals(model, text))) == ("".join(text.split()) if kind == "word" else text)
    assert sum(word.tokens for word in surprisals(model, text, "word")) <= len(surprisals(model, text)) - 1


def test_with_trailing_boundaries_the_sums_stay_the_same(loaded: LoadedModel, tmp_path: Path) -> None:
    expected = evaluated(loaded, tmp_path / "text.txt")["nll_nats"]
    for per in ("token", "line"):
        assert nats(surprisals(loaded, TEXT, per, boundary="trailing")) == pytest.approx(expected, abs=1e-4)
    assert min(token.nats for token in surprisals(loaded, TEXT, boundary="trailing")) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_trailing_boundary_moves_from_the_next_token_to_the_word(kind: str) -> None:
    """Against the definition, from the probabilities of n-grams."""
    model, text = ngram(kind), "a dog\ncan't  sit"
    leading, trailing = (surprisals(model, text, "word", boundary=boundary) for boundary in BOUNDARIES)
    if kind == "word":
        assert trailing == leading
        return

    def end(place: int) -> float:
        """-ln p(a word ends here)"""
        context = model.model.start
        for token in model.tokenizer.encode(text[:place]):
            context = model.model.advance(context, token)
        probabilities_V = model.model.probabilities(context)
        first = [model.tokenizer.spelling(token)[:1] for token in range(len(probabilities_V))]
        white = [token for token, byte in enumerate(first) if byte and byte in b"\t\n\v\f\r\x1c\x1d\x1e\x1f "]
        return -math.log(probabilities_V[[*white, model.tokenizer.eos]].sum())

    gained = [end(1), end(5) - (end(1) if kind == "bpe" else 0), end(11), end(16)]  # " dog" has its space in bpe
    expected = [word.nats + more for word, more in zip(leading, gained, strict=True)]
    assert [word.nats for word in trailing] == pytest.approx(expected, abs=1e-6)


def test_probabilities_of_words_add_to_one_with_trailing_boundaries() -> None:
    """All words over one letter, and no word at all; with leading boundaries they add up to more than one."""
    tokenizer = building.tokenizer("char", "a aa aaa ")
    model = LoadedModel(Path("m"), building.model(tokenizer.vocabulary_size, scale=1.0), tokenizer, "file")
    letter, unk = tokenizer.encode("a")[0], tokenizer.unk
    first_V = Session(model).next_logits().double().softmax(-1)
    no_word = 1 - float(first_V[letter]) - float(first_V[unk])
    words = {}
    for boundary in BOUNDARIES:
        found = [surprisals(model, "a" * length, "word", boundary=boundary)[0] for length in range(1, 31)]
        words[boundary] = math.fsum(math.exp(-word.nats) for word in found)
    letters = [token.nats for token in surprisals(model, "a" * 30)]
    session = Session(model)
    for length in range(30):  # words that go on with an unknown letter
        unknown = float(session.next_logits().double().softmax(-1)[unk])
        no_word += math.exp(-math.fsum(letters[:length])) * unknown
        session.step(letter)
    assert no_word + words["trailing"] == pytest.approx(1, abs=1e-5)
    assert no_word + words["leading"] > 1.1


@pytest.mark.parametrize("per", UNITS)
def test_an_empty_text_has_no_pieces(word_model: LoadedModel, bpe_model: LoadedModel, per: str) -> None:
    assert surprisals(word_model, "", per) == surprisals(bpe_model, "", per) == []


def test_half_a_character_is_refused(bpe_model: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"no character is U\+D800, at 2"):
        surprisals(bpe_model, "a \ud800")


def test_the_units_are_these(bpe_model: LoadedModel) -> None:
    with pytest.raises(UsageError, match="per is 'page'; expected one of token, word, line"):
        surprisals(bpe_model, TEXT, "page")
    with pytest.raises(UsageError, match="boundary is 'none'; expected one of leading, trailing"):
        surprisals(bpe_model, TEXT, boundary="none")


@pytest.mark.parametrize("rule", ["file", "blank-line"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_cut_where_nobody_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rule: str
) -> None:
    model = building.saved_model(tmp_path / "model", kind, documents=rule)
    text = f"{TEXT}\n\n{TEXT}\n"
    expected = [surprisals(model, text, per) for per in UNITS]
    monkeypatch.setattr("lstmlm.surprisal._CHARACTERS_AT_ONCE", 3)
    assert [surprisals(model, text, per) for per in UNITS] == expected
    for unit in expected[0]:
        assert unit.line == 1 + text.count("\n", 0, max(0, unit.end - (unit.text == "\n"))) or unit.start == unit.end


def test_several_texts_are_read_each_from_the_start(loaded: LoadedModel) -> None:
    texts = [TEXT, "", "the cat", TEXT + "\n"]
    for boundary in BOUNDARIES:
        for text, found in zip(texts, surprisals_of(loaded, texts, "word", boundary=boundary), strict=True):
            alone, together = surprisals(loaded, text, "word", boundary=boundary), list(found)
            assert pieces(together) == pieces(alone)
            assert [word.nats for word in together] == pytest.approx([word.nats for word in alone], abs=1e-5)


def test_what_was_expected(tmp_path: Path) -> None:
    """In a model whose probabilities are known: the -> cat .5, can .4, dog .1; cat -> sat .9, can .1."""
    model = conversing.bigram_model(tmp_path / "model")
    text = "the can\ncat can"
    places = [conversing.UNIGRAM, conversing.BIGRAMS["the"], None, None, conversing.BIGRAMS["cat"], None]
    ways = {
        "as it is": open_predictor(model),
        "step by step": Stepping(model),
    }
    for way, predictor in ways.items():
        for boundary in BOUNDARIES:
            found = surprisals(predictor, text, boundary=boundary, expectations=True)
            assert len(found) == len(places)
            for token, known in zip(found, places, strict=True):
                expectation = token.expectation
                assert expectation is not None, way
                entropy = -sum(p * math.log(p) for p in (known or conversing.UNIGRAM).values())
                assert expectation.entropy_nats == pytest.approx(entropy, abs=1e-4)
                assert expectation.entropy_bits == pytest.approx(entropy / math.log(2), abs=1e-4)
                guess, probability = max((known or conversing.UNIGRAM).items(), key=lambda item: item[1])
                assert (expectation.guess, expectation.probability) == (guess, pytest.approx(probability, abs=1e-4))
            assert [token.expectation.rank for token in found if token.expectation] == [1, 2, 5, 2, 2, 5]
    words = surprisals(Stepping(model), text, "word", expectations=True)
    assert [word.expectation for word in words] == [found[place].expectation for place in (0, 1, 3, 4)]
    assert surprisals(model, text)[0].expectation is None


class Stepping(NeuralPredictor):
    """Reads token by token, as what learns must."""

    learns = True


def test_of_a_word_what_was_expected_is_that_of_its_first_token(bpe_model: LoadedModel) -> None:
    tokens, words = (surprisals(bpe_model, "a can't find", per, expectations=True) for per in ("token", "word"))
    first = [0]
    for word in words[:-1]:
        first.append(first[-1] + word.tokens)
    assert [word.expectation for word in words] == [tokens[place].expectation for place in first]


@pytest.mark.parametrize("kind", KINDS)
def test_ngrams_expect_something_too(kind: str) -> None:
    model = ngram(kind)
    for token in surprisals(model, "the cat sat", expectations=True):
        assert token.expectation is not None
        if token.expectation.rank == 1:
            assert math.exp(-token.nats) == pytest.approx(token.expectation.probability)
        else:
            assert math.exp(-token.nats) <= token.expectation.probability


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_progress_counts_every_token(bpe_model: LoadedModel, boundary: str) -> None:
    seen: list[tuple[int, int]] = []
    tokens = surprisals(bpe_model, TEXT * 30, boundary=boundary, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (len(tokens), len(tokens))
    assert len(seen) > 1
    assert all(before < after for (before, _), (after, _) in pairwise(seen))


@pytest.mark.parametrize("boundary", ["leading", "trailing"])
def test_what_is_next_to_impossible_has_a_surprisal_or_says_why_not(tmp_path: Path, boundary: str) -> None:
    vocabulary = building.tokenizer("bpe")
    model = building.model(vocabulary.vocabulary_size)
    with torch.no_grad():
        model.output.bias[vocabulary.encode("a")[0]] += 1_000.0
    save_model(tmp_path / "model", model, vocabulary, documents="file")
    loaded = load_model(tmp_path / "model")
    if boundary == "leading":
        assert surprisals(loaded, "b", boundary=boundary)[0].nats > 900
    else:
        with pytest.raises(DivergedError, match="token 0 of the text has no finite surprisal"):
            surprisals(loaded, "b", boundary=boundary)
