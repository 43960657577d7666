"""Settings check themselves: a message names the field, the value, and what would be accepted."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmlm.config import (
    DROPOUTS,
    CorpusConfig,
    ModelConfig,
    RuntimeConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainConfig,
    from_mapping,
    to_mapping,
    updated,
)
from lstmlm.durations import parse_duration, parse_interval
from lstmlm.errors import ArtefactError, UsageError

NAN, INF = math.nan, math.inf
CONFIGS = (
    CorpusConfig(),
    TokenizerConfig(),
    ModelConfig(),
    RuntimeConfig(),
    TrainConfig(steps=1),
    SamplingConfig(),
)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *((CorpusConfig, "documents", value) for value in ("line", "", "FILE")),
        (CorpusConfig, "encoding_errors", "ignore"),
        *((CorpusConfig, "split", value) for value in ((90, 10), (90, 5, 5, 0), (0, 5, 5), (90, 0, 10), (90, 5, -5), ())),
        (TokenizerConfig, "kind", "sentencepiece"),
        (TokenizerConfig, "normalization", "nfd"),
        *((ModelConfig, "cell", value) for value in ("LSTM", "transformer", "")),
        (ModelConfig, "input", "onehot"),
        (ModelConfig, "softmax", "sparse"),
        *(
            (ModelConfig, field, value)
            for field in ("vocabulary_size", "embedding_size", "hidden_size", "num_layers")
            for value in (0, -1, 1.5, NAN)
        ),
        *((ModelConfig, field, value) for field in DROPOUTS for value in (-0.1, 1.0, 1.5, NAN, INF)),
        (RuntimeConfig, "device", "tpu"),
        (RuntimeConfig, "precision", "fp16"),
        *((RuntimeConfig, "threads", value) for value in (0, -2)),
        (TrainConfig, "optimizer", "lion"),
        (TrainConfig, "schedule", "step"),
        *((TrainConfig, field, value) for field in ("learning_rate", "clip") for value in (0.0, -1.0, NAN, INF)),
        *((TrainConfig, field, value) for field in ("batch_size", "window", "accumulate") for value in (0, -1, NAN)),
        *(
            (TrainConfig, field, value)
            for field in ("momentum", "beta2", "warmup", "averaging")
            for value in (-0.1, 1.0, NAN)
        ),
        *(
            (TrainConfig, field, value)
            for field in ("weight_decay", "patience", "seed", "negatives", "activation_penalty", "temporal_penalty")
            for value in (-1, NAN)
        ),
        *((TrainConfig, "vary_window", value) for value in ("no", 1, None)),
        (TrainConfig, "seed", 2**63),
        (TrainConfig, "validate_every", 0),
        *((SamplingConfig, field, -1.0) for field in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")),
        *((SamplingConfig, field, NAN) for field in ("temperature", "top_p", "min_p", "repetition_penalty")),
        *((SamplingConfig, "top_p", value) for value in (0.0, 1.1)),
        (SamplingConfig, "min_p", 1.1),
        (SamplingConfig, "temperature", INF),
        (SamplingConfig, "repetition_penalty", 0.0),
    ],
)
def test_a_value_out_of_range_is_named(kind: type, field: str, value: Any) -> None:
    given = {"steps": 1} if kind is TrainConfig else {}
    with pytest.raises(UsageError) as caught:
        kind(**given, **{field: value})
    message = str(caught.value)
    assert ("tokenizer" if field == "kind" else field) in message
    assert ("/".join(map(str, value)) if isinstance(value, tuple) else str(value)) in message
    assert "expected" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "bpe", "vocabulary_size": 257}, "vocabulary size of bpe is 257; expected .* at least 258"),
        ({"kind": "word", "vocabulary_size": 2}, "vocabulary size of word is 2; expected .* at least 3"),
        ({"kind": "char", "vocabulary_size": -3}, "vocabulary size of char is -3"),
        ({"kind": "byte", "vocabulary_size": 257}, "vocabulary size does not apply to bytes"),
        ({"kind": "bpe", "min_count": 2}, "min count does not apply to bpe"),
        ({"kind": "byte", "min_count": 2}, "min count does not apply to byte"),
        ({"kind": "word", "min_count": 0}, "min_count is 0; expected .* at least 1"),
    ],
)
def test_what_does_not_go_with_a_tokenizer_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TokenizerConfig(**given)


def test_tied_weights_need_an_embedding() -> None:
    with pytest.raises(UsageError, match=r"tied.*one-hot"):
        ModelConfig(input="one-hot", tied=True)
    assert ModelConfig(input="one-hot", tied=False, vocabulary_size=7).input_size == 7
    assert ModelConfig(embedding_size=5).input_size == 5


def test_embedding_dropout_needs_an_embedding() -> None:
    with pytest.raises(UsageError, match=r"embedding dropout.*one-hot"):
        ModelConfig(input="one-hot", tied=False, dropout_embedding=0.1)


@pytest.mark.parametrize("numbers", [(0,), (-3, 5), (5, 5), (7, 3), (1.5,), (NAN,), (True,), ("3",), (1 << 31,), (None,)])
@pytest.mark.parametrize("owner", [{"softmax": "adaptive", "cutoffs": ()}, {"traces": ()}], ids=["cutoffs", "traces"])
def test_cutoffs_and_traces_are_rising_whole_numbers(owner: dict[str, Any], numbers: tuple[Any, ...]) -> None:
    name = list(owner)[-1]
    with pytest.raises(UsageError, match=rf"{name} (is|are) .*expected"):
        ModelConfig(**owner | {name: numbers})
    with pytest.raises(ArtefactError, match=f"here: {name}"):
        from_mapping(ModelConfig, owner | {name: list(numbers)}, "here")


def test_traces_need_tied_weights() -> None:
    with pytest.raises(UsageError, match=r"traces.*expected tied weights"):
        ModelConfig(traces=(5,), tied=False)


def test_cutoffs_belong_to_an_adaptive_softmax() -> None:
    with pytest.raises(UsageError, match="this one is full"):
        ModelConfig(cutoffs=(5,))


@pytest.mark.parametrize(
    ("vocabulary_size", "cutoffs", "starts"),
    [
        (33_278, (), (0, 2000, 10_000)),
        (2000, (), (0,)),
        (2001, (), (0, 2000)),
        (100, (5, 60), (0, 5, 60)),
        (60, (5, 60, 61), (0, 5)),
    ],
)
def test_clusters_begin_at_the_cutoffs_below_the_vocabulary_size(
    vocabulary_size: int, cutoffs: tuple[int, ...], starts: tuple[int, ...]
) -> None:
    config = ModelConfig(vocabulary_size=vocabulary_size, softmax="adaptive", cutoffs=cutoffs)
    assert config.cluster_starts == starts
    assert from_mapping(ModelConfig, json.loads(json.dumps(to_mapping(config))), "here") == config


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "exactly one of budget, epochs and steps; got none"),
        ({"epochs": 1, "steps": 1}, "got epochs and steps"),
        ({"budget": 1.0, "epochs": 1, "steps": 1}, "got budget and epochs and steps"),
        ({"steps": 0}, "steps is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"budget": 0.0}, "budget is 0.0"),
        ({"budget": INF}, "budget is inf"),
        ({"steps": 1, "checkpoint_every": "soon"}, "checkpoint_every: 'soon' is not a duration"),
        ({"steps": 1, "checkpoint_every": "0"}, "checkpoint_every: .* is 0; expected"),
        ({"steps": 1, "checkpoint_every": "-5s"}, r"checkpoint_every: .* is -5\.0; expected"),
    ],
)
def test_how_long_training_takes(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainConfig(**given)


# --- durations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("0.5s", 0.5), ("1e2s", 100), (" 5 ", 5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "m", "ten", "10x", "5 minutes", "1h30m", "0", "0s", "-1m", "nan", "infs", "1e999h"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "interval"), [("500", (500, None)), ("60s", (None, 60.0)), ("2m", (None, 120.0))])
def test_intervals_are_steps_or_seconds(text: str, interval: tuple[int | None, float | None]) -> None:
    assert parse_interval(text) == interval


# --- to and from JSON ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_configs_survive_json_and_cannot_be_changed(config: Any) -> None:
    values = json.loads(json.dumps(to_mapping(config)))
    assert from_mapping(type(config), values, "here") == config
    name = fields(config)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(config, name, getattr(config, name))
    with pytest.raises(TypeError):
        type(config)("positional")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_an_unknown_setting_is_an_artefact_error(config: Any) -> None:
    with pytest.raises(ArtefactError, match=r"config\.json: unknown setting 'zeal'"):
        from_mapping(type(config), to_mapping(config) | {"zeal": 1}, "config.json")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ModelConfig, {"cell": "magic"}),
        (ModelConfig, {"hidden_size": "large"}),
        (ModelConfig, {"hidden_size": 16.5}),
        (ModelConfig, {"hidden_size": None}),
        (ModelConfig, {"cell": ["lstm"]}),
        (CorpusConfig, {"split": 5}),
        (CorpusConfig, {"split": ["a", "b", "c"]}),
        (TrainConfig, {"steps": 1, "checkpoint_every": 60}),
        (TrainConfig, {}),
        (TokenizerConfig, {"kind": {}}),
    ],
)
def test_a_bad_value_on_disk_is_an_artefact_error(kind: type, values: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match=r"here: "):
        from_mapping(kind, values, "here")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([type(config) for config in CONFIGS]),
    st.data(),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=3)
    ),
)
def test_anything_on_disk_is_a_config_or_an_artefact_error(kind: type, data: st.DataObject, value: Any) -> None:
    name = data.draw(st.sampled_from([field.name for field in fields(kind)]))
    values = {"steps": 1} | {name: value} if kind is TrainConfig else {name: value}
    with suppress(ArtefactError):
        assert isinstance(from_mapping(kind, values, "here"), kind)


def test_only_what_is_given_is_updated() -> None:
    config = updated(SamplingConfig(top_k=3), temperature=0.5, top_k=None)
    assert config == SamplingConfig(temperature=0.5, top_k=3)
    with pytest.raises(UsageError, match="temperature is -1"):
        updated(config, temperature=-1)
