"""What figures do not show: how the model goes on with the text, and which words surprise it.

N tokens of the text
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lstmlm.config import SamplingConfig
from lstmlm.corpus import Piece
from lstmlm.evaluation.scored import Scored
from lstmlm.generation import Session
from lstmlm.surprisal import taken_apart

CHARACTERS = 2_000
_WORDS = 5
"""Of a prompt."""
_TOKENS_READ = 64
_SHORTEST = 20
"""Tokens of a line that is worth going on with."""


def samples(scored: Scored, *, count: int = 3, tokens: int = 40, seed: int = 1) -> list[dict[str, Any]]:
    """Continuations of the first words of some documents, or, of a text with fewer than `count`, of some lines.

    They are drawn from the model's own distribution, not filtered, not chosen: `from` says where the prompt stands.
    """
    read, tokenizer, session = scored.read, scored.loaded.tokenizer, Session(scored.loaded)
    kind, ends = "document", read.document_ends_D
    if len(ends) < count:
        kind, ends = "line", read.line_ends_L
    sizes = np.diff(ends, prepend=0)
    long = np.flatnonzero(sizes >= min(_SHORTEST, sizes.max()))
    found: list[dict[str, Any]] = []
    for number in np.unique(long[np.linspace(0, len(long), count, endpoint=False).astype(int)]):
        begin = int(ends[number] - sizes[number])
        words = tokenizer.decode(scored.ids_N[begin : min(int(ends[number]), begin + _TOKENS_READ)].tolist()).split()
        prompt, own_seed = " ".join(words[:_WORDS]), seed + len(found)
        text = session.sample(prompt, SamplingConfig(), max_tokens=tokens, seed=own_seed).text
        found.append({"prompt": prompt, "text": text, "from": f"{kind} {number + 1}", "seed": own_seed})
    return found


def coloured(scored: Scored, pieces: Iterable[Piece], *, characters: int = CHARACTERS) -> dict[str, Any] | None:
    """The beginning of the evaluated text, and the bits of each word of it, as they are in the report's sum.

    `pieces` is the text that was scored, in its order. A unit is [first character, one past the last, bits, whether it is
    unknown]. `None` where the text has no white space to cut it at.
    """
    kept = list(_beginning(pieces, characters))
    units = taken_apart(scored.loaded.tokenizer, kept, scored.scores, "word")
    if not units:
        return None
    return {
        "text": "".join(piece.text + piece.separator for piece in kept),
        "units": [[unit.start, unit.end, unit.bits, unit.unknown] for unit in units],
    }


def _beginning(pieces: Iterable[Piece], characters: int) -> Iterator[Piece]:
    """The first pieces; the last one is cut before white space, where no token can go on."""
    for piece in pieces:
        if len(piece.text) + len(piece.separator) > characters:
            cut = [space.start() for space in re.finditer(r"\s", piece.text[: characters + 1])]
            yield Piece(piece.text if len(piece.text) <= characters else piece.text[: cut[-1] if cut else 0])
            return
        yield piece
        characters -= len(piece.text) + len(piece.separator)
