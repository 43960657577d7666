"""Warm start: a run that begins as a trained model, keeps its tokenizer and shape, and says what was forgotten."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import building
import pytest
import torch
from test_recipes import TINY, written
from test_resume import SHORT, finish, messages, outcome, stop_after
from test_resume_guards import everything
from test_training import Poison

from lstmlm.checkpoint import LoadedModel, load_model, named_weights, save_model
from lstmlm.cli.main import run as run_command
from lstmlm.config import TrainConfig
from lstmlm.corpus import open_corpus
from lstmlm.errors import ArtefactError, DataError, UsageError
from lstmlm.evaluation import evaluate
from lstmlm.model import LanguageModel
from lstmlm.training import FITTED, RunOptions, train
from lstmlm.training.events import Ended, Event, Prepared, RolledBack
from lstmlm.training.fitting import WARM_START_RATE, shaped
from lstmlm.training.options import SHAPE

Out = pytest.CaptureFixture[str]
ONE_THREAD = ("--threads", "1", "--precision", "fp32")

pytestmark = pytest.mark.usefixtures("clean_shell")


def begun(run: Path, options: RunOptions) -> LanguageModel:
    """The model before the first step."""
    events = train(run, options)
    model = next(event.model for event in events if isinstance(event, Prepared))
    events.close()  # type: ignore[attr-defined]
    return model


def same_weights(one: LanguageModel, other: LanguageModel) -> bool:
    found, wanted = named_weights(one), named_weights(other)
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def shape(model: LanguageModel) -> dict[str, Any]:
    return {name: getattr(model.config, name) for name in SHAPE}


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("char", {}),
        ("bpe", {"cell": "gru", "num_layers": 2, "residual": True}),
        ("word", {"input": "one-hot", "cell": "rnn"}),
        ("word", {"softmax": "adaptive", "cutoffs": (5, 9)}),
        ("word", {"traces": (3, 30)}),
        ("byte", {"tied": False}),
    ],
    ids=str,
)
def test_it_begins_as_the_model_it_starts_from(tmp_path: Path, diary: Path, kind: str, config: dict[str, Any]) -> None:
    start = building.saved_model(tmp_path / "start", kind, **config)
    run, options = tmp_path / "run", building.warm(diary, tmp_path / "start", steps=1, learning_rate=1e-30, averaging=0.5)
    assert same_weights(begun(tmp_path / "begun", options), start.model)
    list(train(run, options))
    found = load_model(run)
    assert shape(found.model) == shape(start.model)
    assert (found.path / "tokenizer.json").read_bytes() == (start.path / "tokenizer.json").read_bytes()
    assert found.tokenizer.config == start.tokenizer.config
    corpus = open_corpus([diary])
    assert evaluate(found, corpus)["nll_nats"] == evaluate(start, corpus)["nll_nats"]


def test_it_learns_and_has_its_own_dropout(start: LoadedModel, diary: Path, tmp_path: Path) -> None:
    options = building.warm(diary, start.path, steps=60, learning_rate=0.01)
    options = replace(options, model=replace(options.model, dropout_output=0.25))
    (ended,) = [event for event in train(tmp_path / "run", options) if isinstance(event, Ended)]
    before = evaluate(start, open_corpus([diary]), "valid")
    assert ended.loss < before["nll_nats"] / before["tokens"]
    assert load_model(tmp_path / "run").model.config == replace(start.model.config, dropout_input=0.0, dropout_output=0.25)


@pytest.mark.parametrize("name", ["general/run", "general/run/best", "general/copy"])
def test_a_run_or_a_model_and_what_is_recorded_of_it(start: LoadedModel, diary: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(start.path, tmp_path / "general" / "copy")
    list(train("run", building.warm(diary, name)))
    path = tmp_path / "general" / "copy" if name == "general/copy" else start.path.resolve()
    recorded = RunOptions.read(Path("run"))
    assert (recorded.start, recorded.start_sha256) == (str(path), start.sha256)
    assert RunOptions.from_mapping(load_model("run").training["options"], "here") == recorded
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert {name: first[name] for name in ("event", "step", "model", "sha256")} == {
        "event": "start",
        "step": 0,
        "model": str(path),
        "sha256": start.sha256,
    }


@pytest.mark.parametrize("name", ["start", "start_sha256"])
def test_a_damaged_record_of_it_is_an_artefact_error(source: Path, name: str) -> None:
    about = building.options(source).to_mapping()
    with pytest.raises(ArtefactError, match=rf"run\.json is damaged: {name} is not text"):
        RunOptions.from_mapping(about | {name: 5}, "run.json")
    del about[name]
    assert getattr(RunOptions.from_mapping(about, "run.json"), name) is None


# -- what cannot be had -----------------------------------------------------------------------------------------------


def refused(capsys: Out, code: int, *arguments: str) -> str:
    assert run_command(["train", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()), err.startswith("lstmlm: ")) == ("", 1, True), err
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--hidden 256", "has hidden size 12, not 256"),
        ("--hidden 300", "has hidden size 12, not 300"),
        ("--embedding 9", "has embedding size 8, not 9"),
        ("--layers 2", "has num layers 1, not 2"),
        ("--cell gru", "has cell lstm, not gru"),
        ("--input one-hot", "has input embedding, not one-hot"),
        ("--no-tied", "has tied True, not False"),
        ("--residual", "has residual False, not True"),
        ("--softmax adaptive", "has softmax full, not adaptive"),
        ("--tokenizer bpe", "has tokenizer char, not bpe"),
        ("--tokenizer byte --vocab-size 300", "has tokenizer char, not byte"),
        ("--vocab-size 300", "has vocabulary size 29, not 300"),
        ("--lowercase", "has lowercase False, not True"),
        ("--normalization nfc", "has normalization none, not nfc"),
        ("--min-count 7", "has min count None, not 7"),
        ("--recipe tiny.toml", "has hidden size 12, not 13"),
        ("--recipe tiny.toml --hidden 13", "has hidden size 12, not 13"),
        ("--recipe tiny.toml --hidden 12 --tokenizer word", "has tokenizer char, not word"),
    ],
)
def test_another_tokenizer_or_shape_is_refused(
    start: LoadedModel, diary: Path, tmp_path: Path, capsys: Out, arguments: str, said: str
) -> None:
    written(tmp_path / "tiny.toml", TINY.replace("hidden_size = 12", "hidden_size = 13"))
    before = everything(tmp_path)
    message = refused(capsys, 2, str(diary), "--from", "general/run", *arguments.split())
    assert "--from keeps the tokenizer and the shape of its model" in message
    assert said in message
    assert everything(tmp_path) == before
    assert not Path("checkpoints").exists()


def test_the_same_tokenizer_and_shape_may_be_said(start: LoadedModel, diary: Path, tmp_path: Path) -> None:
    same = "--hidden 12 --embedding 8 --layers 1 --cell lstm --input embedding --tied --no-residual --softmax sampled"
    same += f" --tokenizer char --vocab-size {start.tokenizer.vocabulary_size} --min-count auto --no-lowercase"
    plain = ["train", str(diary), "--from", "general/run", *ONE_THREAD, "--steps", "2", "--dropout-output", "0.3"]
    assert run_command([*plain, "-o", "said", *same.split()]) == 0
    written(tmp_path / "tiny.toml", TINY.replace("hidden_size = 12", "hidden_size = 13"))
    assert run_command([*plain, "-o", "recipe", "--recipe", "tiny.toml", "--hidden", "12"]) == 0
    for run in (Path("said"), Path("recipe")):
        found = load_model(run)
        assert shape(found.model) == shape(start.model)
        assert found.model.config.dropout_output == 0.3
        assert RunOptions.read(run).tokenizer == start.tokenizer.config
    assert RunOptions.read(Path("recipe")).recipe == "tiny@3"
    assert RunOptions.read(Path("said")).training.negatives


def test_auto_is_the_softmax_of_an_adaptive_start(diary: Path, tmp_path: Path) -> None:
    building.saved_model(tmp_path / "start", "word", softmax="adaptive", cutoffs=(5,))
    arguments = ["train", str(diary), "--from", "start", "-o", "run", *ONE_THREAD, "--steps", "2"]
    assert run_command([*arguments, "--softmax", "auto"]) == 0
    config = load_model("run").model.config
    assert (config.softmax, config.cutoffs) == ("adaptive", (5,))


def test_in_python_a_default_is_left_open_and_all_else_must_agree(start: LoadedModel, diary: Path, tmp_path: Path) -> None:
    options = building.warm(diary, start.path, steps=1)
    for other in (
        replace(options, model=replace(options.model, hidden_size=13)),
        replace(options, tokenizer=replace(options.tokenizer, kind="word")),
        replace(options, start_sha256="0" * 64),
        replace(options, start=str(tmp_path / "nowhere")),
    ):
        with pytest.raises(UsageError):
            list(train(tmp_path / "run", other))
        assert not (tmp_path / "run").exists()
    agreed = replace(options, start_sha256=start.sha256, model=replace(options.model, hidden_size=12))
    list(train(tmp_path / "run", agreed))
    list(train(tmp_path / "run", agreed, resume=True))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_start_is_exit_4_and_leaves_nothing(start: LoadedModel, diary: Path, capsys: Out, name: str) -> None:
    content = bytearray((start.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (start.path / name).write_bytes(content)
    assert name in refused(capsys, 4, str(diary), "--from", str(start.path), "-o", "run")
    with pytest.raises(ArtefactError):
        list(train("run", building.warm(diary, start.path)))
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("nowhere", 2, "nowhere does not exist"), ("diary.txt", 2, "is a file"), ("empty", 4, "is not a model")],
)
def test_what_is_no_model_to_start_from(diary: Path, capsys: Out, name: str, code: int, said: str) -> None:
    Path("empty").mkdir()
    assert said in refused(capsys, code, str(diary), "--from", name, "-o", "run")
    assert not Path("run").exists()


# -- symbols the start does not know ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("char", "the cat ß\n" * 9, "9.89% of the training text's tokens"),  # 9 of 9 x 10 + <eos>
        ("char", "the cat sat on the mat .\n" * 99 + "ß\n", "0.04% of"),  # 1 of 99 x 25 + 2 + <eos>
        ("char", "the cat sat on the mat .\n" * 99, ""),
        ("word", "the cat ß .\n" * 9, "20.00% of"),
        ("word", "the cat sat on the mat .\n" * 15 + "ß\n", ""),  # 1 of 122
        ("word", "the cat sat on the mat .\n" * 6 + "ß\n", "2.00% of"),  # 1 of 50
        ("byte", "ß\n" * 99, ""),
    ],
)
def test_unknown_symbols_are_told(tmp_path: Path, kind: str, text: str, said: str) -> None:
    building.saved_model(tmp_path / "start", kind)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.txt").write_text(text)
    (tmp_path / "texts" / "valid.txt").write_text("the cat sat on the mat .\n" * 9)
    found = messages(list(train(tmp_path / "run", building.warm(tmp_path / "texts", tmp_path / "start", steps=1))))
    assert ("unknown to the model" in found) == bool(said)
    assert said in found
    percent = float(said.partition("%")[0] or 0)
    assert ("a model trained anew, without --from, would know them" in found) == (percent > 5)


def test_a_text_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    building.saved_model(tmp_path / "start", "word")
    (tmp_path / "text.txt").write_text("ни одного слова\n" * 99)
    with pytest.raises(DataError, match=r"nothing in the training text of text is known to .*start"):
        list(train(tmp_path / "run", building.warm(tmp_path / "text.txt", tmp_path / "start")))
    assert not (tmp_path / "run").exists()


# -- stopped, continued, gone back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_a_continued_run_does_not_need_the_start(start: LoadedModel, diary: Path, tmp_path: Path, averaging: float) -> None:
    options = building.warm(diary, "general/run", averaging=averaging)
    list(train(tmp_path / "whole", options))
    for run in ("one", "two", "three"):
        stop_after(tmp_path / run, options, 5)
    shutil.rmtree(tmp_path / "general")
    finish(tmp_path / "one", options)
    resume = ["train", "--resume", "--threads", "1", "--checkpoint-every", SHORT["checkpoint_every"], "-o"]
    assert run_command([*resume, "two"]) == 0
    assert run_command([*resume, "three", str(diary), "--from", "general/run"]) == 0
    for run in ("one", "two", "three"):
        assert outcome(tmp_path / run) == outcome(tmp_path / "whole")


def test_continuing_from_another_start_is_refused(start: LoadedModel, diary: Path, tmp_path: Path, capsys: Out) -> None:
    building.saved_model(tmp_path / "other", "char", embedding_size=8, hidden_size=12)
    stop_after(tmp_path / "run", building.warm(diary, start.path), 5)
    stop_after(tmp_path / "cold", building.options(diary, **SHORT), 5)
    before = everything(tmp_path)
    resume = ("--resume", *ONE_THREAD, "-o")
    assert "not " + str(tmp_path / "other") in refused(capsys, 2, *resume, "run", "--from", "other")
    assert "started from no other model" in refused(capsys, 2, *resume, "cold", "--from", "other")
    for also in ((), ("--from", "general/run")):
        assert "hidden size 12, not 256" in refused(capsys, 2, *resume, "run", *also, "--hidden", "256")
    other = replace(building.warm(diary, start.path), start_sha256="0" * 64)
    with pytest.raises(UsageError, match="was started from"):
        finish(tmp_path / "run", other)
    assert {k: v for k, v in everything(tmp_path).items() if "lock" not in k} == {
        k: v for k, v in before.items() if "lock" not in k
    }


def test_without_a_checkpoint_it_needs_the_very_model_again(start: LoadedModel, diary: Path, tmp_path: Path) -> None:
    options = building.warm(diary, start.path)
    list(train(tmp_path / "whole", options))
    for run in ("again", "changed", "gone"):
        begun(tmp_path / run, options)
    assert "starting from the beginning" in messages(finish(tmp_path / "again", options))
    assert outcome(tmp_path / "again") == outcome(tmp_path / "whole")
    shutil.rmtree(start.path)
    with pytest.raises(UsageError, match="does not exist"):
        finish(tmp_path / "gone", options)
    save_model(
        start.path, building.model(start.tokenizer.vocabulary_size, embedding_size=8, hidden_size=12), start.tokenizer
    )
    with pytest.raises(UsageError, match="is no longer the model that this run was started from"):
        finish(tmp_path / "changed", options)


def advance(events: Any, kind: type[Event]) -> Any:
    return next(event for event in events if isinstance(event, kind))


def test_gone_back_to_the_beginning_it_is_the_start_again(
    start: LoadedModel, diary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison(monkeypatch, {3, 4, 5, 6})
    options = building.warm(diary, start.path, checkpoint_every="500", validate_every=500)
    events = train(tmp_path / "run", options)
    model = advance(events, Prepared).model
    assert advance(events, RolledBack).step == 0
    assert poison.call == 6
    assert same_weights(model, start.model)
    assert advance(events, Ended)
    assert not same_weights(model, start.model)
    lines = [json.loads(line)["event"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == ["start", "validation", "checkpoint", "rollback", "validation", "end"]


def test_also_in_a_continued_run_that_lost_its_checkpoints(
    start: LoadedModel, diary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, options = tmp_path / "run", building.warm(diary, start.path, checkpoint_every="5", validate_every=500)
    stop_after(run, options, 5)
    Poison(monkeypatch, {1, 2, 3, 4})
    events = train(run, options, resume=True)
    model = advance(events, Prepared).model
    assert not same_weights(model, start.model)
    for path in run.glob("step-*"):
        shutil.rmtree(path)
    assert advance(events, RolledBack).step == 0
    assert same_weights(model, start.model)


# -- fitted -----------------------------------------------------------------------------------------------------------


def test_a_warm_start_learns_slower() -> None:
    options = RunOptions(sources=("text.txt",), training=TrainConfig(budget=60), fit=FITTED)
    for tokens, work in ((10_000, 30.0), (1_000_000, 90.0), (10_000_000, 2_000.0)):
        cold, other = (shaped(replace(options, start=start), tokens, work).training for start in (None, "model"))
        assert other.learning_rate == pytest.approx(WARM_START_RATE * cold.learning_rate, rel=0.05)
        assert replace(other, learning_rate=cold.learning_rate, embedding_init="spectral") == cold
