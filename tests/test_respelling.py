"""How a BPE model takes up a prompt's last word: all spellings of it, by the probability of each as a whole."""

from __future__ import annotations

import math
from pathlib import Path

import building
import pytest
import torch

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.config import SamplingConfig
from lstmlm.generation import Session

GREEDY = SamplingConfig(temperature=0)
Cover = tuple[tuple[int, ...], float]
SAID = [b"a", b"b", b" ", b"-", b"ab", b" a", b" ab"]
"""What the small model can say, besides the end."""
CASES = [("", "a"), ("", "abab"), ("ab", " "), ("ab ab", " ab"), ("a b", " abaab"), ("ab", " é")]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A vocabulary so small that every spelling can be looked at."""
    tokenizer = building.tokenizer("bpe", " ab ab ab ab a" * 9, vocabulary_size=259)
    model = building.model(tokenizer.vocabulary_size, seed=5, traces=(2, 9))
    said = [token for token in range(tokenizer.vocabulary_size) if tokenizer.spelling(token) in SAID]
    with torch.no_grad():
        model.output.bias.sub_(60.0)
        model.output.bias[[*said, tokenizer.eos]] += 60.0
        model.output.bias[tokenizer.encode(" ")] += 3.0
    path = tmp_path_factory.mktemp("toy") / "toy"
    save_model(path, model, tokenizer)
    return load_model(path)


def next_log_probabilities(model: LoadedModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        inputs_T = torch.tensor([model.tokenizer.eos, *ids])
        hidden_TBH, _ = model.model(inputs_T[:, None], model.model.initial_state(1))
        return model.model.logits(hidden_TBH[-1, 0]).double().log_softmax(-1)


def brute_force(model: LoadedModel, context: str, pending: bytes) -> list[Cover]:
    """Every sequence of tokens whose last one is the first to reach the end of `pending`, the likeliest first."""
    tokenizer = model.tokenizer
    spelled = [b"" if token == tokenizer.eos else tokenizer.spelling(token) for token in range(tokenizer.vocabulary_size)]
    covers: list[Cover] = []
    open_paths: list[tuple[tuple[int, ...], bytes, float]] = [((), b"", 0.0)]
    while open_paths:
        path, so_far, mass = open_paths.pop()
        log_probabilities_V = next_log_probabilities(model, [*tokenizer.encode(context), *path])
        for token, string in enumerate(spelled):
            text, grown = so_far + string, (*path, token)
            if string and text.startswith(pending):
                covers.append((grown, mass + float(log_probabilities_V[token])))
            elif string and pending.startswith(text):
                open_paths.append((grown, text, mass + float(log_probabilities_V[token])))
    return sorted(covers, key=lambda cover: -cover[1])


@pytest.mark.parametrize(("context", "pending"), CASES)
def test_covers_are_those_of_brute_force(small: LoadedModel, context: str, pending: str) -> None:
    session = Session(small)
    session.read_text(context)
    found, expected = session.spellings(pending.encode()), brute_force(small, context, pending.encode())
    assert len(expected) < 64  # fewer than are kept in view
    assert {path for path, _ in found} == {path for path, _ in expected}
    assert len(found) == len(expected)
    assert [mass for _, mass in found] == pytest.approx([mass for _, mass in expected], abs=1e-5)
    masses = dict(expected)
    assert [masses[path] for path, _ in found] == pytest.approx([mass for _, mass in found], abs=1e-5)
    assert session.ids == small.tokenizer.encode(context)


def test_of_many_covers_the_likeliest_is_among_those_kept(bpe_model: LoadedModel) -> None:
    session = Session(bpe_model)
    session.read_text("the")
    for pending in (b" ", b" th", b" the"):
        found, expected = session.spellings(pending), dict(brute_force(bpe_model, "the", pending))
        assert found[0][0] == max(expected, key=lambda path: expected[path])
        assert [mass for _, mass in found] == pytest.approx([expected[path] for path, _ in found], abs=1e-5)
        assert [mass for _, mass in found] == sorted((mass for _, mass in found), reverse=True)
        assert math.fsum(math.exp(mass) for _, mass in found) <= 1 + 1e-6


@pytest.mark.parametrize(("context", "pending"), CASES)
@pytest.mark.parametrize("limit", [1, 2, 8])
def test_greedy_takes_the_likeliest_cover_and_then_the_likeliest_tokens(
    small: LoadedModel, context: str, pending: str, limit: int
) -> None:
    tokenizer = small.tokenizer
    path = brute_force(small, context, pending.encode())[0][0]
    ids = [*tokenizer.encode(context), *path]
    beyond = b"".join(map(tokenizer.spelling, path)) != pending.encode()
    for _ in range(limit - beyond):  # the spelling of what was given counts for nothing
        token = int(next_log_probabilities(small, ids).argmax())
        if token == tokenizer.eos:
            break
        ids.append(token)
    session = Session(small)
    prompt = context + pending
    assert prompt + "".join(session.write(prompt, GREEDY, max_tokens=limit)) == tokenizer.decode(ids)
    assert session.ids == ids


def liking(folder: Path, vocabulary_source: str, liked: bytes) -> LoadedModel:
    tokenizer = building.tokenizer("bpe", vocabulary_source, vocabulary_size=270)
    model = building.model(tokenizer.vocabulary_size)
    spelled = [tokenizer.spelling(token) for token in range(tokenizer.vocabulary_size)]
    with torch.no_grad():
        model.output.bias[spelled.index(liked)] += 100.0
    save_model(folder / "liking", model, tokenizer)
    return load_model(folder / "liking")


@pytest.mark.parametrize("liked", [" ab", " \u201c"])
def test_a_token_that_goes_beyond_the_prompt_counts(tmp_path: Path, liked: str) -> None:
    """Also one that ends within a character."""
    string = liked.encode()[:3]
    model = liking(tmp_path, f"a{liked} a{liked}" * 60 + " \u2014 \u2014" * 30, string)
    for limit in (1, 2):
        session = Session(model)
        text = "".join(session.write("b ", GREEDY, max_tokens=limit))
        assert [model.tokenizer.spelling(token) for token in session.ids] == [b"b", *[string] * limit]
        assert "b " + text == model.tokenizer.decode(session.ids)


def test_a_long_word_costs_no_tokens(bpe_model: LoadedModel) -> None:
    prompt = "the " + "qz" * 40  # no token holds two of these letters
    for limit in (1, 3):
        session = Session(bpe_model)
        text = "".join(session.write(prompt, SamplingConfig(), max_tokens=limit, seed=4))
        assert bpe_model.tokenizer.decode(session.ids) == prompt + text
        assert len(session.ids) == 1 + len(" " + "qz" * 40) + limit


@pytest.mark.parametrize("word", ["x" * 300, "é" * 150, "the" * 100])
def test_a_word_beyond_reason_is_read_as_it_stands(bpe_model: LoadedModel, word: str) -> None:
    session = Session(bpe_model)
    ids = bpe_model.tokenizer.encode("the " + word)
    text = "".join(session.write("the " + word, SamplingConfig(), max_tokens=5, seed=1))
    assert session.ids[: len(ids)] == ids
    assert len(session.ids) <= len(ids) + 5
    assert bpe_model.tokenizer.decode(session.ids) == "the " + word + text


def test_spellings_are_drawn_by_their_mass(small: LoadedModel) -> None:
    expected = {path: math.exp(mass) for path, mass in brute_force(small, "ab ab", b" ab")}
    total, draws = sum(expected.values()), 400
    drawn: dict[tuple[int, ...], int] = dict.fromkeys(expected, 0)
    start = len(small.tokenizer.encode("ab ab"))
    for seed in range(draws):
        session = Session(small)
        next(pieces := session.write("ab ab ab", SamplingConfig(), max_tokens=1, seed=seed))
        pieces.close()  # type: ignore[attr-defined]
        drawn[tuple(session.ids[start:])] += 1
    for path, count in drawn.items():
        share = expected[path] / total
        assert abs(count / draws - share) < 5 * math.sqrt(share * (1 - share) / draws) + 1e-3


@pytest.mark.parametrize("filters", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-30}])
def test_filters_choose_among_spellings_too(bpe_model: LoadedModel, filters: dict[str, float]) -> None:
    for prompt in ("the c", "the ", "she p"):
        greedy = "".join(Session(bpe_model).write(prompt, GREEDY, max_tokens=3))
        config = SamplingConfig(**filters)  # type: ignore[arg-type]
        for seed in range(12):
            assert "".join(Session(bpe_model).write(prompt, config, max_tokens=3, seed=seed)) == greedy


def test_white_space_and_nothing_need_no_respelling(bpe_model: LoadedModel) -> None:
    for prompt in ("", "the\n", "the cat\t"):
        session = Session(bpe_model)
        list(session.write(prompt, SamplingConfig(), max_tokens=3, seed=1))
        ids = bpe_model.tokenizer.encode(prompt)
        assert session.ids[: len(ids)] == ids
        assert len(session.ids) <= len(ids) + 3
