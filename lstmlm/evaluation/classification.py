"""Next-word prediction seen as classification: the first guess is right or wrong.

N tokens, V vocabulary, C classes: the tokens looked at, R points of a curve
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.evaluation.breakdowns import CLASSES, token_classes
from lstmlm.evaluation.scored import Scored

_MOST_CLASSES, _PAIRS, _POINTS = 1_000, 20, 101


def classification(scored: Scored) -> dict[str, Any]:
    """Precision, recall and F1 over the most frequent words of the text, what is taken for what, and ROC of the confidence.

    Words are tokens that spell one, or a piece of one (`breakdowns.token_classes`); one never guessed has precision 0.
    `macro` is the mean over words, `weighted` the mean over their places in the text; `None` each in a text without words.
    Both of a confused pair are among these words. Accuracy and ROC are those of all tokens.
    """
    ids_N, guess_N = scored.ids_N.astype(np.int64), scored.guesses.guess_N
    right_N = guess_N == ids_N
    size = scored.loaded.tokenizer.vocabulary_size
    places_V = np.bincount(ids_N, minlength=size)
    looked_C = _most_frequent_words(places_V, token_classes(scored.loaded.tokenizer))
    places_C = places_V[looked_C]
    guessed_C = np.bincount(guess_N, minlength=size)[looked_C]
    right_C = np.bincount(ids_N[right_N], minlength=size)[looked_C]
    measures = {
        "precision": right_C / np.maximum(guessed_C, 1),
        "recall": right_C / places_C,
        "f1": 2 * right_C / (places_C + guessed_C),
    }
    wrong_N = ~right_N & np.isin(ids_N, looked_C) & np.isin(guess_N, looked_C)
    names = scored.loaded.tokenizer.describe
    area, curve = roc(scored.guesses.confidence_N, right_N)
    return {
        "classes": len(looked_C),
        "tokens": int(places_C.sum()),
        "macro": {name: float(value_C.mean()) if len(looked_C) else None for name, value_C in measures.items()},
        "weighted": {
            name: float(value_C @ places_C / places_C.sum()) if len(looked_C) else None for name, value_C in measures.items()
        },
        "accuracy": float(right_N.mean()),
        "confused": [
            {"token": names(token), "guess": names(guess), "count": count}
            for token, guess, count in _most_confused(ids_N[wrong_N], guess_N[wrong_N], size)
        ],
        "auc": area,
        "roc": curve,
    }


def roc(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> tuple[float | None, list[list[float]]]:
    """The area under the receiver operating characteristic, and at most 101 of its points [false positive rate, true].

    The area is the probability that of a right and a wrong guess the right one has the higher confidence, equal ones counted
    half: the statistic of Mann & Whitney (Hanley & McNeil 1982). `None`, and no points, where all or none are right.
    """
    right, wrong = int(right_N.sum()), int((~right_N).sum())
    if not right or not wrong:
        return None, []
    order_N = np.argsort(-confidence_N, kind="stable")
    falling_N = confidence_N[order_N]
    last_R = np.flatnonzero(np.append(falling_N[1:] != falling_N[:-1], True))
    true_R = np.concatenate([[0], np.cumsum(right_N[order_N])[last_R]])
    false_R = np.concatenate([[0], last_R + 1]) - true_R
    doubled = int(np.diff(false_R) @ (true_R[1:] + true_R[:-1]))
    points_R2 = np.stack([false_R / wrong, true_R / right], 1)
    chosen = np.unique(np.searchsorted(points_R2.sum(1), np.linspace(0, 2, _POINTS)))  # evenly along the curve
    return doubled / (2 * right * wrong), points_R2[chosen].tolist()


def _most_frequent_words(places_V: NDArray[np.int64], class_V: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens by falling count, [C]; of equals the smaller id first."""
    words_V = np.where(class_V == CLASSES.index("word"), places_V, 0)
    order = np.argsort(-words_V, kind="stable")[:_MOST_CLASSES]
    return order[words_V[order] > 0]


def _most_confused(ids_N: NDArray[np.int64], guess_N: NDArray[np.int32], size: int) -> list[tuple[int, int, int]]:
    """Pairs of a token and the guess in its place, and how often they occur; most frequent first."""
    pairs, counts = np.unique(ids_N * size + guess_N, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_PAIRS]
    return [(*divmod(pair, size), count) for pair, count in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)]
