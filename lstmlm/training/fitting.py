"""Fit to the budget: vocabulary, shape, batch, regularization and learning rate for a text, a time and a machine.

What decides is how often the machine can read the text in the time there is. The rules are those that came out best in
`benchmarks/RESULTS.md` ("Fit to the budget"), where their distance from tuning by hand is measured too. In words:

- the width grows with the work that the budget affords, and is bounded by the size of the text;
- batches grow, and the learning rate falls, with the length of the run;
- what was read lately is remembered by words and pieces of words, not by characters, and not in small texts, which are
  learned by heart that way (`model/traces.py`);
- vectors of words and pieces of words begin as what their neighbours say (`spectral.py`);
- dropout grows with the number of passes over the text, that of the recurrent weights from ten passes on.

How much work a machine affords is measured in `probing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from lstmlm.config import ModelConfig, TrainConfig
from lstmlm.training.options import RunOptions

WARM_START_RATE = 0.3
"""What a model that is trained already learns with, of the rate of a new one. An estimate; to be measured."""
REFERENCE_WIDTH = 512
REFERENCE_SPEED = 30_000.0
"""Tokens a second that one layer of this width makes on the machine of the measurements: the unit of work is its second."""
REFERENCE_WORK = 90.0
_WIDTH = 400
"""For the work of 90 seconds; it grows by a ninth with every doubling."""
_WIDTHS = (64, 96, 128, 192, 256, 320, 384, 512, 640, 768, 896, 1024, 1280, 1536)
_BATCHES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_TRACES = (10, 33, 100, 333)
_TRACES_FROM = 100_000
"""Tokens. With less, texts are learned by heart: on 18,000 tokens traces cost 2% of the bits, on 132,000 they save 0.3%."""
_WINDOWS = {"bpe": 48, "word": 40, "char": 96, "byte": 96}


def fitted_vocabulary_size(train_bytes: int) -> int:
    """How many symbols a bpe of this text should have: three for every square root of a byte, 400 to 16,000."""
    return max(400, min(16_000, round(3 * math.sqrt(train_bytes) / 100) * 100))


def shaped(options: RunOptions, tokens: int, work: float) -> RunOptions:
    """Shape, batch and learning rate for `work` seconds of the reference on a training text of `tokens`."""
    kind, doublings = options.tokenizer.kind, math.log2(max(1.0, work) / REFERENCE_WORK)
    wanted = min(_WIDTH * 2 ** (0.15 * doublings), 10.5 * tokens**0.3)
    options = _with(options, hidden_size=_nearest(_WIDTHS, wanted), num_layers=1, window=_WINDOWS[kind])
    one_hot, words = options.model.input == "one-hot", kind in ("bpe", "word")
    remembers = words and options.model.tied and tokens >= _TRACES_FROM
    options = _with(options, traces=_TRACES if remembers else ())
    width, window = options.model.hidden_size, options.training.window
    batch = min(16 * 2 ** (0.35 * max(-1.0, doublings)), tokens / (16 * window))
    rate = 1.5e-2 * 2 ** (-0.25 * doublings) * math.sqrt(_WIDTH / width)
    rate = min(max(rate, 1e-3), 1.6e-2) * (WARM_START_RATE if options.start else 1.0)
    return _with(
        options,
        embedding_size=min(width, 128 if kind in ("char", "byte") else 256 if work < 300 else 320),
        batch_size=_nearest(_BATCHES, max(1.0, batch)),
        learning_rate=float(f"{rate:.1e}"),
        embedding_init="spectral" if words and not (one_hot or options.start) else "uniform",
    )


def regularized(options: RunOptions, epochs: float) -> RunOptions:
    """Dropout, weight decay and what the optimizer remembers, for so many passes over the text."""
    output = round(min(0.6, max(0.0, 0.1 + 0.09 * math.log2(max(0.25, epochs)))), 2)
    adam = options.training.optimizer in ("adam", "adamw")
    return _with(
        options,
        dropout_input=round(0.7 * output, 2) if options.tokenizer.kind in ("bpe", "word") else 0.0,
        dropout_hidden=round(0.6 * output, 2) if options.model.num_layers > 1 else 0.0,
        dropout_weight=round(min(0.6, 0.2 * math.log2(max(10.0, epochs) / 10)), 2),
        dropout_output=output,
        weight_decay=0.1 if options.training.optimizer == "adamw" else 0.0,
        averaging=0.0,
        momentum=0.8 if adam else TrainConfig.momentum,
        beta2=0.997 if adam else TrainConfig.beta2,
    )


def reasons(options: RunOptions, epochs: float) -> Iterator[str]:
    """What was chosen, and why, in a line each."""
    model, training = options.model, options.training
    why = "the shape of the model to start from" if options.start else "for this time and machine"
    yield f"{model.num_layers} x {model.hidden_size}, embedding {model.embedding_size}: {why}"
    yield f"{training.batch_size} x {training.window} tokens a step, rate {training.learning_rate:g}: for its length"
    if model.traces:
        yield f"traces of the last {', '.join(map(str, model.traces))} tokens: a text comes back to its words"
    if training.embedding_init == "spectral":
        yield "vectors that begin as what each symbol's neighbours in the text say: a head start where passes are few"
    dropout = f"{model.dropout_input:g} in, {model.dropout_output:g} out, {model.dropout_weight:g} of the recurrent weights"
    yield f"dropout {dropout}: for {epochs:,.1f} passes over the text"


def _with(options: RunOptions, **chosen: Any) -> RunOptions:
    """These options with what was chosen, but for settings that were given."""
    wanted = {name: value for name, value in chosen.items() if name in options.fit}
    of_model = {field.name for field in fields(ModelConfig)}
    model = replace(options.model, **{name: value for name, value in wanted.items() if name in of_model})
    training = replace(options.training, **{name: value for name, value in wanted.items() if name not in of_model})
    return replace(options, model=model, training=training)


def _nearest(ladder: tuple[int, ...], wanted: float) -> int:
    return min(ladder, key=lambda step: abs(math.log(step / wanted)))
