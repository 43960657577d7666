"""The ARPA format: n-grams as text, which KenLM and SRILM read.

Each n-gram with log10 of its interpolated probability, and of what it gives to the lower order as a context. `<eos>` is
written `</s>`, the start symbol `<s>`. Symbols are written as `arpa_symbols` says.

G n-grams of an order, K the order
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lstmlm.ngram.model import NGramModel
from lstmlm.tokenizer import UNK, Tokenizer

_LOWEST = -99.0
"""log10 of what never comes: the start symbol."""
_LINES_AT_ONCE = 1 << 16
_CONTROL = {"<s>", "</s>", UNK, UNK.upper()}


def arpa_symbols(tokenizer: Tokenizer) -> list[str]:
    r"""How each token is written, without white space: a word as it is, another token with white space as `\xNN` bytes.

    A word that the format keeps for itself gets a backslash before it.
    """
    written = []
    for token in range(tokenizer.vocabulary_size):
        if token in (tokenizer.eos, tokenizer.unk):
            written.append("</s>" if token == tokenizer.eos else UNK)
            continue
        spelled = tokenizer.spelling(token)
        try:
            text = spelled.decode()
        except UnicodeDecodeError:
            text = ""
        if not text or text in _CONTROL or any(character.isspace() or character in "\0\\" for character in text):
            text = "".join(chr(byte) if 0x21 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in spelled)
            text = f"\\{text}" if text in _CONTROL else text
        written.append(text)
    return written


def arpa_lines(model: NGramModel, symbols: Sequence[str]) -> Iterator[str]:
    """The lines of the file, with their line ends, some thousands at a time.

    A vocabulary without an unknown gets one that never comes, which KenLM insists on.
    """
    base = model.vocabulary_size + 1
    names = np.array([*symbols, "<s>"], dtype=object)
    extra = UNK not in symbols
    counts = [len(grams.keys_G) for grams in model.orders]
    yield "\\data\\\n" + "".join(f"ngram {k}={count + (extra and k == 1)}\n" for k, count in enumerate(counts, 1))
    previous_G = np.empty(0)
    suffix_G = tokens_GK = np.empty(0, np.int64)
    for number, grams in enumerate(model.orders, 1):
        prefix_G, last_G = grams.keys_G // base, grams.keys_G % base
        if number == 1:
            probability_G = grams.discounted_G.astype(np.float64) + model.uniform
            probability_G[-1] = 10**_LOWEST
            suffix_G, tokens_GK = np.zeros(len(last_G), np.int64), last_G[:, None]
        else:
            below = model.orders[number - 2]
            # Without its first token, an n-gram is the suffix of its prefix, and the same last token.
            suffix_G = last_G if number == 2 else below.find(suffix_G[prefix_G] * base + last_G)
            probability_G = grams.discounted_G + below.backoff_G[prefix_G] * previous_G[suffix_G]
            tokens_GK = np.concatenate([tokens_GK[prefix_G], last_G[:, None]], axis=1)
        previous_G = probability_G
        yield f"\n\\{number}-grams:\n" + (f"{_LOWEST:.0f}\t{UNK}\t0\n" if extra and number == 1 else "")
        yield from _lines(probability_G, names, tokens_GK, grams.backoff_G if number < model.order else None)
    yield "\n\\end\\\n"


def _lines(
    probability_G: NDArray[np.float64],
    names: NDArray[np.object_],
    tokens_GK: NDArray[np.int64],
    backoff_G: NDArray[np.float32] | None,
) -> Iterator[str]:
    for begin in range(0, len(probability_G), _LINES_AT_ONCE):
        part = slice(begin, begin + _LINES_AT_ONCE)
        log_G = np.log10(probability_G[part])
        grams = map(" ".join, names[tokens_GK[part]])
        if backoff_G is None:
            yield "".join(f"{log:.7g}\t{gram}\n" for log, gram in zip(log_G, grams, strict=True))
        else:
            gives = zip(log_G, grams, np.log10(np.maximum(backoff_G[part], 10**_LOWEST)), strict=True)
            yield "".join(f"{log:.7g}\t{gram}\t{back:.7g}\n" for log, gram, back in gives)
