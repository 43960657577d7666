"""Numbers and text as every report writes them. What is missing is an empty string."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence

_MANY = 1e5
"""From here on, sums are shown without their fraction."""
_MOST_DIGITS = 9
_MOST_EXPONENT = 700
"""Whose exponential is still a float."""
JOINERS = "\u200c\u200d"
"""Formatting characters that act on nothing but the letters and pictures beside them."""
_MARKS = str.maketrans({"\n": "↵", "\t": "⇥"})


def visible(text: str) -> str:
    """`text` with every control and invisible formatting character but line ends and tabs written as an escape."""
    return "".join(
        character
        if character in "\n\t" + JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """`text` as visible characters alone: `↵` for a line end, `⇥` for a tab."""
    return visible(text).translate(_MARKS)


def token_text(text: str) -> str:
    """A token, on one line, with the blanks that it begins or ends with: `␣the`."""
    line = one_line(text)
    inner = line.strip(" ")
    before = len(line) - len(line.lstrip(" ")) if inner else len(line)
    return "␣" * before + inner + "␣" * (len(line) - before - len(inner))


def whole(count: float | None) -> str:
    """`217,646`"""
    return "" if count is None else f"{count:,.0f}"


def figure(value: float | None, digits: int = 2) -> str:
    """`86.12`; without its fraction from 10,000 on, and `1.2e+15` where even that says little."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:,.{digits if abs(value) < 1e4 else 0}f}" if abs(value) < 1e6 else f"{value:.3g}"


def interval(bounds: Sequence[float] | None, digits: int = 2) -> str:
    """`84.91 to 87.33`"""
    return f"{figure(bounds[0], digits)} to {figure(bounds[1], digits)}" if bounds else ""


def nats(value: float | None, digits: int | None = None) -> str:
    """A sum: `1,234.5`; without its fraction from 100,000 on, unless it is to have some `digits`."""
    return "" if value is None else f"{value:,.{_fewest(value) if digits is None else digits}f}"


def digits_of(value: float, made: Callable[[float], str]) -> int:
    """How many a sum needs, so that the same is made of it as it is shown."""
    enough = (digits for digits in range(_fewest(value), _MOST_DIGITS) if made(round(value, digits)) == made(value))
    return next(enough, _MOST_DIGITS)


def digits_over(total: float | None, count: float | None) -> int | None:
    """How many a sum needs beside the perplexity exp(total / count); `None` where one is missing."""
    if total is None or not count:
        return None
    return digits_of(total, lambda shown: figure(math.exp(min(shown / count, _MOST_EXPONENT))))


def _fewest(value: float) -> int:
    return 1 if value < _MANY else 0


def counted(count: int, kind: str) -> str:
    """`1 block of lines`, where `kind` is `blocks of lines`"""
    first, space, rest = kind.partition(" ")
    return f"{count:,} {first.removesuffix('s') if count == 1 else first}{space}{rest}"


def percent(share: float | None, digits: int = 1) -> str:
    """`18.2%`, where `share` is 0.182"""
    return "" if share is None else f"{share:.{digits}%}"


def setting(value: object) -> str:
    """`2,000` or `0.0625` or `sgd`; a budget of 1200.0 is `1,200`."""
    if isinstance(value, bool | str):
        return one_line(str(value))
    if isinstance(value, list | tuple):
        return " ".join(map(setting, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if 100 <= abs(value) < 1e15 else f"{value:.3g}"
    return f"{value:,}"


def settings(values: object) -> str:
    """`window 2,000, sharpness 0.31`, of a mapping without what is null; a value alone as it is. A seed is no quantity."""
    if not isinstance(values, dict):
        return "" if values is None else setting(values)
    plain = ((name, str(value) if name == "seed" and isinstance(value, int) else value) for name, value in values.items())
    shown = ((name.replace("_", " "), settings(value)) for name, value in plain)
    return ", ".join(f"{name} {value}" for name, value in shown if value)


def letter(number: int) -> str:
    """What a model is called in tables: A, the reference, to Z, A1..."""
    return f"{chr(ord('A') + number % 26)}{number // 26 or ''}"
