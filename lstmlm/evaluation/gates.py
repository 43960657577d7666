"""Whether a report is good enough to go on: limits that continuous integration sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstmlm.errors import DataError, UsageError
from lstmlm.evaluation.figures import SCHEMA


def parse_share(text: str) -> float:
    """0.005 from `0.5%` or `0.005`; anything else is a `UsageError`."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        raise UsageError(f"{text!r} is no share; expected a number such as 0.5%") from None
    if not 0 <= share < 1:
        raise UsageError(f"the share is {text}; expected 0% to less than 100%")
    return share


def too_high(result: Mapping[str, Any], limit: float) -> str | None:
    """What is wrong if the perplexity per token is above `limit`, or has no finite value; `None` if nothing is."""
    found = result["perplexity"]["token"]
    if found is not None and found <= limit:
        return None
    return (
        f"perplexity per token is {'beyond every number' if found is None else f'{found:.7g}'}; expected at most {limit:.7g}"
    )


def regression(result: Mapping[str, Any], baseline: Mapping[str, Any], share: float) -> str | None:
    """What is wrong if the text became less likely than in `baseline`, by more than `share` of its perplexity per token.

    Models with different tokenizers are compared by the perplexity per byte, if none loses any of the text.

    Raises:
        DataError: the baseline is no report of `lstmlm eval --json`, or one on another text or with another protocol, or
            with another tokenizer, of which one loses some of the text.
    """
    try:
        if baseline["schema"] != SCHEMA:
            raise DataError(
                f"the baseline is a {baseline['schema']!r}; expected {SCHEMA!r}, as `lstmlm eval --json` writes it"
            )
        for name, ours, theirs in (
            ("text", result["text"]["sha256"], baseline["text"]["sha256"]),
            ("mode", result["protocol"]["mode"], baseline["protocol"]["mode"]),
            ("rule for documents", result["protocol"]["documents"], baseline["protocol"]["documents"]),
        ):
            if ours != theirs:
                raise DataError(f"the baseline has another {name} ({theirs}, here {ours}); expected one on the same")
        unit = "token"
        if result["model"]["tokenizer_fingerprint"] != baseline["model"]["tokenizer_fingerprint"]:
            unit = "byte"
            if not (result["lossless"] and baseline["lossless"]):
                raise DataError(
                    "the baseline has another tokenizer, and one of the two loses some of the text, so that their figures "
                    "cannot be compared; expected the same tokenizer, or bpe or byte ones"
                )
        found, before = result["perplexity"][unit], baseline["perplexity"][unit]
        if before is not None and not before > 0:
            raise ValueError(f"its perplexity per {unit} is {before}")
    except KeyError as error:
        raise DataError(
            f"the baseline is no report of this version's `lstmlm eval --json`: it has no {error}; write it again"
        ) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"the baseline is no report of `lstmlm eval --json`: {error}") from error
    if before is None or (found is not None and found <= before * (1 + share)):
        return None
    change = "beyond every number" if found is None else f"{found:.5g}, {found / before - 1:+.2%}"
    return f"perplexity per {unit} was {before:.5g} and is {change}; expected at most {share:+.2%}"
