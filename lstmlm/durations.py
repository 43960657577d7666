"""Times and intervals as people write them, and what says that a time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from lstmlm.errors import UsageError

Stop = Callable[[], bool]
"""Asked now and then by what takes long; true when it shall do with what it has."""


def parse_duration(text: str) -> float:
    """Seconds from `90`, `90s`, `10m`, `1.5h`; anything else is a `UsageError`."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    number = text if unit is None else text[:-1]
    try:
        seconds = float(number) * (unit or 1.0)
    except ValueError:
        raise UsageError(f"{text!r} is not a duration; expected seconds, or a number with s, m or h, such as 10m") from None
    if not 0 < seconds < float("inf"):
        raise UsageError(f"duration is {seconds}; expected a number above 0")
    return seconds


def parse_interval(text: str) -> tuple[int | None, float | None]:
    """`500` is (500 steps, None); `60s` is (None, 60 seconds)."""
    if text.isdecimal():
        if int(text) < 1:
            raise UsageError(f"interval in steps is {text}; expected 1 or more")
        return int(text), None
    return None, parse_duration(text)


def never() -> bool:
    """For what takes as long as it takes."""
    return False


def after(seconds: float) -> Stop:
    """True when so many seconds are over, counted from now."""
    ends = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= ends


def either(*stops: Stop) -> Stop:
    """True when one of them is."""
    return lambda: any(stop() for stop in stops)
