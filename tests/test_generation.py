"""A session: reading, going back, writing on; stop strings; what is never written."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import building
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.config import SamplingConfig
from lstmlm.errors import DataError, UsageError
from lstmlm.generation import Session
from lstmlm.predictor import NeuralPredictor
from lstmlm.tokenizer import EOS, UNK

KINDS = ("word", "char", "byte", "bpe")
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
GREEDY = SamplingConfig(temperature=0)
PROMPTS = ("", "the ", "the c", "the cat", "a dog\n", "the  ", "\t", "don't p", "zebra qu", "naïve 😀", "😀 ")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    return {kind: building.saved_model(tmp_path_factory.mktemp(kind) / "model", kind) for kind in KINDS}


def written(model: LoadedModel | Session, prompt: str, config: SamplingConfig | None = None, **options: object) -> str:
    session = model if isinstance(model, Session) else Session(model)
    return "".join(session.write(prompt, config or SamplingConfig(), **options))  # type: ignore[arg-type]


def biased(folder: Path, kind: str, **bias: float) -> LoadedModel:
    """A model with a liking for (or against) some tokens, named as they are described."""
    tokenizer = building.tokenizer(kind)
    model = building.model(tokenizer.vocabulary_size)
    names = [tokenizer.describe(token) for token in range(tokenizer.vocabulary_size)]
    with torch.no_grad():
        for name, value in bias.items():
            model.output.bias[names.index({"eos": EOS, "unk": UNK, "newline": "\n"}.get(name, name))] += value
    save_model(folder / "biased", model, tokenizer)
    return load_model(folder / "biased")


def fresh_logits(model: LoadedModel, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        inputs_T = torch.tensor([model.tokenizer.eos, *ids])
        hidden_TBH, _ = model.model(inputs_T[:, None], model.model.initial_state(1))
        return model.model.logits(hidden_TBH[-1, 0]).log_softmax(-1)


# --- reading ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(0, 28), max_size=6)), min_size=1, max_size=8), st.data())
def test_a_session_after_any_edits_stands_where_a_fresh_one_does(
    trained_run: Path, edits: list[tuple[int, list[int]]], data: st.DataObject
) -> None:
    model = load_model(trained_run)
    session = Session(model)
    ids: list[int] = []
    for kept, added in edits:
        ids = ids[:kept] + [token % model.tokenizer.vocabulary_size for token in added]
        if data.draw(st.booleans()):
            session.read(ids)
        else:
            session.read(ids[:kept])
            for token in ids[kept:]:
                session.step(token)
        assert session.ids == ids
        torch.testing.assert_close(session.next_logits(), fresh_logits(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [*KINDS, "traces"])
def test_going_back_beyond_what_is_kept(models: dict[str, LoadedModel], tmp_path: Path, kind: str) -> None:
    model = models[kind] if kind in models else building.saved_model(tmp_path / "model", traces=(2, 30))
    chosen = random.Random(4)
    ids = [chosen.randrange(model.tokenizer.vocabulary_size) for _ in range(700)]
    session = Session(model)
    for token in ids:
        session.step(token)
    for length in (700, 690, 400, 3, 0, 650):
        session.read(ids[:length])
        torch.testing.assert_close(session.next_logits(), fresh_logits(model, ids[:length]), rtol=1e-4, atol=1e-4)


def test_undo_and_branching_by_text(bpe_model: LoadedModel) -> None:
    session = Session(bpe_model)
    for text in ("the cat", "the cat sat", "the cat", "the dog", "", "a " * 900, "a " * 899 + "cat", "the cat sat"):
        session.read_text(text)
        expected = fresh_logits(bpe_model, bpe_model.tokenizer.encode(text))
        torch.testing.assert_close(session.next_logits(), expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_read_twice(bpe_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(bpe_model)
    ids = bpe_model.tokenizer.encode(building.text())
    session.read(ids)
    read: list[int] = []
    windows, steps = NeuralPredictor.read, NeuralPredictor.ahead
    monkeypatch.setattr(NeuralPredictor, "read", lambda *given: (read.append(len(given[2])), windows(*given))[1])
    monkeypatch.setattr(NeuralPredictor, "ahead", lambda *given: (read.append(len(given[2])), steps(*given))[1])
    session.read([*ids, 5])
    session.read(ids)
    session.read([*ids, 6, 7])
    assert sum(read) == 1 + 2


def test_sessions_do_not_share_state(bpe_model: LoadedModel) -> None:
    first, second = Session(bpe_model), Session(bpe_model)
    first.read_text("the cat")
    second.read_text("a dog")
    torch.testing.assert_close(first.next_logits(), fresh_logits(bpe_model, first.ids), rtol=1e-4, atol=1e-4)


# --- writing ---------------------------------------------------------------------------------------------------------


@EACH_KIND
def test_the_same_seed_writes_the_same(models: dict[str, LoadedModel], kind: str) -> None:
    texts = [written(models[kind], "the c", seed=seed, max_tokens=30) for seed in (1, 1, 2, 0, 2**63 - 1)]
    assert texts[0] == texts[1]
    assert len(set(texts)) >= 3
    session = Session(models[kind])  # whatever it did before
    written(session, "a dog", seed=9)
    assert written(session, "the c", seed=1, max_tokens=30) == texts[0]


@EACH_KIND
def test_without_a_seed_texts_differ(models: dict[str, LoadedModel], kind: str) -> None:
    config = SamplingConfig(temperature=3.0)
    assert len({written(models[kind], "the ", config, max_tokens=40) for _ in range(6)}) > 1


@pytest.mark.parametrize("kind", ["word", "char", "byte"])
def test_greedy_is_the_argmax_by_hand(models: dict[str, LoadedModel], kind: str) -> None:
    model = models[kind]
    tokenizer = model.tokenizer
    ids = tokenizer.encode("the cat ")
    start = len(ids)
    for _ in range(12):
        logits_V = fresh_logits(model, ids)
        if tokenizer.unk is not None:
            logits_V[tokenizer.unk] = -torch.inf
        token = int(logits_V.argmax())
        if token == tokenizer.eos and kind != "word":
            break
        ids.append(token)
    assert written(model, "the cat ", GREEDY, max_tokens=12) == tokenizer.decode(ids[start:])


@EACH_KIND
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_prompt_and_its_continuation_are_what_the_model_read(
    models: dict[str, LoadedModel], kind: str, prompt: str
) -> None:
    for seed in range(3):
        session = Session(models[kind])
        continuation = written(session, prompt, seed=seed, max_tokens=25)
        if kind in ("byte", "bpe"):
            assert models[kind].tokenizer.decode(session.ids) == prompt + continuation
        elif kind == "word":
            assert models[kind].tokenizer.encode(prompt + continuation) == session.ids
            assert not prompt or prompt[-1].isspace() or continuation[:1].isspace()
        else:
            assert models[kind].tokenizer.encode(prompt + continuation) == session.ids


@EACH_KIND
@pytest.mark.parametrize("prompt", PROMPTS)
def test_nothing_is_written_where_nothing_was_asked_for(models: dict[str, LoadedModel], kind: str, prompt: str) -> None:
    assert written(models[kind], prompt, seed=1, max_tokens=0) == ""


@EACH_KIND
def test_max_tokens_counts_tokens(models: dict[str, LoadedModel], kind: str) -> None:
    for limit in (1, 2, 7):
        session = Session(models[kind])
        written(session, "a\n", GREEDY, max_tokens=limit)
        assert len(session.ids) <= len(models[kind].tokenizer.encode("a\n")) + limit
    assert len(written(models["char"], "a\n", seed=1, max_tokens=9)) <= 9


@EACH_KIND
def test_the_end_of_a_document_ends_the_text(tmp_path: Path, kind: str) -> None:
    model = biased(tmp_path, kind, eos=1000.0)
    text = written(model, "the cat\n", seed=1, max_tokens=5)
    assert text == ("\n" * 5 if kind == "word" else "")  # in a word model it is a line end


@pytest.mark.parametrize("kind", ["word", "char"])
def test_the_unknown_is_never_written(tmp_path: Path, kind: str) -> None:
    model = biased(tmp_path, kind, unk=1000.0)
    for config in (GREEDY, SamplingConfig(), SamplingConfig(top_k=1), SamplingConfig(temperature=100.0)):
        text = written(model, "the 😀 ", config, seed=1, max_tokens=60)
        assert text
        assert UNK not in text
        assert "\ufffd" not in text


@EACH_KIND
@pytest.mark.parametrize("config", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-30}])
def test_filters_at_their_limits_are_greedy(models: dict[str, LoadedModel], kind: str, config: dict[str, float]) -> None:
    greedy = written(models[kind], "the c", GREEDY, max_tokens=20)
    assert written(models[kind], "the c", SamplingConfig(**config), seed=3, max_tokens=20) == greedy  # type: ignore[arg-type]


@EACH_KIND
def test_what_is_out_of_range_is_refused(models: dict[str, LoadedModel], kind: str) -> None:
    session = Session(models[kind])
    with pytest.raises(UsageError, match="max_tokens is -1"):
        session.write("", GREEDY, max_tokens=-1)
    with pytest.raises(UsageError, match="stop string is empty"):
        session.write("", GREEDY, stop=("a", ""))
    for seed in (-1, 2**63, 2**70):
        with pytest.raises(UsageError, match=f"seed is {seed}"):
            session.write("", GREEDY, seed=seed)
    with pytest.raises(DataError, match="not UTF-8"):
        list(session.write("the \udcff", GREEDY))


# --- streaming and stop strings --------------------------------------------------------------------------------------


@EACH_KIND
def test_what_was_streamed_never_ends_in_half_a_character_or_half_a_stop(models: dict[str, LoadedModel], kind: str) -> None:
    model = models[kind]
    whole = written(model, "the ", seed=7, max_tokens=60)
    for start in range(0, min(len(whole), 30), 3):
        for length in (1, 2, 5):
            stop = whole[start : start + length]
            if not stop:
                continue
            pieces = list(Session(model).write("the ", SamplingConfig(), seed=7, max_tokens=60, stop=(stop,)))
            assert "".join(pieces) == whole[: whole.index(stop)]
            so_far = ""
            for piece in pieces:
                so_far += piece
                assert stop not in so_far


@EACH_KIND
def test_the_first_of_several_stop_strings_counts(models: dict[str, LoadedModel], kind: str) -> None:
    whole = written(models[kind], "the ", seed=7, max_tokens=60)
    stops = ("never written at all", whole[7:9], whole[5:9])
    expected = whole[: min(whole.index(stop) for stop in stops if stop in whole)]
    assert written(models[kind], "the ", seed=7, max_tokens=60, stop=stops) == expected


@EACH_KIND
def test_what_only_looked_like_a_stop_is_written_in_the_end(models: dict[str, LoadedModel], kind: str) -> None:
    whole = written(models[kind], "the ", seed=7, max_tokens=40)
    assert written(models[kind], "the ", seed=7, max_tokens=40, stop=(whole[-4:] + "never",)) == whole


def test_a_stop_string_across_pieces_is_held_back(tmp_path: Path) -> None:
    model = biased(tmp_path, "char", e=1000.0)
    pieces = Session(model).write("th", GREEDY, max_tokens=8, stop=("eee",))
    assert [next(pieces) for _ in range(2)] == ["", ""]  # "e" and "ee" may be its beginning
    assert "".join(pieces) == ""


def test_characters_are_streamed_whole(models: dict[str, LoadedModel]) -> None:
    tokenizer = models["byte"].tokenizer
    session = Session(models["byte"])
    pieces = list(session.write("", SamplingConfig(temperature=5.0), seed=2, max_tokens=200))
    assert "".join(pieces) == tokenizer.decode(session.ids)
    assert any(piece == "" for piece in pieces)


# --- samples ---------------------------------------------------------------------------------------------------------


@EACH_KIND
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_sample_is_what_is_written(models: dict[str, LoadedModel], kind: str, prompt: str) -> None:
    config = SamplingConfig(temperature=2.0, repetition_penalty=1.2)
    for stop in ((), ("a", " s")):
        options = {"seed": 5, "max_tokens": 12, "stop": stop}
        sample = Session(models[kind]).sample(prompt, config, **options)  # type: ignore[arg-type]
        assert sample.text == written(models[kind], prompt, config, **options)
        assert sample.finish_reason != "length" or len(sample.tokens) == 12
        assert (sample.finish_reason == "stop") <= bool(stop)


@EACH_KIND
def test_a_sample_says_why_it_ends(models: dict[str, LoadedModel], tmp_path: Path, kind: str) -> None:
    def reason(model: LoadedModel, **options: object) -> str:
        return Session(model).sample("a\n", SamplingConfig(), seed=1, **options).finish_reason  # type: ignore[arg-type]

    text = written(models[kind], "a\n", seed=1, max_tokens=6)
    assert reason(models[kind], max_tokens=6) == "length"
    assert reason(models[kind], max_tokens=6, stop=(text[1:3],)) == "stop"
    assert reason(models[kind], max_tokens=0) == "length"
    assert reason(biased(tmp_path, kind, eos=1000.0), max_tokens=3) == ("length" if kind == "word" else "eos")


@pytest.mark.parametrize("kind", ["word", "char", "byte"])
def test_probabilities_are_those_of_the_model_by_hand(models: dict[str, LoadedModel], kind: str) -> None:
    """Whatever was drawn from: nothing here shows the temperature, the penalty or the filters."""
    model = models[kind]
    tokenizer, session = model.tokenizer, Session(model)
    config = SamplingConfig(temperature=1.7, frequency_penalty=1.0, top_k=9, min_p=0.01)
    sample = session.sample("the ", config, seed=3, max_tokens=15, logprobs=3)
    ids, place = session.ids, len(tokenizer.encode("the "))
    for token, drawn in zip(sample.tokens, ids[place:], strict=True):
        log_probabilities_V = fresh_logits(model, ids[:place]).double().log_softmax(-1)
        best = log_probabilities_V.topk(3)
        assert token.token == tokenizer.describe(drawn)
        assert token.logprob == pytest.approx(float(log_probabilities_V[drawn]), abs=1e-4)
        assert [other.token for other in token.top] == [tokenizer.describe(other) for other in best.indices.tolist()]
        assert [other.logprob for other in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        place += 1
    if sample.finish_reason == "length":
        assert sample.logprob == pytest.approx(sum(token.logprob for token in sample.tokens))


def test_the_end_counts_but_is_no_token(tmp_path: Path) -> None:
    model = biased(tmp_path, "char", eos=1.0)
    session = Session(model)
    sample = next(
        found
        for seed in range(50)
        if (found := session.sample("the ", SamplingConfig(), seed=seed, max_tokens=40)).finish_reason == "eos"
        and found.tokens
    )
    assert "".join(token.token for token in sample.tokens) == sample.text
    session.read_text("the " + sample.text)
    end = float(session.next_logits().log_softmax(-1)[model.tokenizer.eos])
    assert sample.logprob == pytest.approx(sum(token.logprob for token in sample.tokens) + end, abs=1e-4)


def test_the_first_token_is_given_what_was_typed(bpe_model: LoadedModel) -> None:
    """The shares of all spellings of " c" and more sum to 1."""
    session, beyond = Session(bpe_model), 0
    for seed in range(9):
        sample = session.sample("the c", SamplingConfig(temperature=3.0), seed=seed, max_tokens=1, logprobs=64)
        first = sample.tokens[0]
        if first.token.startswith(" c"):  # else " c" is a spelling of its own, and one more token is drawn
            beyond += 1
            assert sample.logprob == first.logprob
            assert sum(math.exp(other.logprob) for other in first.top) == pytest.approx(1)
            assert all(other.token.startswith(" c") for other in first.top)
            assert (first.token, first.logprob) in [(other.token, other.logprob) for other in first.top]
        else:
            assert sample.logprob < first.logprob
    assert 0 < beyond < 9


@EACH_KIND
def test_tokens_are_those_that_begin_within_the_text(models: dict[str, LoadedModel], kind: str) -> None:
    whole = Session(models[kind]).sample("the ", SamplingConfig(), seed=7, max_tokens=30)
    stop = whole.text[6:8]
    cut = Session(models[kind]).sample("the ", SamplingConfig(), seed=7, max_tokens=30, stop=(stop,))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    spelled = (" " if kind == "word" else "").join(token.token for token in cut.tokens)
    assert len(spelled) >= len(cut.text)
    assert cut.logprob >= whole.logprob


def test_a_character_of_several_tokens_belongs_to_all_of_them(tmp_path: Path) -> None:
    model = biased(tmp_path, "byte")
    with torch.no_grad():
        model.model.output.bias.fill_(-1000.0)
        model.model.output.bias[list("é".encode())] = 1000.0
    session = Session(model)
    for seed in range(20):
        sample = session.sample("", SamplingConfig(), seed=seed, max_tokens=8, stop=("\ufffd",))
        assert set(sample.text) <= {"é"}
        assert len(sample.tokens) == 2 * len(sample.text)


def test_samples_refuse_what_is_out_of_range(bpe_model: LoadedModel) -> None:
    for options, message in (({"logprobs": -1}, "logprobs is -1"), ({"seed": -1}, "seed is -1"), ({"stop": ("",)}, "empty")):
        with pytest.raises(UsageError, match=message):
            Session(bpe_model).sample("", GREEDY, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["word", "char"])
def test_penalties_look_at_the_prompt_too(models: dict[str, LoadedModel], kind: str) -> None:
    prompt = "the cat sat on the mat .\n"
    config = SamplingConfig(temperature=0.0, no_repeat_ngram_size=2)
    session = Session(models[kind])
    written(session, prompt, config, max_tokens=30)
    pairs = list(zip(session.ids, session.ids[1:], strict=False))
    start = len(models[kind].tokenizer.encode(prompt))
    assert all(pair not in pairs[:place] for place, pair in enumerate(pairs) if place >= start - 1)
