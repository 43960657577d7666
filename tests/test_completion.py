"""The next word: exact for word models, against brute force over all spellings for the others; what is never offered."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import building
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Toy, brute_force

from lstmlm import wordsearch
from lstmlm.adaptation import save_adaptation
from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.completion import Completion, complete
from lstmlm.config import SamplingConfig
from lstmlm.errors import DataError, UsageError
from lstmlm.generation import Session
from lstmlm.predictor import open_predictor
from lstmlm.reader import Reader
from lstmlm.tokenizer import UNK

KINDS = ("word", "char", "byte", "bpe")
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    return {kind: building.saved_model(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}


@pytest.fixture(autouse=True)
def few_nodes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models are flat, and never known well: they stop where it does not take long."""
    if {"models", "tmp_path"} & {*request.fixturenames}:
        monkeypatch.setattr(wordsearch, "_MOST_NODES", 100)


def check(result: Completion, text: str) -> None:
    """What holds of every answer."""
    words = [candidate.word for candidate in result.candidates]
    shares = [candidate.probability for candidate in result.candidates]
    assert result.text == text
    assert text.endswith(result.typed)
    assert not any(map(str.isspace, result.typed))
    assert result.typed == "" if not text or text[-1].isspace() else result.typed
    assert sum(shares) + result.other_probability == pytest.approx(1.0, abs=1e-9 + result.mass_bound)
    assert result.other_probability >= 0
    assert shares == sorted(shares, reverse=True)
    assert len(set(words)) == len(words)
    assert not {UNK, "<eos>", ""} & {*words}
    for candidate in result.candidates:
        assert candidate.probability > 0
        assert any(map(str.isalnum, candidate.word))
        assert candidate.insert == candidate.word
        assert candidate.insert.startswith(text[len(text) - candidate.replace :])
        assert not any(map(str.isspace, candidate.word))


# --- word models -----------------------------------------------------------------------------------------------------


def exact_words(model: LoadedModel, context: str, typed: str) -> dict[str, float]:
    """p(next word | context, it begins with typed), straight from the softmax."""
    tokenizer = model.tokenizer
    ids = [tokenizer.eos, *tokenizer.encode(context)]
    with torch.no_grad():
        hidden_TBH, _ = model.model(torch.tensor(ids)[:, None], model.model.initial_state(1))
        probabilities = model.model.logits(hidden_TBH[-1, 0]).double().softmax(-1).tolist()
    named = {tokenizer.describe(token): p for token, p in enumerate(probabilities)}
    total = sum(p for name, p in named.items() if name.startswith(typed) and name not in ("<eos>", UNK)) if typed else 1.0
    return {
        name: p / total
        for name, p in named.items()
        if name.startswith(typed) and name not in ("<eos>", UNK) and any(map(str.isalnum, name))
    }


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["the", "cat", "zebra", "\n", "."]), max_size=6),
    st.sampled_from(["", "t", "th", "the", "the'", "w", "s", "u.", "."]),
)
def test_a_word_model_is_exact(word_model: LoadedModel, words: list[str], typed: str) -> None:
    context = "".join(word + " " for word in words)
    result = complete(word_model, context + typed, k=100)
    expected = exact_words(word_model, context, typed)
    assert {candidate.word for candidate in result.candidates} == expected.keys()
    for candidate in result.candidates:
        assert candidate.probability == pytest.approx(expected[candidate.word], abs=1e-6)
        assert candidate.replace == len(typed)
    assert (result.exact, result.mass_bound) == (True, 0.0)
    check(result, context + typed)
    assert complete(word_model, context + typed, k=3).candidates == result.candidates[:3]


def test_a_longer_beginning_filters_the_list(word_model: LoadedModel) -> None:
    context = "the cat saw "
    lists = {
        typed: {c.word: c.probability for c in complete(word_model, context + typed, k=100).candidates}
        for typed in ("", "t", "th", "the")
    }
    for shorter, longer in itertools.pairwise(lists):
        kept = {word: p for word, p in lists[shorter].items() if word.startswith(longer)}
        assert lists[longer].keys() == kept.keys()
        for word, p in lists[longer].items():
            assert p == pytest.approx(kept[word] / sum(kept.values()), abs=1e-6)


def test_fewer_are_the_first_of_more(word_model: LoadedModel) -> None:
    many, few = (complete(word_model, "the ", k=k) for k in (20, 3))
    assert few.candidates == many.candidates[:3]
    assert few.other_probability == pytest.approx(many.other_probability + sum(c.probability for c in many.candidates[3:]))


# --- spelled words, by brute force -----------------------------------------------------------------------------------

QUESTIONS = [("", ""), ("ab ", ""), ("ab ab ", "a"), ("", "b"), ("a ", "ab"), ("ab b-", "a"), ("a ", "b-"), ("b", "")]


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize(("context", "typed"), QUESTIONS)
def test_spelled_words_are_those_of_brute_force(kind: str, context: str, typed: str) -> None:
    for seed in range(3):
        predictor = Toy(kind, seed)
        text = context + typed
        _, space, word = text.rpartition(" ")
        attached = space if kind == "bpe" else ""
        pending = (attached + word).encode()
        start = len(attached) + len(word) - len(re.search(r"(?:[ab][ab.-]*)?$", word)[0])  # type: ignore[index]
        expected = brute_force(predictor, text[: len(text) - len(pending)], pending, start)
        typed_word = (attached + word)[start:]
        expected = {word: share for word, share in expected.items() if word.startswith(typed_word) and word[0] in "ab"}
        assert len(expected) > 2
        result = complete(predictor, text, k=1000, tolerance=1e-12)
        check(result, text)
        found = {candidate.word: candidate.probability for candidate in result.candidates}
        for word, share in expected.items():
            assert found.get(word, 0.0) == pytest.approx(share, abs=1e-9), word
        assert all(expected.get(word, 0.0) == pytest.approx(share, abs=1e-9) for word, share in found.items())


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize(("context", "typed"), QUESTIONS)
def test_a_short_list_is_the_beginning_of_the_long_one(kind: str, context: str, typed: str) -> None:
    for seed in range(5):
        predictor = Toy(kind, seed)
        every = complete(predictor, context + typed, k=1000, tolerance=1e-12).candidates
        for k in (1, 3, 7):
            few = complete(predictor, context + typed, k)
            assert few.exact
            shares = {c.word: c.probability for c in every}  # words that differ by less than the bound may change places
            for place, expected in enumerate(every[:k]):
                found = few.candidates[place] if place < len(few.candidates) else None
                assert (found.probability if found else 0.0) == pytest.approx(expected.probability, abs=1e-6)
                assert (shares[found.word] if found else 0.0) == pytest.approx(expected.probability, abs=1e-6)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize("tolerance", [0.3, 0.03, 3e-3, 1e-5])
def test_the_bound_holds(kind: str, tolerance: float) -> None:
    for seed, (context, typed) in itertools.product(range(4), QUESTIONS):
        predictor = Toy(kind, seed)
        exact = {c.word: c.probability for c in complete(predictor, context + typed, k=1000, tolerance=1e-12).candidates}
        rough = complete(predictor, context + typed, k=4, tolerance=tolerance)
        check(rough, context + typed)
        assert rough.mass_bound <= tolerance
        off = math.fsum(abs(c.probability - exact[c.word]) for c in rough.candidates)
        assert off <= rough.mass_bound + 1e-12
        left_out = max((p for word, p in exact.items() if word not in {c.word for c in rough.candidates}), default=0.0)
        assert left_out <= rough.candidates[-1].probability + rough.mass_bound + tolerance


def test_no_time_at_all_is_an_answer_too() -> None:
    result = complete(Toy("bpe"), "ab a", deadline=0.0)
    assert not result.exact
    assert result.mass_bound > 0
    check(result, "ab a")


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_one_more_key_filters_the_list(kind: str) -> None:
    for seed in range(4):
        reader = Reader(Toy(kind, seed))
        lists = {
            typed: {c.word: c.probability for c in complete(reader, f"ab {typed}", k=1000, tolerance=1e-12).candidates}
            for typed in ("", "a", "ab", "aba")
        }
        for shorter, longer in itertools.pairwise(lists):
            kept = {word: p for word, p in lists[shorter].items() if word.startswith(longer)}
            share = math.fsum(kept.values()) / math.fsum(lists[longer].values())
            for word in kept.keys() | lists[longer].keys():
                assert lists[longer].get(word, 0.0) * share == pytest.approx(kept.get(word, 0.0), abs=1e-9)


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
def test_a_banned_word_leaves_its_share_to_the_rest(models: dict[str, LoadedModel], kind: str) -> None:
    before = complete(models[kind], "the ", k=6)
    banned = before.candidates[1].word
    after = complete(models[kind], "the ", k=5, banned=[banned, "nonesuch"])
    assert [c.word for c in after.candidates] == [c.word for c in before.candidates if c.word != banned]
    check(after, "the ")
    check(complete(models[kind], "the " + banned, banned=[banned]), "the " + banned)
    assert banned not in [c.word for c in complete(models[kind], "the " + banned, banned=[banned]).candidates]


@pytest.mark.parametrize("kind", ["word", "char", "byte", "bpe"])
@pytest.mark.parametrize("parts", [(), ("ngram",), ("cache",), ("cache", "dynamic", "ngram")])
def test_mixtures_and_n_grams_complete_as_models_do(tmp_path: Path, kind: str, parts: tuple[str, ...]) -> None:
    loaded = building.saved_model(tmp_path / "model", kind)
    save_adaptation(loaded, building.adaptation(loaded))
    reader = Reader(open_predictor(loaded, parts))
    for text in ("the cat sat on the ", "the cat sat on th", "the cat", "the dog "):
        result = complete(reader, text, k=4, tolerance=0.05)  # random models are flat: exactly takes long
        check(result, text)
        again = complete(open_predictor(loaded, parts), text, k=4, tolerance=0.05)
        assert [c.word for c in again.candidates] == [c.word for c in result.candidates]
        assert [c.probability for c in again.candidates] == pytest.approx(
            [c.probability for c in result.candidates], rel=1e-3
        )


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_word_that_never_ends_is_in_the_bound(tmp_path: Path, kind: str) -> None:
    tokenizer = building.tokenizer(kind)
    model = building.model(tokenizer.vocabulary_size)
    with torch.no_grad():
        model.output.bias[tokenizer.encode("a")] += 1000.0
    save_model(tmp_path / "model", model, tokenizer)
    result = complete(load_model(tmp_path / "model"), "\n")
    assert result.candidates == [] or sum(c.probability for c in result.candidates) < 1e-6
    assert result.mass_bound == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_what_was_typed_may_be_longer_than_any_word(models: dict[str, LoadedModel], kind: str) -> None:
    for length in (12, 30):
        result = complete(models[kind], "the " + "a" * length)
        check(result, "the " + "a" * length)
        assert result.candidates[0].word.startswith("a" * length)
    endless = complete(models[kind], "a" * 3000, deadline=2.0)
    assert all(candidate.word.startswith("a" * 3000) for candidate in endless.candidates)
    check(endless, "a" * 3000)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize("text", ["the cat.", "don'", "well-", "u.s."])
def test_no_offer_takes_away_what_was_typed(models: dict[str, LoadedModel], kind: str, text: str) -> None:
    typed = text.rpartition(" ")[2]
    result = complete(models[kind], text, k=20)
    assert result.candidates
    assert all(candidate.word.startswith(typed) and candidate.replace == len(typed) for candidate in result.candidates)
    assert all(candidate.word[-1].isalnum() for candidate in result.candidates)  # the mark is a word's if a letter follows


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize("text", ["", "the ", "the cat\n", ",", "the ,", "'", "the -", "..."])
def test_no_word_begins_with_an_inner_mark(tmp_path: Path, kind: str, text: str) -> None:
    tokenizer = building.tokenizer(kind)
    model = building.model(tokenizer.vocabulary_size)
    liked = [
        token for token in range(tokenizer.vocabulary_size) if tokenizer.spelling(token).strip()[:1] in (b"'", b"-", b".")
    ]
    with torch.no_grad():
        model.output.bias[liked] += 4.0
    save_model(tmp_path / "model", model, tokenizer)
    result = complete(load_model(tmp_path / "model"), text, k=50)
    check(result, text)
    assert all(candidate.word[0].isalnum() for candidate in result.candidates)
    assert result.candidates or text in ("'", "the -", "...")


# --- every kind ------------------------------------------------------------------------------------------------------


@EACH_KIND
def test_the_and_the_space_are_two_questions(models: dict[str, LoadedModel], kind: str) -> None:
    being_typed, next_word = complete(models[kind], "then the"), complete(models[kind], "then the ")
    assert (being_typed.typed, next_word.typed) == ("the", "")
    assert all(c.word.startswith("the") and c.replace == 3 for c in being_typed.candidates)
    assert all(c.replace == 0 for c in next_word.candidates)
    assert being_typed.candidates
    assert any(not c.word.startswith("the") for c in next_word.candidates)


@EACH_KIND
@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "\n", " \t\n ", "the", "zebra quokka ", "qqq xxx zzz", "the 😀", "😀 ", "مرحبا بال", "\u200fשלה "),
        *("<eos>", "<unk> ", "\x1b[31mthe", "a\0b", "<script>al", "the\u2028", "«the", "e\u0301", "...", "- "),
    ],
)
def test_any_text_has_an_answer(models: dict[str, LoadedModel], kind: str, text: str) -> None:
    check(complete(models[kind], text), text)


@EACH_KIND
def test_a_long_text_and_a_long_line_have_an_answer(models: dict[str, LoadedModel], kind: str) -> None:
    text = building.text(2500) + "the c"
    assert len(text) > 80_000
    check(complete(models[kind], text), text)
    check(complete(models[kind], "x" * 100_000), "x" * 100_000)


@EACH_KIND
def test_a_session_answers_as_a_fresh_model_does(models: dict[str, LoadedModel], kind: str) -> None:
    session = Session(models[kind])
    for text in ("the", "the c", "the cat ", "the ", "a dog s", "", "the cat sat on th"):
        again, fresh = complete(session, text, 8), complete(models[kind], text, 8)
        assert [c.word for c in again.candidates] == [c.word for c in fresh.candidates]
        assert [c.probability for c in again.candidates] == pytest.approx(
            [c.probability for c in fresh.candidates], rel=1e-4
        )


@EACH_KIND
def test_what_is_no_text_or_no_number_is_refused(models: dict[str, LoadedModel], kind: str) -> None:
    for k in (0, -1):
        with pytest.raises(UsageError, match=f"k is {k}"):
            complete(models[kind], "the", k)
    for text in ("\udcff", "the \udcff", "\udcff the "):
        with pytest.raises(DataError, match=r"U\+DCFF"):
            complete(models[kind], text)


def test_the_json_object_has_the_keys_of_the_contract(word_model: LoadedModel) -> None:
    about = complete(word_model, "the c", 2).to_mapping()
    assert list(about) == ["text", "typed", "candidates", "other_probability", "exact", "mass_bound", "ms"]
    assert list(about["candidates"][0]) == ["word", "probability", "replace", "insert"]


def test_lower_case_is_offered_for_what_was_typed_in_capitals(tmp_path: Path) -> None:
    tokenizer = building.tokenizer("word", lowercase=True)
    save_model(tmp_path / "model", building.model(tokenizer.vocabulary_size), tokenizer)
    result = complete(load_model(tmp_path / "model"), "The TH")
    assert result.typed == "TH"
    assert {c.word for c in result.candidates} == {"the", "then", "them"}
    assert {c.replace for c in result.candidates} == {2}


@pytest.mark.parametrize(
    "word", ["thecatsatonthemat" * 4, "the-cat-sat-on-the-mat-and-the-dog", "https://the.cat/sat/on/the/mat"]
)
def test_a_long_word_that_can_be_spelled_in_many_ways_has_an_answer(models: dict[str, LoadedModel], word: str) -> None:
    session = Session(models["bpe"])
    for length in (20, 30, len(word)):
        assert session.sample("the " + word[:length], SamplingConfig(), max_tokens=2, seed=1).tokens
        assert session.spellings(b" " + word[:length].encode())


def test_bans_and_spaces_are_read_as_the_vocabulary_has_them(tmp_path: Path) -> None:
    vocabulary = building.tokenizer("word", "the cat sat\n" * 3, lowercase=True)
    save_model(tmp_path / "words", building.model(vocabulary.vocabulary_size), vocabulary, documents="file")
    offered = complete(load_model(tmp_path / "words"), "The TH", banned=["The"])
    assert [candidate.word for candidate in offered.candidates] == []
    vocabulary = building.tokenizer("bpe", building.text(), normalization="nfkc")
    save_model(tmp_path / "pieces", building.model(vocabulary.vocabulary_size), vocabulary, documents="file")
    loaded = load_model(tmp_path / "pieces")
    wide, plain = (complete(loaded, text, 3, tolerance=0.05) for text in ("the\u00a0c", "the c"))
    assert [c.word for c in wide.candidates] == [c.word for c in plain.candidates]
