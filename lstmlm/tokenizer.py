"""Text <-> ids: word, char, byte and byte-level BPE, on Hugging Face `tokenizers`, saved as one `tokenizer.json`.

Control tokens (`<eos>`, `<unk>`) are entries of the vocabulary under names that no text can spell: a word model reads a
literal `<eos>` as unknown, a char model has single characters only, and byte-level merges never join `<` to a letter.

White space is what `str.split` takes for it, everywhere: in counts, in word models, and where BPE cuts.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from lstmlm.config import TokenizerConfig
from lstmlm.corpus import Piece
from lstmlm.corpus.reading import split_lines
from lstmlm.errors import ArtefactError, DataError

EOS, UNK = "<eos>", "<unk>"
_CHARACTERS_AT_ONCE = 1 << 20
DEFAULT_BPE_SIZE = 4000
"""A good size for a corpus of a megabyte or two."""

_WHITE = "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1))))
# A word takes the one space before it along; letters, digits and other marks are words of their own; an English
# ending stays with its apostrophe; white space that no word takes stands alone, character by character. After GPT-2's
# pattern (Radford et al. 2019), with no run of white space ever joined.
_BPE_WORDS = (
    rf" ?\p{{L}}[\p{{L}}\p{{M}}]*| ?\p{{N}}+|'(?:[sdmt]|ll|ve|re)(?!\p{{L}})| ?[^{_WHITE}\p{{L}}\p{{N}}]+|[{_WHITE}]"
)
_LITERAL_EOS = rf"(?<![^{_WHITE}]){EOS}(?![^{_WHITE}])"


@dataclass(frozen=True)
class Encoded:
    """The ids of some text, and where in them lines and documents end.

    An end is the position one past the last id of the line; 0 means that it ended just before these ids.
    """

    ids: Sequence[int]
    line_ends: Sequence[int]
    document_ends: Sequence[int]


class Tokenizer:
    """A frozen vocabulary with its rules; make one with `train` or `load`."""

    def __init__(self, backend: Backend, config: TokenizerConfig) -> None:
        self._backend = backend
        self.config = replace(config, vocabulary_size=None) if config.kind == "byte" else config
        self.vocabulary_size: int = backend.get_vocab_size(with_added_tokens=False)
        eos = backend.token_to_id(EOS)
        if eos is None:
            raise ArtefactError(f"tokenizer.json has no {EOS} in its vocabulary; it was not made by lstmlm")
        self.eos: int = eos
        self.unk: int | None = backend.token_to_id(UNK) if self.kind in ("word", "char") else None
        self._bytes = [self._token_bytes(token) for token in range(self.vocabulary_size)]

    @property
    def kind(self) -> str:
        return self.config.kind

    @property
    def lossless(self) -> bool:
        """Whether `decode(encode(text)) == text` (for `char`: as long as the text has no unknown character)."""
        return self.kind != "word" and self.config.normalization == "none" and not self.config.lowercase

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `tokenizer.json`."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @classmethod
    def train(cls, config: TokenizerConfig, pieces: Iterable[Piece]) -> Tokenizer:
        """Make a vocabulary from the training split, and from nothing else.

        Raises:
            DataError: a word or char vocabulary of a text without words or characters.
        """
        if config.kind == "byte":
            return cls(_byte_level(dict(_byte_symbols()), [], config), config)
        if config.kind == "bpe":
            return cls(_train_bpe((piece.text for piece in pieces), config), config)
        return cls(_train_counted(pieces, config), config)

    @classmethod
    def load(cls, data: bytes, config: TokenizerConfig) -> Tokenizer:
        """From the bytes of `tokenizer.json`.

        Raises:
            ArtefactError: they are not a tokenizer, or not one of this kind.
        """
        try:
            backend = Backend.from_str(data.decode())
        except Exception as error:  # the library raises plain Exception
            raise ArtefactError(f"tokenizer.json cannot be read: {str(error).strip()}") from error
        if isinstance(backend.model, models.WordLevel) != (config.kind == "word"):
            raise ArtefactError(f"tokenizer.json is not of the kind {config.kind!r} that config.json names")
        return cls(backend, config)

    def to_json(self) -> bytes:
        """The content of `tokenizer.json`."""
        return self._backend.to_str(pretty=True).encode()

    def normalize(self, text: str) -> str:
        """`text` as the vocabulary sees it: unchanged, but for the normalization in the config."""
        _check_unicode(text)
        normalizer = self._backend.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def encode(self, text: str) -> list[int]:
        r"""The ids of `text`; nothing is added at its end. In a word model each `\n` is an `<eos>`."""
        _check_unicode(text)
        return [token for line in self._encode_lines(split_lines(text)) for token in line]

    def encode_with_offsets(self, text: str) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """The ids of `encode`, line by line, and which characters of its line each stands for, from and to.

        A token that spells a part of a character stands for all of it, so that offsets may overlap. What a normalization
        took away belongs to no token.
        """
        _check_unicode(text)
        lines = split_lines(text)
        encodings = self._backend.encode_batch(lines, add_special_tokens=False)
        for line, encoding in zip(lines, encodings, strict=True):
            if self.kind == "word" and line.endswith("\n"):
                yield [*encoding.ids, self.eos], [*encoding.offsets, (len(line) - 1, len(line))]
            else:
                yield encoding.ids, encoding.offsets

    def encode_documents(self, pieces: Iterable[Piece]) -> Iterator[Encoded]:
        """The ids of a text as training and evaluation see it, a megabyte or so of text at a time.

        Each document is closed by one `<eos>`, which belongs to its last line; in a word model every line is closed by one,
        which takes the document's place.
        """
        open_line = False  # the text so far does not end at a line end
        held_back = False  # it does, but its document's <eos> may still belong to that line
        for batch in _batches(pieces):
            lines = [split_lines(piece.text) for piece in batch]
            encoded = self._encode_lines([line for part in lines for line in part])
            ids: list[int] = []
            line_ends = [0] if held_back else []
            document_ends: list[int] = []
            for piece, part in zip(batch, lines, strict=True):
                for line in part:
                    ids += next(encoded)
                    open_line = not line.endswith("\n")
                    if not open_line:
                        line_ends.append(len(ids))
                if piece.ends_document and (open_line or self.kind != "word"):
                    if not open_line and line_ends and line_ends[-1:] != document_ends[-1:]:
                        line_ends.pop()
                    ids.append(self.eos)
                    line_ends.append(len(ids))
                    open_line = False
                if piece.ends_document:
                    document_ends.append(len(ids))
            held_back = self.kind != "word" and not open_line and not batch[-1].ends_document and bool(line_ends)
            if held_back:
                line_ends.pop()
            yield Encoded(ids, line_ends, document_ends)

    def _encode_lines(self, lines: list[str]) -> Iterator[list[int]]:
        encodings = self._backend.encode_batch_fast(lines, add_special_tokens=False)
        for line, encoding in zip(lines, encodings, strict=True):
            if self.kind == "word" and line.endswith("\n"):
                yield [*encoding.ids, self.eos]
            else:
                yield encoding.ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD, `<eos>` is a line end in a word model, else nothing."""
        decoder = self.decoder()
        return "".join(map(decoder.push, ids)) + decoder.finish()

    def decoder(self) -> StreamDecoder:
        """A decoder that takes one id at a time; its pieces joined are `decode` of all ids."""
        return StreamDecoder(self)

    def spelling(self, token: int) -> bytes:
        """The UTF-8 bytes that `token` stands for; empty for `<eos>` (except in a word model) and `<unk>`."""
        return self._bytes[token]

    def describe(self, token: int) -> str:
        """`token` for a person's eyes: control tokens by name."""
        if token in (self.eos, self.unk):
            return EOS if token == self.eos else UNK
        return self._bytes[token].decode(errors="backslashreplace")

    def _token_bytes(self, token: int) -> bytes:
        name = self._backend.id_to_token(token)
        if name is None:
            raise ArtefactError(f"tokenizer.json has no token {token}; ids must be 0 to {self.vocabulary_size - 1}")
        if token == self.eos:
            return b"\n" if self.kind == "word" else b""
        if token == self.unk:
            return b""
        if self.kind in ("word", "char"):
            return name.encode()
        try:
            return bytes(_BYTE_OF[symbol] for symbol in name)
        except KeyError as error:
            raise ArtefactError(f"tokenizer.json: token {token} is not made of byte symbols") from error


class StreamDecoder:
    """Ids in, text out, never half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._after_word = False

    def push(self, token: int) -> str:
        """The text that `token` makes certain; empty while a character is incomplete."""
        tokenizer = self._tokenizer
        spelled = tokenizer.spelling(token)
        if token == tokenizer.unk:
            spelled = (UNK if tokenizer.kind == "word" else "\ufffd").encode()
        if tokenizer.kind == "word":
            is_word = token != tokenizer.eos
            if is_word and self._after_word:
                spelled = b" " + spelled
            self._after_word = is_word
        return self._utf8.decode(spelled)

    def finish(self) -> str:
        """What is left: U+FFFD if the ids ended inside a character."""
        return self._utf8.decode(b"", final=True)


def _check_unicode(text: str) -> None:
    """Refuse what only a string can hold: the stand-ins for bytes that a command line could not decode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(f"the text is not UTF-8: no character is U+{code:04X}, at {error.start:,}") from error


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces in groups that are worth the tokenizer's while: many short documents are encoded together."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text) + len(piece.separator) + 1
        if size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _normalizer(config: TokenizerConfig) -> normalizers.Normalizer | None:
    steps: list[Any] = []
    if config.normalization != "none":
        steps.append({"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}[config.normalization]())
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    if config.kind == "word":
        steps.append(normalizers.Replace(Regex(_LITERAL_EOS), UNK))
    return normalizers.Sequence(steps) if steps else None


def _train_counted(pieces: Iterable[Piece], config: TokenizerConfig) -> Backend:
    """A word or char vocabulary: most frequent first, ties by code point, `<eos>` and `<unk>` in their places."""
    normalizer = _normalizer(config)
    counts: Counter[str] = Counter()
    ends = 0
    open_line = False
    for piece in pieces:
        text = piece.text
        # The replacement of a literal <eos> is the one step that matters for every word text; it is rare, so look first.
        plain = config.kind == "char" or EOS not in text
        if normalizer is not None and not (plain and config.normalization == "none" and not config.lowercase):
            text = normalizer.normalize_str(text)
        counts.update(text.split() if config.kind == "word" else text)
        if config.kind == "word":
            open_line = not text.endswith("\n") if text else open_line
            ends += text.count("\n") + (piece.ends_document and open_line)
            open_line = open_line and not piece.ends_document
        else:
            ends += piece.ends_document
    if not counts:
        raise DataError("the training text is empty; expected some text")
    unknown = counts.pop(UNK, 0) if config.kind == "word" else 0
    least = config.min_count or (1 if unknown or config.kind == "char" else 2)
    ranked = sorted(
        ((count, name) for name, count in counts.items() if count >= least), key=lambda pair: (-pair[0], pair[1])
    )
    room = max(0, config.vocabulary_size - 2) if config.vocabulary_size else len(ranked)
    kept = ranked[:room]
    unknown += counts.total() - sum(count for count, _ in kept)
    kept += [(unknown, UNK), (ends, EOS)]
    kept.sort(key=lambda pair: (-pair[0], pair[1]))
    vocabulary = {name: token for token, (_, name) in enumerate(kept)}
    model: models.Model
    if config.kind == "word":
        model = models.WordLevel(vocabulary, unk_token=UNK)
    else:
        model = models.BPE(vocabulary, [], unk_token=UNK)  # no merges: every character is a symbol
    backend = Backend(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    if config.kind == "word":
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(f"[{_WHITE}]+"), "removed")
    return backend


def _train_bpe(texts: Iterable[str], config: TokenizerConfig) -> Backend:
    """Byte-level BPE (Sennrich et al. 2016): ids 0-255 are the bytes, then the merges in order, `<eos>` last."""
    learner = _byte_level(dict(_byte_symbols()), [], config)
    trainer = trainers.BpeTrainer(
        vocab_size=(config.vocabulary_size or DEFAULT_BPE_SIZE) - 1,
        initial_alphabet=sorted(_BYTE_OF),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    vocabulary = dict(_BYTE_OF)
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    vocabulary[EOS] = len(vocabulary)
    return _byte_level(vocabulary, merges, config)


def _byte_symbols() -> Iterator[tuple[str, int]]:
    yield from _BYTE_OF.items()
    yield EOS, 256


def _byte_level(vocabulary: dict[str, int], merges: list[Any], config: TokenizerConfig) -> Backend:
    backend = Backend(models.BPE(vocabulary, merges))
    if (normalizer := _normalizer(config)) is not None:
        backend.normalizer = normalizer
    as_symbols = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if config.kind == "bpe":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_BPE_WORDS), "isolated"), as_symbols])
    else:
        backend.pre_tokenizer = as_symbols
    return backend


def _byte_alphabet() -> dict[str, int]:
    """The printable symbol that the byte-level pre-tokenizer writes for each byte: itself where Latin-1 prints it,
    else the next free one from U+0100 on (the table of GPT-2).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    free = iter(range(0x100, 0x200))
    return {chr(byte if byte in printable else next(free)): byte for byte in range(256)}


_BYTE_OF = _byte_alphabet()
