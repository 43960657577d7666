"""How well a model predicts a text: every figure of a report, as data."""

from lstmlm.evaluation.figures import TOP
from lstmlm.evaluation.forgetting import forgetting
from lstmlm.evaluation.gates import parse_share, regression, too_high
from lstmlm.evaluation.origin import held_out, trained_on, trained_sha256
from lstmlm.evaluation.report import evaluate

__all__ = [
    "TOP",
    "evaluate",
    "forgetting",
    "held_out",
    "parse_share",
    "regression",
    "too_high",
    "trained_on",
    "trained_sha256",
]
