"""A session with a model: read a text, look at what comes next, go back, let it write.

V vocabulary
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from lstmlm import sampling
from lstmlm.config import SamplingConfig
from lstmlm.errors import UsageError
from lstmlm.reader import Reader
from lstmlm.tokenizer import StreamDecoder

_LONGEST_RESPELLED = 200
"""Bytes; a longer "word" is read as the tokenizer spells it."""


class Session(Reader):
    """One text in progress, which the model can go on with."""

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
