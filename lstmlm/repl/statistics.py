"""How well a session goes: keys saved, suggestions accepted, milliseconds until they are there."""

from __future__ import annotations

from collections import deque

import numpy as np

from lstmlm.repl.draft import Draft

_REMEMBERED = 10_000


class Statistics:
    """Counts of one session. A place where a word may be accepted counts as one offer, however often it is redrawn."""

    def __init__(self) -> None:
        self.offered = 0
        self.accepted = 0
        self._place: int | None = None
        self._milliseconds: deque[float] = deque(maxlen=_REMEMBERED)

    def offer(self, place: int, milliseconds: float) -> None:
        """Words for the place were shown, so long after they were asked for."""
        self.offered += place != self._place
        self._place = place
        self._milliseconds.append(milliseconds)

    def accept(self) -> None:
        """One of them was taken."""
        self.accepted += 1
        self._place = None

    def report(self, draft: Draft) -> str:
        """Lines for a person."""
        would_be = draft.keys + draft.saved
        saved = f"{draft.saved / would_be:.0%}" if would_be else "-"
        rate = f"{self.accepted / self.offered:.0%}" if self.offered else "-"
        p50, p95 = np.percentile(self._milliseconds, (50, 95)) if self._milliseconds else (0.0, 0.0)
        return (
            f"keys saved      {saved:>5}   {draft.keys:,} pressed where typing it all takes {would_be:,}\n"
            f"accepted        {rate:>5}   {self.accepted:,} of {self.offered:,} places where words were offered\n"
            f"milliseconds    {p50:>5.1f}   for half of the lists; {p95:.1f} for 95 of 100"
        )
