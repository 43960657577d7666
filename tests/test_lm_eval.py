from __future__ import annotations

import json
import math
import re
import sys
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import building
import pytest

from lstmlm.checkpoint import LoadedModel
from lstmlm.config import CorpusConfig, SamplingConfig
from lstmlm.corpus import Corpus, Piece, open_texts
from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation import evaluate
from lstmlm.generation import Session
from lstmlm.integrations.harness import continuation_loglikelihoods, document_loglikelihoods, sampling_config
from lstmlm.keyboard import documents_of
from lstmlm.ngram import load_ngram, save_ngram, train_ngram
from lstmlm.predictor import AnyModel
from lstmlm.token_store import read_segments

TEXT = """\ufeffthe cat sat on the mat .\r
the dog can't find 42 zebras \u2014 na\u00efve !\r
\r
 a cat saw the <eos> table .\rthe  man (in the u.s.) sat

 \t
[1, 2]
on the <unk> rug .

the man in the red hat"""
"""Three kinds of line ends, unknown words, a document that begins with white space, the last without a line end."""
KINDS = ("word", "char", "byte", "bpe", "n-gram")


def saved(folder: Path, kind: str) -> AnyModel:
    if kind != "n-gram":
        return building.saved_model(folder, kind)
    vocabulary = building.tokenizer("word")
    texts, _ = read_segments(vocabulary, [[Piece(building.text(), ends_document=True)]])
    model = train_ngram(texts, vocabulary_size=vocabulary.vocabulary_size, eos=vocabulary.eos, order=3)
    save_ngram(folder, model, vocabulary, documents="file")
    return load_ngram(folder)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return open_texts([str(path)], CorpusConfig(documents="blank-line"), None)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_add_up_to_the_sum_of_eval(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    loaded, documents = saved(tmp_path / "model", kind), list(documents_of(corpus.files("test")))
    assert len(documents) == 4
    found = document_loglikelihoods(loaded, documents)
    assert -math.fsum(found) == pytest.approx(evaluate(loaded, corpus, mode="document")["nll_nats"], rel=1e-9)
    assert found[1:] == pytest.approx(document_loglikelihoods(loaded, documents[1:]), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_closes_a_document_counts_or_does_not(kind: str, tmp_path: Path) -> None:
    loaded = saved(tmp_path / "model", kind)
    session, texts = Session(loaded), ["the cat sat", "a cat saw the dog .\n", "\n", ""]
    pairs = zip(document_loglikelihoods(loaded, texts), document_loglikelihoods(loaded, texts, closing=False), strict=True)
    for text, (closed, open_) in zip(texts, pairs, strict=True):
        session.read_text(text)
        end = session.probabilities()[loaded.tokenizer.eos] if text == texts[0] or loaded.tokenizer.kind != "word" else 1.0
        assert closed - open_ == pytest.approx(math.log(end), abs=1e-5)
        assert continuation_loglikelihoods(session, [("", text)])[0][0] == pytest.approx(open_, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_and_what_follows_it_are_one_text(kind: str, tmp_path: Path) -> None:
    """Where no token crosses the border, ln p of both is the sum."""
    session = Session(saved(tmp_path / "model", kind))
    parts = [
        ("the cat sat", " on the mat ."),
        ("the cat\n", "saw a zebra"),
        ("the man ,", ""),
        ("\r\n", "a"),
        ("", "the dog"),
    ]
    whole = continuation_loglikelihoods(session, [("", context + rest) for context, rest in parts])
    contexts = continuation_loglikelihoods(session, [("", context) for context, _ in parts])
    for (logprob, _), (both, _), (before, _) in zip(
        continuation_loglikelihoods(session, parts), whole, contexts, strict=True
    ):
        assert before + logprob == pytest.approx(both, abs=1e-5)


@pytest.mark.parametrize("run", ["cat" * 400 + "ca", "she put " + "cat" * 9 + "ca", "\u732b" * 300 + "th"])
def test_choices_after_a_long_run_without_white_space_are_compared_by_all_of_their_text(
    bpe_model: LoadedModel, run: str
) -> None:
    """What the context says of the token that crosses its end is the same for all of them."""
    session, choices = Session(bpe_model), ["t on", "n on", "ere"]
    found = continuation_loglikelihoods(session, [(run, choice) for choice in choices])
    whole = continuation_loglikelihoods(session, [("", run + choice) for choice in choices])
    given = [both - after for (after, _), (both, _) in zip(found, whole, strict=True)]
    assert given == pytest.approx([given[0]] * 3, abs=1e-3)
    assert math.isfinite(given[0])
    own = continuation_loglikelihoods(session, [("", run)])[0][0]
    assert given[0] >= own - 1e-3  # however it is spelled


def spelled(session: Session, ids: list[int], text: bytes) -> float:
    """P of all tokens that spell `text`, and perhaps more, after `ids`: all of them tried out."""
    session.read(ids)
    total, tokenizer = 0.0, session.tokenizer
    for token, probability in enumerate(session.probabilities()):
        string = tokenizer.spelling(token)
        if string.startswith(text):
            total += probability
        elif string and text.startswith(string):
            total += probability * spelled(session, [*ids, token], text[len(string) :])
    return total


@pytest.mark.parametrize(
    ("before", "given", "rest"), [("she put", " the k", "eys on"), ("the cat", " ", "sat"), ("a cat saw\n", "th", "e dog")]
)
def test_a_token_that_crosses_the_border_is_given_what_the_context_says_of_it(
    bpe_model: LoadedModel, before: str, given: str, rest: str
) -> None:
    session, tokenizer = Session(bpe_model), bpe_model.tokenizer
    context = before + given
    assert tokenizer.encode(context + rest)[: len(tokenizer.encode(context))] != tokenizer.encode(context)
    cut = before if given == " " or before.endswith("\n") else "she put the"
    pairs = [("", context + rest), ("", cut), (context, rest)]
    (whole, _), (start, _), (found, _) = continuation_loglikelihoods(session, pairs)
    expected = whole - start - math.log(spelled(Session(bpe_model), tokenizer.encode(cut), context[len(cut) :].encode()))
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_space_of_the_context_changes_nothing_for_the_choice(bpe_model: LoadedModel) -> None:
    session, words = Session(bpe_model), ["cat", "dog", "man sat on the mat .", "zebra"]
    after = continuation_loglikelihoods(session, [("she saw the ", word) for word in words])
    apart = continuation_loglikelihoods(session, [("she saw the", f" {word}") for word in words])
    differences = [one - other for (one, _), (other, _) in zip(after, apart, strict=True)]
    assert differences == pytest.approx([differences[0]] * len(words), abs=1e-5)
    assert differences[0] > 0.1


def test_a_word_counts_whole_in_a_word_model(word_model: LoadedModel) -> None:
    session = Session(word_model)
    (crossing, _), (whole, _) = continuation_loglikelihoods(session, [("the c", "at sat"), ("the", " cat sat")])
    assert crossing == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_greedy_is_what_is_written(kind: str, tmp_path: Path) -> None:
    loaded = saved(tmp_path / "model", kind)
    session, tokenizer = Session(loaded), loaded.tokenizer
    session.read_text("the cat")
    likeliest = int(session.probabilities().argmax())
    tokens = range(tokenizer.vocabulary_size)
    texts = {token: (" " if tokenizer.kind == "word" else "") + tokenizer.decode([token]) for token in tokens}
    given = len(tokenizer.encode("the cat"))
    choices = {token: text for token, text in texts.items() if tokenizer.encode("the cat" + text)[given:] == [token]}
    found = continuation_loglikelihoods(session, [("the cat", text) for text in choices.values()])
    assert len(choices) > 10
    assert [token for token, (_, greedy) in zip(choices, found, strict=True) if greedy] == [
        token for token in choices if token == likeliest
    ]


def test_greedy_where_a_token_crosses_is_the_likeliest_that_fits(bpe_model: LoadedModel) -> None:
    session, tokenizer = Session(bpe_model), bpe_model.tokenizer
    opening = session.opening("she saw the ")
    (best, _) = opening.spellings[0]
    texts = {token: tokenizer.decode([token]) for token in range(tokenizer.vocabulary_size)}
    words = {token: text[1:] for token, text in texts.items() if re.fullmatch(r" \w+", text)}
    found = continuation_loglikelihoods(session, [("she saw the ", word) for word in words.values()])
    greedy = [token for token, (_, greedy) in zip(words, found, strict=True) if greedy]
    assert greedy == [token for token in words if (token,) == best]
    longer = [(f"she saw the {word}", f"{end} on") for word, end in product(("k", "m"), ("eys", "at"))]
    assert not any(greedy for _, greedy in continuation_loglikelihoods(session, longer))


def test_half_a_character_is_refused(bpe_model: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"U\+D800"):
        document_loglikelihoods(bpe_model, ["a \ud800"])
    with pytest.raises(DataError, match=r"U\+D800"):
        continuation_loglikelihoods(Session(bpe_model), [("a", " \ud800")])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, SamplingConfig(temperature=0.0)),
        ({"do_sample": False, "temperature": 0.7}, SamplingConfig(temperature=0.0)),
        ({"do_sample": True}, SamplingConfig(temperature=1.0)),
        ({"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": None}, SamplingConfig(temperature=0.7, top_k=5)),
        ({"temperature": 0.7}, SamplingConfig(temperature=0.7)),
        ({"num_beams": 1}, SamplingConfig(temperature=0.0)),
    ],
)
def test_how_text_is_drawn(options: dict[str, Any], expected: SamplingConfig) -> None:
    assert sampling_config(options) == expected


def test_no_option_of_drawing_is_ignored() -> None:
    with pytest.raises(UsageError, match="generation_kwargs have guidance, num_beams; expected some of epsilon_cutoff"):
        sampling_config({"num_beams": 3, "temperature": 1.0, "guidance": 2})


def test_without_the_harness_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "lm_eval" or name == "lstmlm.integrations.lm_eval":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match=r"pip install 'lstmlm\[lm-eval\]'"):
        import_module("lstmlm.integrations.lm_eval")


# -- with the harness -------------------------------------------------------------------------------------------------

with_harness = pytest.mark.filterwarnings("ignore")  # its own, and those of what it imports


def harness(monkeypatch: pytest.MonkeyPatch, folder: Path, model: object, rows: list[dict[str, Any]], **task: Any) -> Any:
    """What `simple_evaluate` finds for a task of these rows, in a local file."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"data_files": {"test": str(path)}, "cache_dir": str(folder)}
    task = {"task": "rows", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"} | task
    own = TaskManager(include_defaults=False)  # without it, the harness first reads the 13,000 tasks that it comes with
    found = simple_evaluate(model, tasks=[task], task_manager=own, bootstrap_iters=0, use_cache=str(folder / "answers"))
    return found["results"]["rows"], found["samples"]["rows"], found["config"]


@with_harness
@pytest.mark.parametrize("kind", ["word", "bpe", "n-gram"])
def test_the_harness_agrees_with_eval(kind: str, tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Total, and the three figures: from our sum with the harness's counts, which differ from ours by known numbers."""
    pytest.importorskip("lm_eval")
    from lstmlm.integrations.lm_eval import HarnessModel

    loaded, documents = saved(tmp_path / "model", kind), list(documents_of(corpus.files("test")))
    names = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    figures, samples, about = harness(
        monkeypatch,
        tmp_path,
        HarnessModel(loaded.path),
        [{"text": document} for document in documents],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="text",
        metric_list=[{"metric": name} for name in names],
    )
    ours = evaluate(loaded, corpus, mode="document")
    nats = ours["nll_nats"]
    words = ours["text"]["words"] + sum(text[0].isspace() + text[-1].isspace() for text in documents)
    size = ours["text"]["bytes"] - len("\n" + "\n \t\n" + "\n")
    assert math.fsum(sample["filtered_resps"][0] for sample in samples) == pytest.approx(-nats, rel=1e-6)
    expected = [math.exp(nats / words), math.exp(nats / size), nats / math.log(2) / size]
    assert [figures[f"{name},none"] for name in names] == pytest.approx(expected, rel=1e-6)
    assert about["model_sha"] == loaded.sha256


@with_harness
def test_the_harness_chooses(bpe_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    from lstmlm.integrations.lm_eval import HarnessModel

    rows = [{"text": "she saw the", "choices": ["cat", "dog", "zebra"], "gold": gold} for gold in range(3)]
    figures, samples, _ = harness(
        monkeypatch,
        tmp_path,
        HarnessModel(bpe_model),
        rows,
        output_type="multiple_choice",
        doc_to_text="text",
        doc_to_choice="choices",
        doc_to_target="gold",
    )
    expected = continuation_loglikelihoods(Session(bpe_model), [("she saw the", f" {word}") for word in rows[0]["choices"]])
    for sample in samples:
        assert [answer[0] for answer in sample["filtered_resps"]] == pytest.approx([logprob for logprob, _ in expected])
    assert figures["acc,none"] == pytest.approx(1 / 3)


@with_harness
def test_the_harness_lets_it_write(bpe_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval")
    from lstmlm.integrations.lm_eval import HarnessModel

    task: dict[str, Any] = {"output_type": "generate_until", "doc_to_text": "text", "doc_to_target": "text"}
    prompts = ["the cat", "she put the k"]
    written = {}
    for name, options in {"greedy": {}, "drawn": {"do_sample": True, "temperature": 0.9}}.items():
        (tmp_path / name).mkdir()
        options = {"until": ["a", ""], "max_gen_toks": 30} | options
        arguments = monkeypatch, tmp_path / name, HarnessModel(bpe_model), [{"text": prompt} for prompt in prompts]
        _, samples, _ = harness(*arguments, **task, generation_kwargs=options)
        written[name] = [sample["resps"][0][0] for sample in samples]
        assert not any("a" in text for text in written[name])
    session, greedy = Session(bpe_model), SamplingConfig(temperature=0.0)
    assert written["greedy"] == ["".join(session.write(text, greedy, max_tokens=30, stop=["a"])) for text in prompts]
    assert written["drawn"] != written["greedy"]
