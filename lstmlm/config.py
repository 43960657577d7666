"""Settings, one small frozen dataclass per owner; standard library only, so that `--help` can show defaults without torch.

Every class checks itself when made and raises `UsageError` naming the field, the value and what would be accepted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from lstmlm.durations import parse_interval
from lstmlm.errors import ArtefactError, UsageError

DOCUMENT_RULES = ("file", "blank-line")
ENCODING_ERRORS = ("strict", "replace")
SPLITS = ("train", "valid", "test")
TOKENIZERS = ("bpe", "word", "char", "byte")
NORMALIZATIONS = ("none", "nfc", "nfkc")
CELLS = ("lstm", "gru", "rnn")
INPUTS = ("embedding", "one-hot")
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")
SCHEDULES = ("linear", "cosine", "one-cycle", "constant")
SOFTMAXES = ("full", "adaptive")
EMBEDDING_INITS = ("uniform", "spectral")
NEGATIVES = 3_000
"""Draws for a sampled softmax, where nobody says how many: enough for tens of thousands of symbols."""
DROPOUTS = ("dropout_embedding", "dropout_input", "dropout_hidden", "dropout_weight", "dropout_output")
ADAPTIVE_CUTOFFS = (2_000, 10_000, 60_000)
PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
MODES = ("stream", "document", "line")
DEPTHS = ("headline", "details", "full")
"""How much is in a report; see `evaluation.evaluate`."""
UNITS = ("token", "word", "line")
BOUNDARIES = ("leading", "trailing")

Config = TypeVar("Config")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")


def _at_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise UsageError(f"{name} is {value}; expected a number of at least {least}")


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is {value}; expected a number from {least} to {most}")


def _whole(name: str, value: object) -> None:
    if type(value) is not int or value >= 1 << 31:
        raise UsageError(f"{name} is {value!r}; expected a whole number below 2^31")


def _yes_or_no(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}; expected true or false")


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value}; expected a number above 0")


def _fraction(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise UsageError(f"{name} is {value}; expected a number from 0 up to, but not including, 1")


def from_mapping(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Build a config from a JSON object read from disk; unknown, missing or bad entries are an `ArtefactError`."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ArtefactError(f"{where}: unknown setting {unknown[0]!r}; was it written by a newer version?")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return kind(**given)
    except (TypeError, AttributeError, ValueError, OverflowError, UsageError) as error:  # a value of another type
        raise ArtefactError(f"{where}: {error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as a plain dictionary, ready for JSON."""
    return asdict(config)


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How text becomes documents and splits."""

    documents: str | None = None
    """What ends a document: its `file`, or also a `blank-line`; `None` is the source's own rule."""
    text_field: str = "text"
    split: tuple[int, ...] = (90, 5, 5)
    """Weights of train, valid and test where a source has no splits of its own."""
    encoding_errors: str = "strict"

    def __post_init__(self) -> None:
        if self.documents is not None:
            _one_of("documents", self.documents, DOCUMENT_RULES)
        _one_of("encoding_errors", self.encoding_errors, ENCODING_ERRORS)
        if len(self.split) != len(SPLITS) or min(self.split) < 0 or 0 in self.split[:2]:
            given = "/".join(map(str, self.split))
            raise UsageError(f"split is {given}; expected TRAIN/VALID/TEST, such as 90/5/5 or 90/10/0")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How text becomes ids. `None` leaves the choice to the kind (see `tokenizer.py`)."""

    kind: str = "bpe"
    vocabulary_size: int | None = None
    min_count: int | None = None
    normalization: str = "none"
    lowercase: bool = False

    def __post_init__(self) -> None:
        _one_of("tokenizer", self.kind, TOKENIZERS)
        _one_of("normalization", self.normalization, NORMALIZATIONS)
        _yes_or_no("lowercase", self.lowercase)
        if self.min_count is not None:
            _at_least("min_count", self.min_count, 1)
        if self.vocabulary_size is not None:
            if self.kind == "byte":
                raise UsageError("vocabulary size does not apply to bytes: there are always 257 symbols")
            least = {"bpe": 258, "word": 3, "char": 3}[self.kind]
            _at_least(f"vocabulary size of {self.kind}", self.vocabulary_size, least)
        if self.min_count is not None and self.kind in ("bpe", "byte"):
            raise UsageError(f"min count does not apply to {self.kind}: it has no unknown symbol")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a language model. Dropout is a probability and only acts in training."""

    vocabulary_size: int = 257
    """In training, replaced by the tokenizer's."""
    cell: str = "lstm"
    input: str = "embedding"
    embedding_size: int = 256
    hidden_size: int = 256
    num_layers: int = 1
    tied: bool = True
    softmax: str = "full"
    """How p(next id) is factored: `full`, or `adaptive` (first the cluster, then the id; see `model/outputs.py`)."""
    cutoffs: tuple[int, ...] = ()
    """Adaptive softmax: the first id of each cluster but the first. Empty: `ADAPTIVE_CUTOFFS`; only those below V count."""
    residual: bool = False
    traces: tuple[int, ...] = ()
    """Symbols within which a trace of what was read fades by 1/e, one number for each trace (see `model/traces.py`)."""
    dropout_embedding: float = 0.0
    """Symbols, chosen for a whole window, whose vectors are zero (Gal & Ghahramani 2016)."""
    dropout_input: float = 0.0
    dropout_hidden: float = 0.0
    """Between layers."""
    dropout_weight: float = 0.0
    """On the recurrent weights (DropConnect; Merity et al. 2018, section 2)."""
    dropout_output: float = 0.0

    def __post_init__(self) -> None:
        _one_of("cell", self.cell, CELLS)
        _one_of("input", self.input, INPUTS)
        _one_of("softmax", self.softmax, SOFTMAXES)
        for name in ("vocabulary_size", "embedding_size", "hidden_size", "num_layers"):
            _whole(name, getattr(self, name))
            _at_least(name, getattr(self, name), 1)
        for name in DROPOUTS:
            _fraction(name, getattr(self, name))
        for name in ("tied", "residual"):
            _yes_or_no(name, getattr(self, name))
        if self.tied and self.input == "one-hot":
            raise UsageError("tied weights need an embedding to tie to; one-hot input has none (use --no-tied)")
        if self.traces and not self.tied:
            raise UsageError("traces add vectors of the embedding to the output; expected tied weights, or no traces")
        if self.dropout_embedding and self.input == "one-hot":
            raise UsageError(
                "embedding dropout needs an embedding; one-hot input has none (its input dropout drops symbols)"
            )
        if self.cutoffs and self.softmax != "adaptive":
            raise UsageError(f"cutoffs are those of an adaptive softmax; this one is {self.softmax}")
        for name in ("cutoffs", "traces"):
            numbers = getattr(self, name)
            for number in numbers:
                _whole(name, number)
            if list(numbers) != sorted({number for number in numbers if number > 0}):
                raise UsageError(f"{name} are {numbers}; expected rising numbers above 0")

    @property
    def cluster_starts(self) -> tuple[int, ...]:
        """The first id of each cluster of an adaptive softmax, 0 included."""
        return (0, *(cutoff for cutoff in self.cutoffs or ADAPTIVE_CUTOFFS if cutoff < self.vocabulary_size))

    @property
    def input_size(self) -> int:
        """Width of what layer 0 reads: E for an embedding, V for one-hot vectors."""
        return self.vocabulary_size if self.input == "one-hot" else self.embedding_size


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where the arithmetic runs. Never part of a model: the same weights may move between machines."""

    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        _one_of("device", self.device, DEVICES)
        _one_of("precision", self.precision, PRECISIONS)
        if self.threads is not None:
            _at_least("threads", self.threads, 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Exactly one of `budget` (seconds), `epochs` and `steps` says for how long."""

    budget: float | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 16
    """Streams read side by side."""
    window: int = 64
    """Time steps between two truncations of backpropagation (Williams & Peng 1990)."""
    optimizer: str = "adamw"
    learning_rate: float = 5e-3
    momentum: float = 0.9
    """SGD's and RMSprop's momentum; Adam's and AdamW's beta1 (but for rows of a sampled softmax, which AdamW gives none)."""
    beta2: float = 0.99
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient; a larger one is scaled down to it (Pascanu et al. 2013)."""
    embedding_init: str = "uniform"
    """The vectors to begin with: random, or what the neighbours of each symbol in the training text say about it."""
    accumulate: int = 1
    """Parts into which the streams of a step are cut, one after the other: the same update in less memory."""
    negatives: int | None = None
    """Draws for a sampled softmax (training only: every figure is of the full softmax); 0 trains the full softmax itself.

    `None` leaves the choice to the size of the vocabulary and the device."""
    activation_penalty: float = 0.0
    """AR: weight of the mean square of the (dropped out) hidden states (Merity et al. 2017)."""
    temporal_penalty: float = 0.0
    """TAR: weight of the mean square of their change from step to step."""
    averaging: float = 0.0
    """The model is an exponential mean of the weights over about this part of the steps so far; 0: the last weights."""
    vary_window: bool = False
    """Windows of varying length around `window`, the learning rate in proportion (Merity et al. 2018, section 5)."""
    schedule: str = "linear"
    warmup: float = 0.05
    """Part of the run, from 0 to 1, over which the learning rate rises to its peak."""
    seed: int = 1
    validate_every: int | None = None
    """Steps; by default every epoch, or about twenty times in a time budget."""
    patience: int = 5
    """Validations without a better result after which training stops early; 0 never stops early."""
    checkpoint_every: str = "60s"
    """Steps (`500`) or seconds (`60s`, `5m`)."""

    def __post_init__(self) -> None:
        given = [name for name in ("budget", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(f"expected exactly one of budget, epochs and steps; got {' and '.join(given) or 'none'}")
        _positive(given[0], getattr(self, given[0]))
        for name in ("batch_size", "window", "accumulate"):
            _whole(name, getattr(self, name))
            _at_least(name, getattr(self, name), 1)
        for name in ("patience", "negatives"):
            _whole(name, 0 if getattr(self, name) is None else getattr(self, name))
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("embedding_init", self.embedding_init, EMBEDDING_INITS)
        for name in ("learning_rate", "clip"):
            _positive(name, getattr(self, name))
        for name in ("momentum", "beta2", "warmup", "averaging"):
            _fraction(name, getattr(self, name))
        for name in ("weight_decay", "patience", "seed", "activation_penalty", "temporal_penalty"):
            _at_least(name, getattr(self, name), 0)
        _yes_or_no("vary_window", self.vary_window)
        if self.seed >= 1 << 63:
            raise UsageError(f"seed is {self.seed}; expected a whole number from 0 to 2^63 - 1")
        for name, least in (("validate_every", 1), ("negatives", 0)):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), least)
        try:
            parse_interval(self.checkpoint_every)
        except UsageError as error:
            raise UsageError(f"checkpoint_every: {error}") from None


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the next token is drawn. The order of application is that of the fields; `sampling.py` says what each does."""

    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    """0 lets everything repeat."""
    temperature: float = 1.0
    """0 always takes the likeliest token."""
    top_k: int = 0
    """0 keeps all."""
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    def __post_init__(self) -> None:
        _positive("repetition_penalty", self.repetition_penalty)
        for name in ("top_p", "typical_p"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a number above 0 and up to 1")
        _between("min_p", self.min_p, 0, 1)
        for name in ("frequency_penalty", "presence_penalty"):
            _between(name, getattr(self, name), -2, 2)
        for name in ("no_repeat_ngram_size", "top_k"):
            _whole(name, getattr(self, name))
            _at_least(name, getattr(self, name), 0)
        _at_least("temperature", self.temperature, 0)
        for name in ("epsilon_cutoff", "eta_cutoff"):
            _fraction(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """How the likeliest continuations are searched for (see `beam.py`): along so many paths."""

    beams: int = 5
    length_penalty: float = 1.0
    """The power of the length by which ln p is divided: above 0 favours long texts, 0 goes by the probability alone."""
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        for name, least in (("beams", 1), ("no_repeat_ngram_size", 0)):
            _whole(name, getattr(self, name))
            _at_least(name, getattr(self, name), least)
        _between("length_penalty", self.length_penalty, -10, 10)


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The neural cache (see `adaptation/cache.py`)."""

    window: int
    """Tokens that are remembered."""
    sharpness: float
    """How much more a similar state counts: the factor of the product of two hidden states."""

    def __post_init__(self) -> None:
        _whole("window", self.window)
        _at_least("window", self.window, 1)
        _at_least("sharpness", self.sharpness, 0)


@dataclass(frozen=True, kw_only=True)
class DynamicConfig:
    """Dynamic evaluation (see `adaptation/dynamic.py`)."""

    segment: int
    """Tokens between two steps of learning."""
    learning_rate: float
    decay: float
    """Pull of the weights back to the trained ones."""

    def __post_init__(self) -> None:
        _whole("segment", self.segment)
        _at_least("segment", self.segment, 1)
        _at_least("learning_rate", self.learning_rate, 0)
        _at_least("decay", self.decay, 0)


def updated(config: Config, **changes: Any) -> Config:
    """A copy of `config` with every change that is not None."""
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(config, **given)  # type: ignore[type-var]
