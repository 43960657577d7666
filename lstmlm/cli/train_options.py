"""From what was typed after `lstmlm train` to the options of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lstmlm import config as settings
from lstmlm.config import ModelConfig, TokenizerConfig, TrainConfig
from lstmlm.durations import parse_duration
from lstmlm.errors import UsageError
from lstmlm.recipes import Recipe

if TYPE_CHECKING:
    from lstmlm.checkpoint import LoadedModel
    from lstmlm.training import RunOptions

DEFAULT_BUDGET = "10m"
SOFTMAXES = ("auto", "full", "adaptive", "sampled")


def default_options(
    sources: tuple[str, ...], *, kind: str = TokenizerConfig.kind, input: str = ModelConfig.input
) -> RunOptions:
    """What `lstmlm train SOURCE` does with no option given."""
    from lstmlm.training import FITTED, RunOptions

    return RunOptions(
        sources=sources,
        tokenizer=TokenizerConfig(kind=kind),
        model=ModelConfig(input=input, tied=input == "embedding"),
        training=TrainConfig(budget=parse_duration(DEFAULT_BUDGET)),
        fit=FITTED,
    )


def build_options(
    sources: tuple[str, ...],
    given: Mapping[str, Any],
    recorded: RunOptions | None = None,
    recipe: Recipe | None = None,
    start: LoadedModel | None = None,
) -> RunOptions:
    """The options of a run: those of the `recorded` run, the recipe, or the defaults, with everything `given` on top.

    With a model to `start` from, tokenizer and shape are its own, and neither recipe nor options may ask for others.
    Of a `recorded` run, the recipe is only checked (by `RunOptions.continuing`), and so would be a start.
    """
    from lstmlm.training import RunOptions
    from lstmlm.training.warm_start import refuse_settings, warm_started

    if recorded is not None:
        base = recorded
    elif recipe is not None:
        base = RunOptions.from_recipe(recipe, sources)
    else:
        kind, input = given["tokenizer"] or TokenizerConfig.kind, given["input"] or ModelConfig.input
        base = default_options(sources, kind=kind, input=input)
    changes = changed(given)
    if changes["tokenizer"].get("kind", base.tokenizer.kind) != base.tokenizer.kind:  # the size was that of the other one
        changes["tokenizer"] = {"vocabulary_size": None, "min_count": None} | changes["tokenizer"]
    if changes["training"].keys() & {"budget", "epochs", "steps"}:
        changes["training"] = {"budget": None, "epochs": None, "steps": None} | changes["training"]
    softmax, negatives = _output_layer(given["softmax"], given["negatives"], base.training)
    if start is not None:
        softmax = {} if given["softmax"] == "auto" else softmax  # whatever the model has
        asked = base.to_mapping() if recipe else {"tokenizer": {}, "model": {}}
        tokenizer, model = asked["tokenizer"] | changes["tokenizer"], asked["model"] | changes["model"] | softmax
        refuse_settings(start, tokenizer=tokenizer, model=model)
        base, changes["tokenizer"] = warm_started(base, start), {}
    return RunOptions(
        sources=sources or base.sources,
        corpus=replace(base.corpus, **changes["corpus"]),
        tokenizer=replace(base.tokenizer, **changes["tokenizer"]),
        model=replace(base.model, **changes["model"], **softmax),
        training=replace(base.training, **changes["training"], **negatives),
        runtime=replace(base.runtime, **changes["runtime"]),
        fit=base.fit.difference(*changes.values()),
        recipe=recipe.label if recipe else base.recipe,
        recipe_sha256=recipe.sha256 if recipe else base.recipe_sha256,
        start=base.start if recorded is None else None,
        start_sha256=base.start_sha256 if recorded is None else None,
    )


def _output_layer(softmax: str | None, negatives: int | None, base: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `--softmax` and `--negatives` change of the model and of its training."""
    if softmax is None and negatives:
        softmax = "sampled"
    if softmax is None:
        return {}, {} if negatives is None else {"negatives": negatives}
    if negatives is not None and (softmax != "sampled" or negatives == 0):
        raise UsageError(f"--negatives {negatives} does not go with --softmax {softmax}; leave one of them away")
    draws = {"auto": None, "full": 0, "adaptive": 0, "sampled": negatives or base.negatives or settings.NEGATIVES}
    model = {"softmax": "adaptive"} if softmax == "adaptive" else {"softmax": "full", "cutoffs": ()}
    return model, {"negatives": draws[softmax]}


def parse_split(text: str) -> tuple[int, ...]:
    """`90/5/5` as numbers."""
    try:
        return tuple(int(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"split is {text!r}; expected TRAIN/VALID/TEST, such as 90/5/5") from None


def _parse_min_count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise UsageError(f"min count is {text!r}; expected auto or a number")
    return int(text)


def _parse_traces(text: str) -> tuple[int, ...]:
    """`50,200` as numbers; `none` is none."""
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"traces are {text!r}; expected none, or numbers of symbols such as 50,200") from None


PLACES = {
    "corpus": ("documents", "split", "text_field", "encoding_errors"),
    "tokenizer": ("tokenizer", "vocab_size", "min_count", "normalization", "lowercase"),
    "model": ("cell", "input", "layers", "hidden", "embedding", "tied", "residual", "traces", *settings.DROPOUTS),
    "training": (
        *("budget", "epochs", "steps", "batch_size", "window", "vary_window", "accumulate", "embedding_init"),
        *("optimizer", "lr"),
        *("momentum", "beta2", "weight_decay", "clip", "activation_penalty", "temporal_penalty", "averaging"),
        *("schedule", "warmup", "validate_every", "patience", "seed", "checkpoint_every"),
    ),
    "runtime": ("device", "precision", "threads"),
}
"""Which options are whose; `softmax` and `negatives` belong to two."""
_FIELDS = {
    "tokenizer": "kind",
    "vocab_size": "vocabulary_size",
    "layers": "num_layers",
    "hidden": "hidden_size",
    "embedding": "embedding_size",
    "lr": "learning_rate",
}
"""Fields that do not have the name of their option."""
_PARSERS: dict[str, Callable[[str], Any]] = {
    "split": parse_split,
    "min_count": _parse_min_count,
    "traces": _parse_traces,
    "budget": parse_duration,
}


def changed(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields of each config that options were given for; one that was not given is None."""
    return {
        config: {
            _FIELDS.get(name, name): _PARSERS[name](given[name]) if name in _PARSERS else given[name]
            for name in names
            if given.get(name) is not None
        }
        for config, names in PLACES.items()
    }
