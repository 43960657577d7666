"""Recipes: named, versioned settings of a run, with the figures to expect; one TOML file each, in this folder.

    format = "lstmlm-recipe"
    version = 1
    about = "one sentence"
    data = "what SOURCE is meant"

    [corpus] [tokenizer] [model] [training] [runtime]      fields of the config classes, under their own names
    [expected]                                             figures, seconds, memory, machine, date; any keys

What a section leaves out has the default of its config class. Whatever changes a figure raises the version.
"""

from __future__ import annotations

import hashlib
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from lstmlm.config import Config, CorpusConfig, ModelConfig, RuntimeConfig, TokenizerConfig, TrainConfig, from_mapping
from lstmlm.errors import ArtefactError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent
_SUFFIX = ".toml"
_FORMAT = "lstmlm-recipe"
_HEADS = ("version", "about", "data")
_SECTIONS = ("corpus", "tokenizer", "model", "training", "runtime", "expected")
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of whole numbers"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a run but the text; and what comes of it."""

    name: str
    """The name of its file."""
    version: int
    about: str
    """One sentence."""
    data: str
    """What it is meant to be trained on."""
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    model: ModelConfig
    training: TrainConfig
    runtime: RuntimeConfig
    expected: Mapping[str, Any] = field(default_factory=dict)
    """Figures with their circumstances, or `status = "not yet run"`."""
    sha256: str
    """Of the file."""

    @property
    def label(self) -> str:
        """NAME@VERSION"""
        return f"{self.name}@{self.version}"


def names() -> list[str]:
    """The recipes inside the package."""
    return sorted(path.stem for path in _FOLDER.glob(f"*{_SUFFIX}"))


def load(name_or_path: str) -> Recipe:
    """The recipe of this name, NAME@VERSION, or file (anything that ends in `.toml`).

    Raises:
        UsageError: there is no such recipe, or not in that version.
        ArtefactError: the file is no recipe, or one with a key or value that cannot be used.
    """
    if name_or_path.endswith(_SUFFIX):
        path = Path(name_or_path)
        if not path.is_file():
            raise UsageError(f"{name_or_path} {'is not a file' if path.exists() else 'does not exist'}; expected a recipe")
        return _read(path)
    name, _, version = name_or_path.partition("@")
    if name not in names():
        raise UsageError(f"no recipe is called {name!r}; expected a FILE{_SUFFIX} or one of {', '.join(names())}")
    recipe = _read(_FOLDER / f"{name}{_SUFFIX}")
    if version and version != str(recipe.version):
        raise UsageError(f"recipe {name} has version {recipe.version} here, not {version}")
    return recipe


def _read(path: Path) -> Recipe:
    data, where = path.read_bytes(), str(path)
    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise ArtefactError(f"{where} is not TOML: {error}") from error
    if content.get("format") != _FORMAT:
        raise ArtefactError(f"{where} is not a recipe; expected format = {_FORMAT!r} at its beginning")
    heads = {name: value for name, value in content.items() if name not in _SECTIONS and name != "format"}
    if unknown := sorted(heads.keys() - set(_HEADS)):
        raise ArtefactError(f"{where}: unknown key or section {unknown[0]!r}; the sections are {', '.join(_SECTIONS)}")
    _check_types(Recipe, heads, where)
    for name in _HEADS:
        if name not in heads:
            raise ArtefactError(f"{where}: {name} is missing")
    if heads["version"] < 1:
        raise ArtefactError(f"{where}: version is {heads['version']}; expected a whole number of at least 1")
    for name in _SECTIONS:
        if not isinstance(content.get(name, {}), dict):
            raise ArtefactError(f"{where}: {name} is {reprlib.repr(content[name])}; expected a section [{name}]")
    if "vocabulary_size" in content.get("model", {}):
        raise ArtefactError(f"{where}: [model] vocabulary_size is that of the text; set the one of [tokenizer]")
    return Recipe(
        name=path.stem,
        corpus=_section(CorpusConfig, "corpus", content, where),
        tokenizer=_section(TokenizerConfig, "tokenizer", content, where),
        model=_section(ModelConfig, "model", content, where),
        training=_section(TrainConfig, "training", content, where),
        runtime=_section(RuntimeConfig, "runtime", content, where),
        expected=content.get("expected", {}),
        sha256=hashlib.sha256(data).hexdigest(),
        **heads,
    )


def _section(kind: type[Config], name: str, content: Mapping[str, Any], where: str) -> Config:
    values, where = content.get(name, {}), f"{where}: [{name}]"
    _check_types(kind, values, where)
    return from_mapping(kind, values, where)


def _check_types(kind: type, values: Mapping[str, Any], where: str) -> None:
    """TOML knows types, so a value of another one than its field's is a mistake: `16.5` streams, `"high"` for a rate."""
    hints = get_type_hints(kind)
    for name in (known.name for known in fields(kind) if known.name in values):
        hint = hints[name]
        if isinstance(hint, UnionType):  # with None, which TOML cannot say
            hint = get_args(hint)[0]
        if not _fits(values[name], hint):
            expected = _WORDS[get_origin(hint) or hint]
            raise ArtefactError(f"{where}: {name} is {reprlib.repr(values[name])}; expected {expected}")


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(type(item) is int for item in value)
    return type(value) in ((int, float) if hint is float else (hint,))
