"""Recipes: the ones inside the package, and what becomes of a file that is none."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmlm import recipes
from lstmlm.cli.main import run as run_command
from lstmlm.config import ModelConfig, TrainConfig
from lstmlm.errors import ArtefactError, UsageError
from lstmlm.training import RunOptions

TINY = """
format = "lstmlm-recipe"
version = 3
about = "A few steps."
data = "any text"

[tokenizer]
kind = "char"

[model]
embedding_size = 8
hidden_size = 12

[training]
steps = 40
batch_size = 2
window = 8

[runtime]
threads = 1

[expected]
perplexity = 12.5
"""
SMALL_NUMBERS = (None, 0, 1, False, ())
"""Defaults that switch nothing on."""


def written(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


# -- in the package ---------------------------------------------------------------------------------------------------


def test_the_package_has_these_recipes() -> None:
    assert recipes.names() == [
        *("everyday-demo", "ptb-gpu", "shakespeare-char-cpu-10m"),
        *("wikitext2-cpu-10m", "wikitext2-cpu-30m", "wikitext2-gpu"),
    ]
    for name in recipes.names():
        assert files("lstmlm.recipes").joinpath(f"{name}.toml").is_file()


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_of_the_package_is_a_whole_run(name: str) -> None:
    recipe = recipes.load(name)
    options = RunOptions.from_recipe(recipe, ["text.txt"])
    assert RunOptions.from_mapping(json.loads(json.dumps(options.to_mapping())), "here") == options
    assert options.recipe == f"{name}@{recipe.version}"
    assert options.recipe_sha256 == hashlib.sha256(files("lstmlm.recipes").joinpath(f"{name}.toml").read_bytes()).hexdigest()
    assert recipe.about.endswith(".")
    assert recipe.data
    assert recipe.expected
    assert recipes.load(recipe.label) == recipe


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_of_the_package_does_not_change_with_the_defaults(name: str) -> None:
    """It names whatever has a default that does something: a new default must not change an old recipe's figures."""
    content = files("lstmlm.recipes").joinpath(f"{name}.toml").read_text()
    without = {"vocabulary_size", "checkpoint_every"}  # the tokenizer's; of no influence
    telling = {
        field.name
        for kind in (ModelConfig, TrainConfig)
        for field in fields(kind)
        if field.default not in SMALL_NUMBERS and field.name not in without
    }
    named = {line.partition(" = ")[0] for line in content.splitlines()}
    assert sorted(telling - named) == []
    assert {"seed", "negatives"} <= named


@pytest.mark.parametrize("name", [name for name in recipes.names() if "-gpu" in name])
def test_a_gpu_recipe_asks_for_one(name: str) -> None:
    assert recipes.load(name).runtime.device == "cuda"


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes"]) == 0
    table = capsys.readouterr().out
    assert run_command(["recipes", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert list(about) == recipes.names()
    for name in recipes.names():
        assert name in table
        assert about[name]["training"]["seed"] == recipes.load(name).training.seed
    assert run_command(["train", "--help"]) == 0
    told = "".join(capsys.readouterr().out.split())  # as if no line were ever broken
    assert ",".join(recipes.names()) in told


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    recipe = recipes.load(written(tmp_path / "mine.toml", TINY))
    assert (recipe.label, recipe.about, recipe.data) == ("mine@3", "A few steps.", "any text")
    assert recipe.model == ModelConfig(embedding_size=8, hidden_size=12)
    assert recipe.training == TrainConfig(steps=40, batch_size=2, window=8)
    assert (recipe.tokenizer.kind, recipe.runtime.threads) == ("char", 1)
    assert recipe.expected == {"perplexity": 12.5}
    assert recipe.sha256 == hashlib.sha256(TINY.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wikitext2", "no recipe is called 'wikitext2'; expected a FILE.toml or one of everyday-demo, ptb-gpu"),
        ("", "no recipe is called ''"),
        ("../recipes/everyday-demo", "no recipe is called"),
        ("everyday-demo@99", f"version {recipes.load('everyday-demo').version} here, not 99"),
        ("everyday-demo.toml", "everyday-demo.toml does not exist"),
        (".toml", ".toml does not exist"),
        ("folder.toml", "folder.toml is not a file"),
    ],
)
def test_what_is_no_recipe_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError) as caught:
        recipes.load(name)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (TINY, "", "is not a recipe"),
        ('"lstmlm-recipe"', '"lstmlm-recipe-2"', "is not a recipe"),
        ("version = 3\n", "", "version is missing"),
        ("version = 3", "version = 0", "version is 0; expected a whole number of at least 1"),
        ("version = 3", 'version = "3"', "version is '3'; expected a whole number"),
        ("version = 3", "version = true", "version is True; expected a whole number"),
        ('data = "any text"\n', "", "data is missing"),
        ('about = "A few steps."', "about = 5", "about is 5; expected text"),
        ("version = 3", "version = 3\nname = 5", "unknown key or section 'name'"),
        ("[runtime]", "[machine]", "unknown key or section 'machine'"),
        ("[runtime]\nthreads = 1", "", ""),
        ("version = 3", "version = 3\ncorpus = 5", "corpus is 5; expected a section [corpus]"),
        ("[runtime]", "[[runtime]]", "expected a section [runtime]"),
        ("hidden_size", "hidden", "[model]: unknown setting 'hidden'"),
        ("hidden_size = 12", "hidden_size = 12.5", "[model]: hidden_size is 12.5; expected a whole number"),
        ("hidden_size = 12", "hidden_size = true", "[model]: hidden_size is True; expected a whole number"),
        ("hidden_size = 12", "hidden_size = 0", "[model]: hidden_size is 0; expected a number of at least 1"),
        ("hidden_size = 12", "tied = 1", "[model]: tied is 1; expected true or false"),
        ("hidden_size = 12", "cutoffs = [1.5]", "[model]: cutoffs is [1.5]; expected a list of whole numbers"),
        ("hidden_size = 12", "vocabulary_size = 12", "[model] vocabulary_size is that of the text"),
        ("window = 8", 'learning_rate = "high"', "[training]: learning_rate is 'high'; expected a number"),
        ("window = 8", "learning_rate = nan", "[training]: learning_rate is nan"),
        ("window = 8", "learning_rate = false", "[training]: learning_rate is False; expected a number"),
        ("window = 8", "vary_window = 1", "[training]: vary_window is 1; expected true or false"),
        ("window = 8", "checkpoint_every = 60", "[training]: checkpoint_every is 60; expected text"),
        ("window = 8", "negatives = 1.5", "[training]: negatives is 1.5; expected a whole number"),
        ("window = 8", "budget = 60", "[training]: expected exactly one of budget, epochs and steps"),
        ("steps = 40", "", "[training]: expected exactly one of budget, epochs and steps; got none"),
        ("steps = 40", 'budget = "10m"', "[training]: budget is '10m'; expected a number"),
        ('kind = "char"', 'kind = "wordpiece"', "[tokenizer]: tokenizer is 'wordpiece'"),
        ("steps = 40", "steps = ", "is not TOML: "),
        ("steps = 40", "steps = 40\nsteps = 41", "is not TOML: "),
        ("steps = 40", "steps = " + "[" * 5000, "is not TOML: "),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in TINY
    path = written(tmp_path / "mine.toml", TINY.replace(before, after))
    if not said:
        assert recipes.load(path).runtime.threads is None  # a section may be left out
        return
    with pytest.raises(ArtefactError) as caught:
        recipes.load(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(path)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 4


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"mine\.toml is not TOML: .*0xe9"):
        recipes.load(written(tmp_path / "mine.toml", TINY.encode().replace(b"any text", b"\xe9")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(TINY.splitlines()),
    st.sampled_from(["1e400", "-0", "1e-9", '"x"', "[]", "{}", "1979-05-27", "[[1]]", "9" * 400]),
)
def test_any_value_makes_a_recipe_or_an_artefact_error(tmp_path: Path, line: str, value: str) -> None:
    name = line.partition(" = ")[0]
    path = written(tmp_path / "mine.toml", TINY.replace(line, f"{name} = {value}") if " = " in line else TINY)
    with suppress(ArtefactError):
        assert recipes.load(path).name == "mine"
