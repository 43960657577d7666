"""A session with a model: read a text, look at what comes next, go back, let it write.

V vocabulary, N choices
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lstmlm import sampling
from lstmlm.config import SamplingConfig
from lstmlm.errors import UsageError
from lstmlm.reader import Reader
from lstmlm.runtime import one_thread
from lstmlm.tokenizer import StreamDecoder, Tokenizer

LONGEST_RESPELLED = 200
"""Bytes; a longer "word" is read as the tokenizer spells it."""


@dataclass(frozen=True)
class Alternative:
    """A token that might have been written, and ln p(token | the text before it), in nats."""

    token: str
    logprob: float


@dataclass(frozen=True)
class Token(Alternative):
    """A token that was written. The first may spell again what was given of an unfinished word; its p is given that."""

    top: list[Alternative]
    """The likeliest in its place, the likeliest first."""


@dataclass(frozen=True)
class Sample:
    """A continuation. All probabilities are the model's own, before penalties, temperature and filters."""

    text: str
    finish_reason: str
    """Why it ends: a `stop` string, which is not part of it, the `length` that was asked for, or the document's `eos`."""
    logprob: float
    """ln p of all that was drawn, in nats, the end and what a stop string took away included."""
    tokens: list[Token]
    """Those that begin within `text`."""

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Draft:
    """A continuation that is being written."""

    text: str = ""
    logprob: float = 0.0
    tokens: tuple[tuple[int, Token], ...] = ()
    """Each with the place in `text` where it begins."""

    def grown(self, text: str, logprobs_N: Tensor, index: int, name: Callable[[int], str] | None, logprobs: int) -> Draft:
        """With `text` after it, by choice `index` among N, which is a token if it has a name."""
        logprob, tokens = float(logprobs_N[index]), self.tokens
        if name is not None:
            likeliest = logprobs_N.topk(min(logprobs, len(logprobs_N)))
            pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
            top = [Alternative(name(other), value) for other, value in pairs if value > -math.inf]
            tokens = (*tokens, (len(self.text), Token(name(index), logprob, top)))
        return Draft(self.text + text, self.logprob + logprob, tokens)

    def finished(self, reason: str, cut: int | None = None) -> Sample:
        """The continuation as far as `cut`."""
        kept = [token for start, token in self.tokens if cut is None or start < cut]
        return Sample(self.text[:cut], reason, self.logprob, kept)


@dataclass(frozen=True)
class Opening:
    """Where a continuation begins: with one of N ways to spell what was given of an unfinished word."""

    tokenizer: Tokenizer
    spellings: list[tuple[tuple[int, ...], float]]
    """Tokens, and ln p(tokens | the text before). One empty spelling where no word is unfinished."""
    pending: bytes = b""
    """What was given of the word."""
    last: Sequence[int] = ()
    """The word that was read last, if nothing separates the next one from it yet."""

    def masses(self) -> Tensor:
        """The logarithms of `spellings`, [N]; they are logits of the choice between them."""
        return torch.tensor([logprob for _, logprob in self.spellings], dtype=torch.float64)

    @property
    def given(self) -> int:
        """Characters that the spellings begin with and the continuation does not."""
        return len(self.pending.decode())

    def decoder(self) -> StreamDecoder:
        decoder = self.tokenizer.decoder()
        for token in self.last:
            decoder.push(token)
        return decoder

    def text(self, tokens: Sequence[int], *, whole: bool) -> str:
        """What `tokens`, from the spelling on, make certain of the continuation; the `whole` of it if no more follow."""
        decoder = self.decoder()
        certain = "".join(map(decoder.push, tokens))
        return (certain + decoder.finish() if whole else certain)[self.given :]

    def goes_beyond(self, tokens: Sequence[int]) -> bool:
        """Whether a spelling is longer than what was given, if only by a part of a character."""
        return sum(len(self.tokenizer.spelling(token)) for token in tokens) > len(self.pending)

    def describe(self, index: int) -> str:
        """What a spelling spells."""
        return b"".join(map(self.tokenizer.spelling, self.spellings[index][0])).decode(errors="backslashreplace")


@dataclass(frozen=True)
class _Choice:
    """One of N possibilities, as it was drawn, and the text that it makes certain."""

    text: str
    logits_N: Tensor
    index: int
    name: Callable[[int], str] | None = None
    """Of each possibility; `None` if none was a token of the continuation."""
    ends: bool = False


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
        check_limits(max_tokens, stop)
        check_seed(seed)
        return _until(stop, (choice.text for choice in self._drawn(prompt, config, max_tokens, seed)))

    def sample(
        self,
        prompt: str,
        config: SamplingConfig,
        *,
        max_tokens: int = 100,
        stop: Sequence[str] = (),
        seed: int | None = None,
        logprobs: int = 0,
    ) -> Sample:
        """What `write` writes, all at once, with the probability of each token and the `logprobs` likeliest in its place.

        Raises:
            UsageError: as `write`, or `logprobs` is negative.
        """
        check_limits(max_tokens, stop, logprobs)
        check_seed(seed)
        draft = Draft()
        for choice in self._drawn(prompt, config, max_tokens, seed):
            logprobs_N = choice.logits_N.double().log_softmax(-1)
            draft = draft.grown(choice.text, logprobs_N, choice.index, choice.name, logprobs)
            if (cut := first_stop(stop, draft.text)) is not None:
                return draft.finished("stop", cut)
            if choice.ends:
                return draft.finished("eos")
        return draft.finished("length")

    def opening(self, prompt: str) -> Opening:
        """Read `prompt`, but for a last word that may be unfinished and has more than one spelling."""
        tokenizer, cut = self.tokenizer, self.spelling.cut(prompt)
        if tokenizer.kind == "bpe" and 0 < len(cut.pending) <= LONGEST_RESPELLED:
            self.read_text(cut.context)
            if spellings := self.spellings(cut.pending):
                return Opening(tokenizer, spellings, pending=cut.pending)
        self.read_text(prompt)
        after_word = tokenizer.kind == "word" and prompt and not prompt[-1].isspace()
        return Opening(tokenizer, [((), 0.0)], last=self.ids[-1:] if after_word else [])

    def _drawn(self, prompt: str, config: SamplingConfig, max_tokens: int, seed: int | None) -> Iterator[_Choice]:
        if not max_tokens:
            return
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        opening = self.opening(prompt)
        masses_N = opening.masses()
        chosen = sampling.draw(sampling.apply(masses_N, config), generator)
        tokens, _ = opening.spellings[chosen]
        self.read([*self.ids, *tokens])
        tokenizer, decoder = self.tokenizer, opening.decoder()
        left = max_tokens - opening.goes_beyond(tokens)
        text = "".join(map(decoder.push, tokens))[opening.given :]
        name = opening.describe if left < max_tokens else None
        yield _Choice(text if left else text + decoder.finish(), masses_N, chosen, name)
        while left:
            left -= 1
            logits_V = self.next_logits()
            with one_thread():
                allowed_V = without_unknown(logits_V, tokenizer)
                token = sampling.draw(sampling.apply(allowed_V, config, self.ids), generator)
            if ends_text(token, tokenizer):
                yield _Choice(decoder.finish(), logits_V, token, ends=True)
                return
            self.step(token)
            text = decoder.push(token)
            yield _Choice(text if left else text + decoder.finish(), logits_V, token, tokenizer.describe)


def check_seed(seed: int | None) -> None:
    """Raise `UsageError` for a seed that no generator takes."""
    if seed is not None and not 0 <= seed < 1 << 63:
        raise UsageError(f"seed is {seed}; expected a whole number from 0 to 2^63 - 1")


def check_limits(max_tokens: int, stop: Sequence[str], logprobs: int = 0) -> None:
    """Raise `UsageError` for limits that no continuation can keep."""
    for name, value in (("max_tokens", max_tokens), ("logprobs", logprobs)):
        if value < 0:
            raise UsageError(f"{name} is {value}; expected 0 or more")
    if not all(stop):
        raise UsageError("a stop string is empty; expected some text")


def without_unknown(logits_V: Tensor, tokenizer: Tokenizer) -> Tensor:
    """The unknown symbol, which has no text, ruled out."""
    return logits_V if tokenizer.unk is None else logits_V.index_fill(0, torch.tensor([tokenizer.unk]), -torch.inf)


def ends_text(token: int, tokenizer: Tokenizer) -> bool:
    """Whether a text ends with `token`: with an `<eos>`, except in a word model, where it is a line end."""
    return token == tokenizer.eos and tokenizer.kind != "word"


def first_stop(stop: Sequence[str], text: str) -> int | None:
    """Where the first of the stop strings in `text` begins."""
    return min((place for string in stop if (place := text.find(string)) >= 0), default=None)


def _until(stop: Sequence[str], pieces: Iterable[str]) -> Iterator[str]:
    """Pass text on up to the first stop string, holding back what may be the beginning of one."""
    held = ""
    for piece in pieces:
        held += piece
        if (place := first_stop(stop, held)) is not None:
            yield held[:place]
            return
        keep = max((size for string in stop for size in range(1, len(string)) if held.endswith(string[:size])), default=0)
        cut = len(held) - keep
        yield held[:cut]
        held = held[cut:]
    yield held
