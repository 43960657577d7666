"""Warm start: a run that begins with the weights of a trained model, whose tokenizer and shape it therefore keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.config import to_mapping
from lstmlm.errors import DataError, UsageError
from lstmlm.training.options import SHAPE, RunOptions
from lstmlm.training.preparation import Material

_DECIDED = frozenset({"vocabulary_size", "embedding_size", "hidden_size", "num_layers", "traces", "embedding_init"})
"""Settings that need no fitting: the model has them."""
_NOTICED_UNKNOWN = {"char": 0.0, "word": 0.01}
"""Parts of the training text from which unknown symbols are worth a note. A word model always has some."""
_TOO_MUCH_UNKNOWN = 0.05
_NAMES = {"kind": "tokenizer"}


def load_start(options: RunOptions) -> LoadedModel:
    """The model to start from.

    Raises:
        UsageError: it does not exist, or is not the one it was when the run was started.
        ArtefactError: it is no model, or damaged.
    """
    assert options.start is not None, "asked for by whoever has a start"
    start = load_model(options.start)
    if options.start_sha256 not in (None, start.sha256):
        raise UsageError(f"{start.path} is no longer the model that this run was started from")
    return start


def warm_started(options: RunOptions, start: LoadedModel) -> RunOptions:
    """These options with the tokenizer and the shape of `start`."""
    shape = {name: getattr(start.model.config, name) for name in SHAPE}
    return replace(
        options,
        start=str(start.path.resolve()),
        start_sha256=start.sha256,
        tokenizer=start.tokenizer.config,
        model=replace(options.model, **shape),
        training=replace(options.training, embedding_init="uniform"),
        fit=options.fit - _DECIDED,
    )


def refuse_contradiction(options: RunOptions, start: LoadedModel) -> None:
    """Raise `UsageError` for options that ask for another tokenizer or shape than that of `start`."""
    asked = {
        section: {name: value for name, value in settings.items() if not options.leaves_to_start(section, name)}
        for section, settings in (("tokenizer", to_mapping(options.tokenizer)), ("model", to_mapping(options.model)))
    }
    refuse_settings(start, **asked)


def refuse_settings(start: LoadedModel, *, tokenizer: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise `UsageError` for the first setting that `start` has otherwise. None leaves a setting open."""
    has = to_mapping(start.tokenizer.config) | {name: getattr(start.model.config, name) for name in SHAPE}
    asked = {**tokenizer, **{name: value for name, value in model.items() if name in SHAPE}}
    for name, value in asked.items():
        if value is None or value == has[name]:
            continue
        if name == "vocabulary_size":
            has[name] = start.tokenizer.vocabulary_size
            if value == has[name]:
                continue
        label = _NAMES.get(name, name.replace("_", " "))
        raise UsageError(
            f"--from keeps the tokenizer and the shape of its model: {start.path} has {label} {has[name]}, not {value}"
        )


def notes(options: RunOptions, material: Material) -> list[str]:
    """What a person should know about a text that a model with another vocabulary goes on with.

    Raises:
        DataError: the vocabulary has nothing of the text.
    """
    counts, tokenizer = material.stores["train"].tokens, material.tokenizer
    if options.start is None or tokenizer.unk is None:
        return []
    if counts.tokens_unknown + counts.tokens_eos == counts.tokens:
        raise DataError(
            f"nothing in the training text of {material.corpus.name} is known to {options.start}; train anew, without --from"
        )
    part = counts.tokens_unknown / counts.tokens
    if part <= _NOTICED_UNKNOWN[tokenizer.kind]:
        return []
    advice = "; a model trained anew, without --from, would know them" if part > _TOO_MUCH_UNKNOWN else ""
    return [f"{part:.2%} of the training text's tokens are unknown to the model that this run starts from{advice}"]
