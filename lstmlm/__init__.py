"""lstmlm: train a recurrent language model on your own text, measure it exactly, and let it complete your words.

The names in `__all__` are the public interface. They load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lstmlm.adaptation import AdaptedModel, load_adaptation, save_adaptation
    from lstmlm.beam import beam_search
    from lstmlm.checkpoint import load_model, save_model
    from lstmlm.comparison import compare
    from lstmlm.completion import complete
    from lstmlm.config import (
        BeamConfig,
        CorpusConfig,
        ModelConfig,
        RuntimeConfig,
        SamplingConfig,
        TokenizerConfig,
        TrainConfig,
    )
    from lstmlm.corpus import open_corpus
    from lstmlm.errors import LstmlmError
    from lstmlm.evaluation import evaluate
    from lstmlm.generation import Session
    from lstmlm.model import LanguageModel
    from lstmlm.ngram import load_ngram, save_ngram, train_ngram
    from lstmlm.pairs import Pair, Tally, judge, read_pairs
    from lstmlm.predictor import load_any, open_predictor
    from lstmlm.regions import read_items, region_means, region_surprisals
    from lstmlm.surprisal import Surprisal, surprisals
    from lstmlm.tokenizer import Tokenizer
    from lstmlm.training import FITTED, RunOptions, train
    from lstmlm.tuning import tune

_HOMES = {
    "AdaptedModel": "adaptation",
    "BeamConfig": "config",
    "CorpusConfig": "config",
    "FITTED": "training",
    "LanguageModel": "model",
    "LstmlmError": "errors",
    "ModelConfig": "config",
    "Pair": "pairs",
    "RunOptions": "training",
    "RuntimeConfig": "config",
    "SamplingConfig": "config",
    "Session": "generation",
    "Surprisal": "surprisal",
    "Tally": "pairs",
    "Tokenizer": "tokenizer",
    "TokenizerConfig": "config",
    "TrainConfig": "config",
    "beam_search": "beam",
    "compare": "comparison",
    "complete": "completion",
    "evaluate": "evaluation",
    "judge": "pairs",
    "load_adaptation": "adaptation",
    "load_any": "predictor",
    "load_model": "checkpoint",
    "load_ngram": "ngram",
    "open_corpus": "corpus",
    "open_predictor": "predictor",
    "read_items": "regions",
    "read_pairs": "pairs",
    "region_means": "regions",
    "region_surprisals": "regions",
    "save_adaptation": "adaptation",
    "save_model": "checkpoint",
    "save_ngram": "ngram",
    "surprisals": "surprisal",
    "train": "training",
    "train_ngram": "ngram",
    "tune": "tuning",
}

__all__ = [
    "FITTED",
    "AdaptedModel",
    "BeamConfig",
    "CorpusConfig",
    "LanguageModel",
    "LstmlmError",
    "ModelConfig",
    "Pair",
    "RunOptions",
    "RuntimeConfig",
    "SamplingConfig",
    "Session",
    "Surprisal",
    "Tally",
    "Tokenizer",
    "TokenizerConfig",
    "TrainConfig",
    "beam_search",
    "compare",
    "complete",
    "evaluate",
    "judge",
    "load_adaptation",
    "load_any",
    "load_model",
    "load_ngram",
    "open_corpus",
    "open_predictor",
    "read_items",
    "read_pairs",
    "region_means",
    "region_surprisals",
    "save_adaptation",
    "save_model",
    "save_ngram",
    "surprisals",
    "train",
    "train_ngram",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lstmlm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lstmlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
