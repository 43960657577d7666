"""Small things to test with, built in process: texts, tokenizers, models with random weights, short training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from lstmlm.adaptation import Adaptation
from lstmlm.adaptation.dynamic import measure_gradients
from lstmlm.adaptation.mixture import ROWS
from lstmlm.checkpoint import LoadedModel, load_model, save_model
from lstmlm.config import CacheConfig, CorpusConfig, DynamicConfig, ModelConfig, RuntimeConfig, TokenizerConfig, TrainConfig
from lstmlm.corpus import Piece
from lstmlm.corpus.reading import into_documents
from lstmlm.evaluation.scored import Scored, score
from lstmlm.model import LanguageModel
from lstmlm.ngram import LoadedNGram, train_ngram
from lstmlm.predictor import AnyModel
from lstmlm.scoring import Guesses, Scores
from lstmlm.token_store import Ids, ReadText, read_segments, read_text
from lstmlm.tokenizer import Tokenizer
from lstmlm.training import RunOptions, train
from lstmlm.training.events import Event


class Clock:
    """Goes on by a thousandth of a second at every look: with it, time budgets do not depend on the machine."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 0.001
        return self.seconds


SENTENCES = (
    "the cat sat on the mat .",
    "the dog sat on the rug .",
    "a cat saw the dog , and the dog saw a cat .",
    "the man in the red hat fed the cat .",
    "she put the keys on the table , then the cat sat on them .",
    "he can't find the well-known map in the u.s. atlas .",
)
ODD_TEXT = "the  cat can't\tfind the caf\u00e9 \u732b !\n\n\nthe <eos> dog\u00a0sat \n  \n\ta <unk> on"
"""Two spaces, a tab, blank lines, spaces alone, a no-break space, characters of several bytes, no line end at its end."""
ODD_WORDS = ["the", "cat", "can't", "find", "the", "caf\u00e9", "\u732b", "!"]
ODD_WORDS += ["the", "<eos>", "dog", "sat", "a", "<unk>", "on"]


def text(lines: int = 120) -> str:
    """Simple English, the same every time: sentences in changing order, a blank line after every tenth."""
    chosen = [SENTENCES[(line * line + line // 3) % len(SENTENCES)] for line in range(lines)]
    return "".join(sentence + ("\n\n" if line % 10 == 9 else "\n") for line, sentence in enumerate(chosen))


def tokenizer(kind: str, source: str | None = None, **config: Any) -> Tokenizer:
    """A vocabulary made from `source` (default: `text()`)."""
    if kind == "bpe":
        config.setdefault("vocabulary_size", 300)
    pieces = [Piece(source or text()), Piece("", ends_document=True)]
    return Tokenizer.train(TokenizerConfig(kind=kind, **config), pieces)


def model(vocabulary_size: int, *, seed: int = 3, scale: float = 3.0, **config: Any) -> LanguageModel:
    """Random weights, larger than at the start of training so that predictions differ from uniform."""
    config = {"embedding_size": 12, "hidden_size": 16} | config
    config.setdefault("tied", config.get("input", "embedding") == "embedding")
    built = LanguageModel(ModelConfig(vocabulary_size=vocabulary_size, **config))
    built.reset_parameters(seed)
    with torch.no_grad():
        for weight in built.parameters():
            weight.mul_(scale)
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return built.eval()


def saved_model(path: Path, kind: str = "bpe", *, documents: str = "file", **config: Any) -> LoadedModel:
    """A model directory at `path`, loaded back."""
    vocabulary = tokenizer(kind)
    save_model(path, model(vocabulary.vocabulary_size, **config), vocabulary, documents=documents)
    return load_model(path)


def options(source: Path | str, kind: str = "char", **training: Any) -> RunOptions:
    """A run of a fraction of a second: a tiny model, 40 steps, one thread, float32."""
    training = {"steps": 40, "batch_size": 4, "window": 8, "validate_every": 10, "checkpoint_every": "10"} | training
    if training.keys() & {"epochs", "budget"}:
        del training["steps"]
    return RunOptions(
        sources=(str(source),),
        corpus=CorpusConfig(),
        tokenizer=TokenizerConfig(kind=kind, vocabulary_size=300 if kind == "bpe" else None),
        model=ModelConfig(embedding_size=8, hidden_size=12, dropout_input=0.1, dropout_output=0.1),
        training=TrainConfig(**training),
        runtime=RuntimeConfig(device="cpu", precision="fp32", threads=1),
    )


def trained(
    run: Path, source: Path, kind: str = "char", model_config: dict[str, Any] | None = None, **training: Any
) -> Sequence[Event]:
    """Train to the end; all events."""
    chosen = options(source, kind, **training)
    return list(train(run, replace(chosen, model=replace(chosen.model, **(model_config or {})))))


def warm(source: Path, start: Path | str, kind: str = "char", **training: Any) -> RunOptions:
    """A short run that leaves open whatever the start decides."""
    chosen = options(source, kind, **{"steps": 12, "validate_every": 4, "checkpoint_every": "3", "batch_size": 2} | training)
    return RunOptions(sources=chosen.sources, training=chosen.training, runtime=chosen.runtime, start=str(start))


def ids_of(loaded: LoadedModel, text: str) -> Ids:
    found, _ = read_segments(loaded.tokenizer, [[Piece(text, ends_document=True)]])
    return found[0]


def scored(loaded: AnyModel, text: str, mode: str = "stream", *, documents: str = "file") -> Scored:
    """A text of one file, read and scored."""
    return score(loaded, read_text(loaded.tokenizer, [into_documents([text], documents)]), mode)


def ngram(kind: str, *, order: int = 3) -> LoadedNGram:
    """Of `text()`, in memory."""
    vocabulary = tokenizer(kind)
    ids, _ = read_segments(vocabulary, [[Piece(text(), ends_document=True)]])
    model = train_ngram(ids, vocabulary_size=vocabulary.vocabulary_size, eos=vocabulary.eos, order=order)
    return LoadedNGram(Path(kind), model, vocabulary, "file")


def read(loaded: AnyModel, *documents: str) -> ReadText:
    """One file of some documents."""
    return read_text(loaded.tokenizer, [[Piece(document, ends_document=True) for document in documents]])


def said(
    read: ReadText,
    loaded: AnyModel,
    *,
    nats: ArrayLike = 1.0,
    guess: ArrayLike = 0,
    confidence: ArrayLike = 0.5,
    **given: Any,
) -> Scored:
    """A text of which a model is said to have said this; each figure one for all tokens, or one for each."""
    count = len(read.ids_N)
    guess_N = np.broadcast_to(np.asarray(guess, np.int32), count)
    nats_N, confidence_N = (np.broadcast_to(np.asarray(value, np.float64), count) for value in (nats, confidence))
    guesses = Guesses(np.where(guess_N == read.ids_N, 1, 2).astype(np.int32), guess_N, confidence_N, nats_N, confidence_N**2)
    return Scored(loaded, read=read, scores=Scores(nats_N, guesses), **{"mode": "stream"} | given)


def adaptation(loaded: LoadedModel) -> Adaptation:
    vocabulary_size, eos = loaded.tokenizer.vocabulary_size, loaded.tokenizer.eos
    ids = ids_of(loaded, text(40))
    *_, rms = measure_gradients(loaded.model, ids, eos, segment=5, places=4, run=3)
    return Adaptation(
        cache=CacheConfig(window=7, sharpness=0.5),
        dynamic=DynamicConfig(segment=5, learning_rate=2e-3, decay=0.05),
        gradient_rms=rms,
        ngram=train_ngram([ids], vocabulary_size=vocabulary_size, eos=eos, order=3),
        weights={row.name: {part: 1 / len(row.parts) for part in row.parts} for row in ROWS},
        tuned_on={"split": "valid"},
    )


def document(lines: int, words: int = 40) -> str:
    """Lines of three words and `words` more."""
    return "".join(f"line {line} has" + " some words" * (words // 2) + " .\n" for line in range(lines))
