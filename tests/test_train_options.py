"""The options of `lstmlm train`: whose each is, what wins, and what is decided once text and machine are known."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import building
import pytest
from test_recipes import TINY, written

from lstmlm import recipes
from lstmlm.checkpoint import load_model
from lstmlm.cli.main import run as run_command
from lstmlm.cli.train import train_command
from lstmlm.cli.train_options import build_options
from lstmlm.config import (
    ADAPTIVE_CUTOFFS,
    NEGATIVES,
    CorpusConfig,
    ModelConfig,
    RuntimeConfig,
    TokenizerConfig,
    TrainConfig,
)
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.training import RunOptions, train
from lstmlm.training import options as options_module
from lstmlm.training.options import choose_softmax

Out = pytest.CaptureFixture[str]
SMALL_VOCABULARY, LARGE_VOCABULARY = 11_999, 12_000

pytestmark = pytest.mark.usefixtures("clean_shell")

GIVEN: dict[str, tuple[str, str, Any]] = {
    "--documents blank-line": ("corpus", "documents", "blank-line"),
    "--split 80/15/5": ("corpus", "split", (80, 15, 5)),
    "--text-field body": ("corpus", "text_field", "body"),
    "--encoding-errors replace": ("corpus", "encoding_errors", "replace"),
    "--tokenizer word": ("tokenizer", "kind", "word"),
    "--vocab-size 777": ("tokenizer", "vocabulary_size", 777),
    "--min-count 7": ("tokenizer", "min_count", 7),
    "--normalization nfc": ("tokenizer", "normalization", "nfc"),
    "--lowercase": ("tokenizer", "lowercase", True),
    "--cell gru": ("model", "cell", "gru"),
    "--input one-hot --no-tied": ("model", "input", "one-hot"),
    "--layers 7": ("model", "num_layers", 7),
    "--hidden 77": ("model", "hidden_size", 77),
    "--embedding 77": ("model", "embedding_size", 77),
    "--no-tied": ("model", "tied", False),
    "--residual": ("model", "residual", True),
    "--traces 7,77": ("model", "traces", (7, 77)),
    "--softmax adaptive": ("model", "softmax", "adaptive"),
    "--dropout-embedding 0.77": ("model", "dropout_embedding", 0.77),
    "--dropout-input 0.77": ("model", "dropout_input", 0.77),
    "--dropout-hidden 0.77": ("model", "dropout_hidden", 0.77),
    "--dropout-weight 0.77": ("model", "dropout_weight", 0.77),
    "--dropout-output 0.77": ("model", "dropout_output", 0.77),
    "--budget 7m": ("training", "budget", 420.0),
    "--epochs 7": ("training", "epochs", 7),
    "--steps 7": ("training", "steps", 7),
    "--batch-size 7": ("training", "batch_size", 7),
    "--window 7": ("training", "window", 7),
    "--vary-window": ("training", "vary_window", True),
    "--embedding-init spectral": ("training", "embedding_init", "spectral"),
    "--accumulate 7": ("training", "accumulate", 7),
    "--negatives 7": ("training", "negatives", 7),
    "--optimizer sgd": ("training", "optimizer", "sgd"),
    "--lr 0.77": ("training", "learning_rate", 0.77),
    "--momentum 0.77": ("training", "momentum", 0.77),
    "--beta2 0.77": ("training", "beta2", 0.77),
    "--weight-decay 0.77": ("training", "weight_decay", 0.77),
    "--clip 0.77": ("training", "clip", 0.77),
    "--activation-penalty 0.77": ("training", "activation_penalty", 0.77),
    "--temporal-penalty 0.77": ("training", "temporal_penalty", 0.77),
    "--averaging 0.77": ("training", "averaging", 0.77),
    "--schedule cosine": ("training", "schedule", "cosine"),
    "--warmup 0.77": ("training", "warmup", 0.77),
    "--validate-every 7": ("training", "validate_every", 7),
    "--patience 7": ("training", "patience", 7),
    "--seed 7": ("training", "seed", 7),
    "--checkpoint-every 7": ("training", "checkpoint_every", "7"),
    "--device cpu": ("runtime", "device", "cpu"),
    "--precision fp32": ("runtime", "precision", "fp32"),
    "--threads 7": ("runtime", "threads", 7),
}
LENGTHS = {"budget", "epochs", "steps"}


def built(arguments: str, recipe: recipes.Recipe | None = None, recorded: RunOptions | None = None) -> RunOptions:
    """What `lstmlm train text.txt ARGUMENTS` would do."""
    given = dict(train_command.make_context("train", ["text.txt", *arguments.split()]).params)
    for name in ("sources", "run", "recipe", "start", "resume"):
        del given[name]
    return build_options(("text.txt",), given, recorded, recipe)


@pytest.fixture
def recipe(tmp_path: Path) -> recipes.Recipe:
    return recipes.load(written(tmp_path / "tiny.toml", TINY))


@pytest.mark.parametrize("arguments", GIVEN)
def test_an_option_changes_its_field_and_no_other(recipe: recipes.Recipe, arguments: str) -> None:
    section, name, value = GIVEN[arguments]
    before, after = built("", recipe).to_mapping(), built(arguments, recipe).to_mapping()
    assert after[section][name] == value != before[section][name]
    changed = {
        (part, field)
        for part in ("corpus", "tokenizer", "model", "training", "runtime")
        for field in after[part]
        if after[part][field] != before[part][field]
    }
    along = {("training", "steps")} if name in LENGTHS else set()  # there is one length
    along |= {("model", "tied")} if name == "input" else set()
    along |= {("training", "negatives")} if name == "softmax" else set()
    assert changed - along == {(section, name)} - along
    assert after["recipe"] == before["recipe"] == "tiny@3"


def test_every_option_and_every_field_is_among_these() -> None:
    spelled = {parameter.name: {*parameter.opts, *parameter.secondary_opts} for parameter in train_command.params}
    tried = {argument.split()[0] for argument in GIVEN}
    assert {name for name, names in spelled.items() if not names & tried} == {"sources", "run", "recipe", "start", "resume"}
    for section, kind in (
        ("corpus", CorpusConfig),
        ("tokenizer", TokenizerConfig),
        ("model", ModelConfig),
        ("training", TrainConfig),
        ("runtime", RuntimeConfig),
    ):
        without = {"vocabulary_size", "cutoffs"} if kind is ModelConfig else set()
        assert {name for part, name, _ in GIVEN.values() if part == section} == {f.name for f in fields(kind)} - without


def test_a_recipe_takes_the_place_of_the_defaults(recipe: recipes.Recipe) -> None:
    assert built("", recipe) == RunOptions.from_recipe(recipe, ("text.txt",))
    for name in recipes.names():
        packaged = recipes.load(name)
        assert built("", packaged) == RunOptions.from_recipe(packaged, ("text.txt",))
        assert built("--steps 3 --device cpu", packaged).training == replace(
            packaged.training, budget=None, epochs=None, steps=3
        )


def test_another_tokenizer_than_the_recipes_does_not_take_its_size(recipe: recipes.Recipe) -> None:
    sized = replace(recipe, tokenizer=replace(recipe.tokenizer, vocabulary_size=50, min_count=2))
    assert built("--tokenizer char", sized).tokenizer == sized.tokenizer
    assert built("--tokenizer byte", sized).tokenizer.vocabulary_size is None
    other = built("--tokenizer word --vocab-size 90", sized).tokenizer
    assert (other.vocabulary_size, other.min_count) == (90, None)
    assert built("--min-count auto", sized).tokenizer.min_count is None


# -- the output layer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "softmax", "negatives"),
    [
        ("", "full", None),
        ("--softmax auto", "full", None),
        ("--softmax full", "full", 0),
        ("--softmax adaptive", "adaptive", 0),
        ("--softmax sampled", "full", NEGATIVES),
        ("--softmax sampled --negatives 7", "full", 7),
        ("--negatives 7", "full", 7),
        ("--negatives 0", "full", 0),
    ],
)
def test_the_softmax_by_name(arguments: str, softmax: str, negatives: int | None) -> None:
    options = built(arguments)
    assert (options.model.softmax, options.training.negatives) == (softmax, negatives)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--softmax full --negatives 7", "--negatives 7 does not go with --softmax full"),
        ("--softmax auto --negatives 7", "--negatives 7 does not go with --softmax auto"),
        ("--softmax adaptive --negatives 7", "--negatives 7 does not go with --softmax adaptive"),
        ("--softmax sampled --negatives 0", "--negatives 0 does not go with --softmax sampled"),
        ("--negatives -7", "negatives is -7"),
        ("--softmax sampled --input one-hot", "one-hot"),
        ("--budget 10m --steps 5", "exactly one of budget, epochs and steps; got budget and steps"),
    ],
)
def test_what_does_not_go_together(arguments: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        built(arguments)


def test_a_softmax_takes_the_place_of_the_recipes(recipe: recipes.Recipe) -> None:
    sampled = replace(recipe, training=replace(recipe.training, negatives=99))
    assert built("", sampled).training.negatives == 99
    assert built("--softmax sampled", sampled).training.negatives == 99
    assert built("--softmax auto", sampled).training.negatives is None
    assert built("--softmax full", sampled).training.negatives == 0
    adaptive = replace(recipe, model=replace(recipe.model, softmax="adaptive", cutoffs=(5,)))
    assert built("--softmax adaptive", adaptive).model.cutoffs == (5,)
    for arguments in ("--softmax full", "--negatives 9"):
        assert (built(arguments, adaptive).model.softmax, built(arguments, adaptive).model.cutoffs) == ("full", ())


@pytest.mark.parametrize(
    ("vocabulary_size", "device", "model", "negatives"),
    [
        (LARGE_VOCABULARY, "cpu", {}, NEGATIVES),
        (SMALL_VOCABULARY, "cpu", {}, 0),
        (LARGE_VOCABULARY, "cuda", {}, 0),
        (LARGE_VOCABULARY, "cpu", {"input": "one-hot", "tied": False}, 0),
        (LARGE_VOCABULARY, "cpu", {"softmax": "adaptive"}, 0),
    ],
)
def test_auto_samples_where_many_symbols_meet_a_cpu(
    vocabulary_size: int, device: str, model: dict[str, Any], negatives: int
) -> None:
    options = RunOptions(sources=("x",), training=TrainConfig(steps=1), model=ModelConfig(**model))
    settled = options.settled(vocabulary_size, device)
    assert settled.training.negatives == negatives
    assert settled.model.vocabulary_size == vocabulary_size
    assert choose_softmax(vocabulary_size, device, input=options.model.input, softmax=options.model.softmax) == negatives
    assert settled.settled(vocabulary_size, "cpu") == settled
    clusters = [cutoff for cutoff in ADAPTIVE_CUTOFFS if cutoff < vocabulary_size]
    assert list(settled.model.cutoffs) == (clusters if options.model.softmax == "adaptive" else []), "written where used"
    for chosen in (0, 7) if negatives else (0,):
        asked = replace(options, training=TrainConfig(steps=1, negatives=chosen))
        assert asked.settled(vocabulary_size, device).training.negatives == chosen


def test_what_auto_chose_is_recorded_and_kept(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, options = tmp_path / "run", building.options(source, steps=6, checkpoint_every="2")
    with monkeypatch.context() as patched:
        patched.setattr(options_module, "choose_softmax", lambda *_, **__: 5)
        events = train(run, options)
        for event in events:
            if type(event).__name__ == "Saved":
                break
        events.close()  # type: ignore[attr-defined]
    assert RunOptions.read(run).training.negatives == 5
    list(train(run, options, resume=True))
    assert load_model(run).training["options"]["training"]["negatives"] == 5
    with pytest.raises(UsageError, match="negatives 5, not 0"):
        list(train(run, replace(options, training=replace(options.training, negatives=0)), resume=True))


def test_a_run_from_before_there_was_a_choice_trained_the_full_softmax(source: Path) -> None:
    about = building.options(source).to_mapping()
    for name in ("recipe", "recipe_sha256"):
        del about[name]
    del about["training"]["negatives"]
    options = RunOptions.from_mapping(about, "run.json")
    assert (options.training.negatives, options.recipe, options.recipe_sha256) == (0, None, None)


@pytest.mark.parametrize("name", ["recipe", "recipe_sha256"])
def test_a_damaged_recipe_entry_is_an_artefact_error(source: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match=r"run\.json is damaged: recipe"):
        RunOptions.from_mapping(building.options(source).to_mapping() | {name: 5}, "run.json")


# -- whole runs -------------------------------------------------------------------------------------------------------


def refused(capsys: Out, code: int, *arguments: str) -> str:
    assert run_command(arguments) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()) <= 2, err.startswith("lstmlm: ")) == ("", True, True), err
    return err


def test_a_run_from_a_recipe_and_its_continuation(source: Path, tmp_path: Path, capsys: Out) -> None:
    path = written(tmp_path / "tiny.toml", TINY)
    begin = ["train", str(source), "-o", "run", "--recipe", path, "--precision", "fp32"]
    assert run_command([*begin, "--steps", "3"]) == 0
    capsys.readouterr()
    options = RunOptions.read(Path("run"))
    assert (options.recipe, options.recipe_sha256) == ("tiny@3", recipes.load(path).sha256)
    assert (options.training.steps, options.training.batch_size, options.training.negatives) == (3, 2, 0)
    assert load_model("run").training["options"]["recipe"] == "tiny@3"
    assert run_command(["info", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["recipe"] == "tiny@3"
    for again in ([], ["--recipe", path], ["--recipe", path, "--softmax", "auto"], ["--steps", "3"]):
        assert run_command(["train", "-o", "run", "--resume", *again]) == 0
        assert "is finished" in capsys.readouterr().err
    resume = ["train", "-o", "run", "--resume"]
    assert f"recipe tiny@3, not {recipes.load('everyday-demo').label}" in refused(
        capsys, 2, *resume, "--recipe", "everyday-demo"
    )
    assert "batch size 2, not 3" in refused(capsys, 2, *resume, "--recipe", path, "--batch-size", "3")
    written(tmp_path / "tiny.toml", TINY.replace("hidden_size = 12", "hidden_size = 13"))
    assert "recipe tiny@3 is not what it was" in refused(capsys, 2, *resume, "--recipe", path)
    assert run_command(resume) == 0


def test_a_run_without_a_recipe_is_not_continued_with_one(source: Path, tmp_path: Path, capsys: Out) -> None:
    list(train("run", building.options(source, steps=2)))
    path = written(tmp_path / "tiny.toml", TINY)
    said = refused(capsys, 2, "train", "-o", "run", "--resume", "--recipe", path)
    assert "this run was started with no recipe, not tiny@3" in said


@pytest.mark.parametrize(
    ("code", "content", "arguments", "said"),
    [
        (2, TINY, "train text.txt --recipe wikitext3", "expected a FILE.toml or one of everyday-demo, ptb-gpu"),
        (2, TINY, "train text.txt --recipe none.toml", "none.toml does not exist"),
        (2, TINY, "train --recipe tiny.toml", "expected a SOURCE; recipe tiny is for any text"),
        (2, TINY, "train text.txt --recipe tiny.toml --budget 1m --steps 3", "exactly one of"),
        (2, TINY, "train text.txt --recipe tiny.toml --hidden 0", "hidden_size is 0"),
        (4, TINY.replace("[model]", "[modle]"), "train text.txt --recipe tiny.toml", "tiny.toml: unknown key or section"),
        (
            4,
            TINY.replace("= 12\n", "= 1.5\n"),
            "train text.txt --recipe tiny.toml",
            "tiny.toml: [model]: hidden_size is 1.5",
        ),
        (4, TINY.replace("= 3\n", "= -3\n"), "train text.txt --recipe tiny.toml", "tiny.toml: version is -3"),
        (4, '"\x1b[31m" = ', "train text.txt --recipe tiny.toml", "tiny.toml is not TOML"),
    ],
)
def test_a_mistake_is_one_error_and_leaves_nothing(
    source: Path, tmp_path: Path, capsys: Out, code: int, content: str, arguments: str, said: str
) -> None:
    written(tmp_path / "tiny.toml", content)
    message = refused(capsys, code, *arguments.split())
    assert said in message
    assert "\x1b" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt", "tiny.toml"]
