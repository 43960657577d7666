"""The picture of the rooms, executable: what each may import, and who may use which third-party package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lstmlm

PACKAGE = Path(lstmlm.__file__).parent
LONGEST_MODULE = 400
ROOMS = (
    "errors",
    "durations",
    "config",
    "recipes",
    "storage",
    "corpus",
    "tokenizer",
    "spelling",
    "token_store",
    "runtime",
    "batches",
    "sampling",
    "model",
    "scoring",
    "checkpoint",
    "training",
    "ngram",
    "adaptation",
    "predictor",
    "lookahead",
    "covers",
    "reader",
    "generation",
    "beam",
    "wordsearch",
    "completion",
    "anticipation",
    "surprisal",
    "pairs",
    "regions",
    "evaluation",
    "comparison",
    "integrations",
    "keyboard",
    "tuning",
    "report",
    "repl",
    "cli",
)
"""From the ground up: a room imports only what stands before it."""
OWNERS = {
    "datasets": ("corpus",),
    "tokenizers": ("tokenizer",),
    "safetensors": ("checkpoint",),
    "prompt_toolkit": ("repl",),
    "rich": ("report", "cli"),
    "click": ("cli",),
    "lm_eval": ("integrations",),
    "tqdm": ("integrations",),
    "tomli": ("recipes",),
    "tomllib": ("recipes",),
    "torch": ROOMS[ROOMS.index("runtime") :],
    "numpy": ROOMS,
}
HEAVY = {"torch", "numpy", "datasets", "tokenizers", "safetensors", "prompt_toolkit", "rich", "pandas", "pyarrow"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "corpora" not in path.relative_to(PACKAGE).parts)


def room(path: Path) -> str:
    """The room a module belongs to; the two doors of the package, `__init__` and `__main__`, are none."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


ROOM_MODULES = [path for path in modules() if not room(path).startswith("__")]


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(PACKAGE).as_posix() for path in paths]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module an import statement may load, wherever it stands: `from a import b` may be a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(path: Path) -> list[str]:
    package = ".".join(["lstmlm", *path.relative_to(PACKAGE).parent.parts])
    return list(imported(ast.parse(path.read_text(encoding="utf-8")), package))


def standing_too_low(name: str, found: list[str]) -> list[str]:
    """What of the package `found` names besides the rooms above room `name`, itself and the version."""
    inner = {(*module.split("."), "the whole package")[1] for module in found if module.partition(".")[0] == "lstmlm"}
    return sorted(inner - {*ROOMS[: ROOMS.index(name) + 1], "__version__"})


def foreign(name: str, found: list[str]) -> list[str]:
    """The third-party packages among `found` that room `name` does not own."""
    outside = {module.partition(".")[0] for module in found} - {"lstmlm", "__future__"} - sys.stdlib_module_names
    return sorted(package for package in outside if name not in OWNERS.get(package, ()))


def test_the_list_of_rooms_is_complete() -> None:
    assert {room(path) for path in ROOM_MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", ROOM_MODULES, ids=names(ROOM_MODULES))
def test_a_room_imports_only_what_stands_above_it(path: Path) -> None:
    assert standing_too_low(room(path), imports(path)) == []


@pytest.mark.parametrize("path", ROOM_MODULES, ids=names(ROOM_MODULES))
def test_third_party_packages_stay_with_their_owners(path: Path) -> None:
    assert foreign(room(path), imports(path)) == []


def test_no_import_hides_in_a_string() -> None:
    """Only the package's own door loads by name; elsewhere the two tests above would not see it."""
    hidden = [
        path
        for path in ROOM_MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id in ("__import__", "exec", "eval"))
        or (
            isinstance(node, ast.Attribute | ast.alias)
            and getattr(node, "attr", getattr(node, "name", "")) == "import_module"
        )
    ]
    assert names(hidden) == []


@pytest.mark.parametrize(
    ("name", "source", "low", "outside"),
    [
        ("config", "from lstmlm.errors import UsageError", [], []),
        ("config", "def late():\n    from lstmlm.model import State", ["model"], []),
        ("errors", "import lstmlm.cli.main", ["cli"], []),
        ("storage", "from lstmlm import corpus", ["corpus"], []),
        ("storage", "from . import cli", ["cli"], []),
        ("corpus", "from ..training.loop import train", ["training"], []),
        ("generation", "from lstmlm import sampling, __version__", [], []),
        ("cli", "from lstmlm import train", ["train"], []),
        ("cli", "import lstmlm", ["the whole package"], []),
        ("batches", "import os, json, torch.nn", [], []),
        ("token_store", "import numpy\nimport torch", [], ["torch"]),
        ("training", "if True:\n    import rich.progress", [], ["rich"]),
        ("model", "import requests", [], ["requests"]),
    ],
)
def test_the_two_rules_notice_what_they_forbid(name: str, source: str, low: list[str], outside: list[str]) -> None:
    folder = "lstmlm.corpus" if name == "corpus" else "lstmlm"
    found = list(imported(ast.parse(source), folder))
    assert standing_too_low(name, found) == low
    assert foreign(name, found) == outside


def test_nobody_prints_but_the_commands() -> None:
    printing = [
        path
        for path in modules()
        if room(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input")
    ]
    assert names(printing) == []


def test_no_module_grows_too_long() -> None:
    paths = [*modules(), *Path(__file__).parent.glob("*.py")]
    assert [path.name for path in paths if len(path.read_text(encoding="utf-8").splitlines()) >= LONGEST_MODULE] == []


def test_every_module_and_room_says_what_it_is_for() -> None:
    silent = [path for path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert names(silent) == []


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `code`."""
    report = "\nimport sys\nsys.stderr.write('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import lstmlm; assert 'train' in dir(lstmlm) and lstmlm.__version__",
        "from lstmlm.cli.main import run; assert run(['--help']) == 0",
        "from lstmlm.cli.main import run; assert run(['--version']) == 0",
        "from lstmlm.cli.main import lstmlm, run; assert not any(run([name, '--help']) for name in lstmlm.commands)",
    ],
    ids=["import", "help", "version", "help of every command"],
)
def test_asking_for_help_loads_nothing_heavy(code: str) -> None:
    loaded = loaded_by(code)
    assert "lstmlm" in loaded
    assert not loaded & HEAVY


def test_the_public_names_exist_and_are_documented() -> None:
    for name in lstmlm.__all__:
        assert getattr(lstmlm, name).__doc__, name
    assert set(lstmlm.__all__) <= set(dir(lstmlm))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lstmlm' has no attribute 'perplexify'"):
        getattr(lstmlm, "perplexify")  # noqa: B009
