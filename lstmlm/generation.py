"""A session with a model: read a text, look at what comes next, go back, let it write.

T time, B batch, V vocabulary, H hidden, L layers
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lstmlm import sampling
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import SamplingConfig
from lstmlm.errors import UsageError
from lstmlm.model import State
from lstmlm.runtime import one_thread
from lstmlm.spelling import Spelling
from lstmlm.tokenizer import StreamDecoder

_READ_AT_ONCE = 512
_KEPT_SNAPSHOTS = 256
_COVERS = 64
"""Spellings of an unfinished word that are kept in view."""
_LONGEST_RESPELLED = 200
"""Bytes; a longer "word" is read as the tokenizer spells it."""


@dataclass(frozen=True)
class Snapshot:
    """All that the model remembers of the first `length` tokens."""

    length: int
    state_LBH: State
    hidden_H: Tensor
    """The top layer's output, from which the next token is predicted."""


class Session:
    """One text in progress. The recurrent state is kept at recent places, so going back costs little."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.spelling = Spelling(loaded.tokenizer)
        self.ids: list[int] = []
        self._start = self._advance(Snapshot(-1, self.model.initial_state(1), torch.empty(0)), [self.tokenizer.eos])
        self._snapshots = deque([self._start], maxlen=_KEPT_SNAPSHOTS)

    @property
    def now(self) -> Snapshot:
        """Where the model stands after the text so far."""
        return self._snapshots[-1]

    def read(self, ids: Sequence[int]) -> None:
        """Make the text so far exactly `ids`; only what differs from the text before is read."""
        common = next((place for place, (old, new) in enumerate(zip(self.ids, ids, strict=False)) if old != new), None)
        common = min(len(self.ids), len(ids)) if common is None else common
        while self._snapshots and self.now.length > common:
            self._snapshots.pop()
        if not self._snapshots:
            self._snapshots.append(self._start)
        self.ids = list(ids)
        if rest := self.ids[self.now.length :]:
            self._snapshots.append(self._advance(self.now, rest))

    def read_text(self, text: str) -> None:
        """Make the text so far exactly `text`."""
        self.read(self.tokenizer.encode(text))

    def step(self, token: int) -> None:
        """Go on by one token."""
        self.ids.append(token)
        self._snapshots.append(self._advance(self.now, [token]))

    @torch.inference_mode()
    def next_logits(self) -> Tensor:
        """The logits of the next token, float32 [V], on the CPU."""
        return self.model.logits(self.now.hidden_H).float().cpu()

    @torch.inference_mode()
    def _advance(self, start: Snapshot, ids: Sequence[int]) -> Snapshot:
        state = start.state_LBH
        for first in range(0, len(ids), _READ_AT_ONCE):
            part_T = torch.tensor(ids[first : first + _READ_AT_ONCE], device=self.model.device)
            with one_thread():
                hidden_TBH, state = self.model(part_T[:, None], state)
        return Snapshot(start.length + len(ids), state, hidden_TBH[-1, 0])

    def write(
        self,
        prompt: str,
        config: SamplingConfig,
        *,
        max_tokens: int = 100,
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> Iterator[str]:
        """Continue `prompt`, yielding text as it becomes certain; the pieces joined are the continuation.

        A BPE model spells the prompt's last, perhaps unfinished word in its own way: "the k" goes on with "itchen", and
        "the " with a word that has its space attached. Spelling what was given counts for no token. The text ends at
        `max_tokens`, at the end of the document, or before the first of the strings in `stop`. The unknown symbol is never
        drawn. Without a seed, every call differs.

        Raises:
            UsageError: `max_tokens` is negative, a stop string is empty, or the seed is out of range.
        """
        if max_tokens < 0:
            raise UsageError(f"max_tokens is {max_tokens}; expected 0 or more")
        if not all(stop):
            raise UsageError("a stop string is empty; expected some text")
        check_seed(seed)
        return _until(stop, self._drawn(prompt, config, max_tokens, seed))

    def _drawn(self, prompt: str, config: SamplingConfig, max_tokens: int, seed: int | None) -> Iterator[str]:
        if not max_tokens:
            return
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        tokenizer, decoder = self.tokenizer, self.tokenizer.decoder()
        if tokenizer.kind == "bpe":
            text, drawn = self._respell(prompt, config, generator, decoder)
            yield text
        else:
            drawn = 0
            self.read_text(prompt)
            if tokenizer.kind == "word" and prompt and not prompt[-1].isspace():
                decoder.push(self.ids[-1])  # so that the next word gets its space
        for _ in range(max_tokens - drawn):
            logits_V = self.next_logits()
            if tokenizer.unk is not None:
                logits_V = logits_V.index_fill(0, torch.tensor([tokenizer.unk]), -torch.inf)
            token = sampling.draw(sampling.apply(logits_V, config, self.ids), generator)
            if token == tokenizer.eos and tokenizer.kind != "word":
                break
            self.step(token)
            yield decoder.push(token)
        yield decoder.finish()

    def _respell(
        self, prompt: str, config: SamplingConfig, generator: torch.Generator, decoder: StreamDecoder
    ) -> tuple[str, int]:
        """Read a prompt, its last word in a spelling drawn among all; the text beyond it, and how many tokens that is."""
        cut = self.spelling.cut(prompt)
        self.read_text(cut.context)
        if not 0 < len(cut.pending) <= _LONGEST_RESPELLED:
            self.read_text(prompt)
            return "", 0
        found = self.covers(cut.pending)
        masses = torch.tensor([log_probability for _, log_probability in found])
        tokens, _ = found[sampling.draw(sampling.apply(masses, config), generator)]
        self.read([*self.ids, *tokens])
        text = "".join(map(decoder.push, tokens))[len(cut.pending.decode()) :]
        goes_beyond = sum(len(self.tokenizer.spelling(token)) for token in tokens) > len(cut.pending)
        return text, int(goes_beyond)  # also where it is not yet a whole character

    @torch.inference_mode()
    def covers(self, pending: bytes) -> list[tuple[tuple[int, ...], float]]:
        """The likeliest ways to spell `pending`, and perhaps more, from here on: tokens, and ln p(tokens | text so far).

        The probabilities are those of whole spellings: a token that fits but is never written so gets next to nothing.
        """
        found: list[tuple[tuple[int, ...], float]] = []
        open_paths: list[tuple[tuple[int, ...], float, bytes]] = [((), 0.0, pending)]
        state, hidden_BH = self.now.state_LBH, self.now.hidden_H[None]
        while open_paths:
            log_probabilities_BV = self.model.logits(hidden_BH).double().log_softmax(-1).cpu()
            grown = []
            for row, (path, so_far, rest) in enumerate(open_paths):
                log_probabilities_V = log_probabilities_BV[row]
                beyond = torch.from_numpy(self.spelling.extending(rest))
                for token in beyond[log_probabilities_V[beyond].topk(min(_COVERS, len(beyond))).indices].tolist():
                    found.append(((*path, token), so_far + float(log_probabilities_V[token])))
                for token in self.spelling.within(rest):
                    left = rest[len(self.tokenizer.spelling(token)) :]
                    grown.append((row, (*path, token), so_far + float(log_probabilities_V[token]), left))
            found = sorted(found, key=lambda cover: -cover[1])[:_COVERS]
            worst = found[-1][1] if len(found) == _COVERS else -math.inf
            grown = sorted((entry for entry in grown if entry[2] > worst), key=lambda entry: -entry[2])[:_COVERS]
            open_paths = [(path, so_far, left) for _, path, so_far, left in grown]
            if grown:
                rows = torch.tensor([row for row, *_ in grown], device=self.model.device)
                last = torch.tensor([[path[-1] for _, path, _, _ in grown]], device=self.model.device)
                hidden_TBH, state = self.model(last, tuple(part_LBH[:, rows] for part_LBH in state))
                hidden_BH = hidden_TBH[0]
        return found


def check_seed(seed: int | None) -> None:
    """Raise `UsageError` for a seed that no generator takes."""
    if seed is not None and not 0 <= seed < 1 << 63:
        raise UsageError(f"seed is {seed}; expected a whole number from 0 to 2^63 - 1")


def _until(stop: Sequence[str], pieces: Iterable[str]) -> Iterator[str]:
    """Pass text on up to the first stop string, holding back what may be the beginning of one."""
    held = ""
    for piece in pieces:
        held += piece
        places = [place for string in stop if (place := held.find(string)) >= 0]
        if places:
            yield held[: min(places)]
            return
        keep = max((size for string in stop for size in range(1, len(string)) if held.endswith(string[:size])), default=0)
        cut = len(held) - keep
        yield held[:cut]
        held = held[cut:]
    yield held
