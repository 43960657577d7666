"""The next word: exact for word models, against brute force over all spellings for the others; what is never offered."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from pathlib import Path

import building
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.completion import Completion, complete
from lstmlm.errors import DataError, UsageError
from lstmlm.generation import Session
from lstmlm.tokenizer import UNK, Tokenizer

KINDS = ("word", "char", "byte", "bpe")
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
LENGTH = 5
"""Tokens of the sequences that brute force looks at."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    return {kind: building.saved_model(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}


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


def toy(folder: Path, kind: str) -> tuple[LoadedModel, list[int]]:
    """A model that only ever says the tokens in the list, and likes to end its words soon."""
    source = {"char": "ab ab a-b .", "byte": "x", "bpe": " ab ab ab ab a" * 9}[kind]
    tokenizer: Tokenizer = building.tokenizer(kind, source, **({"vocabulary_size": 259} if kind == "bpe" else {}))
    model = building.model(tokenizer.vocabulary_size, seed=5, traces=(2, 9) if kind == "bpe" else ())
    wanted = {"char": ["a", "b", " ", "-", "."], "byte": ["a", "b", " "], "bpe": ["a", "b", " ", "-", "ab"]}[kind]
    said = [token for token in range(tokenizer.vocabulary_size) if tokenizer.spelling(token) in [w.encode() for w in wanted]]
    said += list("“".encode()) if kind == "byte" else []
    said += [token for token in (tokenizer.eos, tokenizer.unk) if token is not None]
    if kind == "bpe":
        said += [token for token in range(256, tokenizer.eos) if tokenizer.spelling(token).startswith(b" ")]
    with torch.no_grad():
        model.output.bias.sub_(60.0)
        model.output.bias[said] += 60.0
        model.output.bias[tokenizer.encode(" ")] += 3.0
    save_model(folder / "toy", model, tokenizer)
    return load_model(folder / "toy"), said


def brute_force(model: LoadedModel, said: list[int], context: str, pending: str, start: int) -> dict[str, float]:
    """p(word | context, what follows begins with pending), over every sequence of tokens; the word begins at `start`."""
    tokenizer = model.tokenizer
    ids = [tokenizer.eos, *tokenizer.encode(context)]
    sequences = torch.tensor(list(itertools.product(said, repeat=LENGTH)))
    with torch.no_grad():
        hidden_TBH, state = model.model(torch.tensor(ids)[:, None], model.model.initial_state(1))
        states = tuple(part.expand(-1, len(sequences), -1).contiguous() for part in state)
        later_TBH, _ = model.model(sequences.T[:-1], states)
        hidden_TBH = torch.cat([hidden_TBH[-1:].expand(-1, len(sequences), -1), later_TBH])
        logs_TBV = model.model.logits(hidden_TBH).log_softmax(-1)
        mass = logs_TBV.gather(2, sequences.T[:, :, None]).sum(0).squeeze(1).double().exp().tolist()
    # two characters of no language stand for the control tokens: one ends a word, the other makes it unknown
    control = {tokenizer.eos: "\u2403".encode()} | ({} if tokenizer.unk is None else {tokenizer.unk: b"\xff"})
    spelled = {token: control.get(token, tokenizer.spelling(token)) for token in said}
    words: defaultdict[str, float] = defaultdict(float)
    total = 0.0
    for sequence, share in zip(sequences.tolist(), mass, strict=True):
        written = b"".join(spelled[token] for token in sequence).decode(errors="replace")
        if not written.startswith(pending):
            continue
        total += share
        match = re.match(r"(?:[ab]|[-.](?=[ab]))*", written[start:])
        assert match is not None
        if not re.match("[-.]?\ufffd", written[start + match.end() :]):
            words[match[0]] += share
    return {word: share / total for word, share in words.items()}


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize(("context", "typed"), [("", ""), ("ab ", ""), ("ab ab ", "a"), ("", "b"), ("a ", "ab")])
def test_spelled_words_are_those_of_brute_force(tmp_path: Path, kind: str, context: str, typed: str) -> None:
    model, said = toy(tmp_path, kind)
    result = complete(model, context + typed, k=1000)
    attached = " " if kind == "bpe" and context else ""
    expected = brute_force(model, said, context.removesuffix(attached), attached + typed, len(attached))
    assert result.mass_bound < 0.02
    assert not result.exact
    check(result, context + typed)
    found = {candidate.word: candidate.probability for candidate in result.candidates}
    short = [word for word in ("a", "b", "aa", "ab", "ba", "bb") if word.startswith(typed)]
    assert {*short} <= found.keys()
    for word in short:
        assert found[word] == pytest.approx(expected[word], abs=result.mass_bound + 1e-5), word


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
    for length in (39, 60):
        result = complete(models[kind], "the " + "a" * length)
        check(result, "the " + "a" * length)
        assert result.candidates[0].word.startswith("a" * length)
    endless = complete(models[kind], "a" * 3000)
    assert endless.candidates == []
    assert (endless.other_probability, endless.mass_bound) == (1.0, 1.0)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@pytest.mark.parametrize("text", ["the cat.", "don'", "well-", "u.s."])
def test_no_offer_takes_away_what_was_typed(models: dict[str, LoadedModel], kind: str, text: str) -> None:
    typed = text.rpartition(" ")[2]
    result = complete(models[kind], text, k=20)
    assert result.candidates
    assert all(candidate.word.startswith(typed) and candidate.replace == len(typed) for candidate in result.candidates)


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
