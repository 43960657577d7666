"""A text in progress and what can be done with it; knows no terminal, so sessions are tested as plain calls.

What needs the model reads the draft once and then leaves it alone, so that a face may call it from another thread while a
person types on: `suggest`, `continuation`, `listed`, `surprisals`, and all that opens another session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lstmlm.adaptation import has_adaptation
from lstmlm.anticipation import Anticipation
from lstmlm.checkpoint import LoadedModel
from lstmlm.config import SamplingConfig
from lstmlm.durations import Stop, after
from lstmlm.errors import UsageError
from lstmlm.generation import Session, check_seed
from lstmlm.predictor import AnyModel, live_predictor, load_any
from lstmlm.repl.draft import Draft
from lstmlm.repl.statistics import Statistics
from lstmlm.repl.suggestions import Ghost, Offering, Suggestion, insertion, joined, suggest, words
from lstmlm.storage import storage_errors, write_atomic
from lstmlm.surprisal import Surprisal, surprisals

_MOST_CANDIDATES = 40
_LONGEST_CACHE = 1_000_000
_PATIENCE = 0.1
"""Seconds for a list, if nothing else is said."""
_CLOSING = ".,;:!?)]}\u201d\u2019"
"""Marks that stand right behind a word."""
_OFFERING = ("k", "ghost", "ghost_words", "smart_case")
"""What of `Offering` is a setting; the rest has commands of its own."""
_LIMITS = {"k": (1, _MOST_CANDIDATES), "ghost": (0, 1), "ghost_words": (1, 9), "max_tokens": (0, 1_000_000)}


class Conversation:
    """The draft, the model that reads along, and the settings."""

    def __init__(
        self,
        loaded: AnyModel,
        *,
        offering: Offering | None = None,
        sampling: SamplingConfig | None = None,
        seed: int | None = None,
    ) -> None:
        self.loaded = loaded
        self.draft = Draft()
        self.offering = offering or Offering()
        self.sampling = sampling or SamplingConfig(temperature=0.8, top_p=0.95)
        self.seed = seed
        self.max_tokens = 40
        self.cache = 0
        """Tokens of the text that are remembered while it is written; 0 is none."""
        self.learning = False
        """Whether its words are learned, and the weights follow it."""
        self.statistics = Statistics()
        self.over = False
        self._saved: dict[Path, bytes] = {}
        self.session = self._open_session()
        self._anticipation: Anticipation[Suggestion] | None = None
        self._anticipated: tuple[Session, Offering] | None = None

    def _open_session(self) -> Session:
        tuned = isinstance(self.loaded, LoadedModel) and has_adaptation(self.loaded)
        return Session(live_predictor(self.loaded, self.cache, dynamic=self.learning and tuned))

    # -- the text ---------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return self.draft.text

    @property
    def name(self) -> str:
        """Of the model, as a person knows it: a run's rather than that of the step in it."""
        path = self.loaded.path.absolute()
        return path.parent.name if path.name == "best" or path.name.startswith("step-") else path.name

    def type(self, more: str) -> None:
        """Append a line that a person typed."""
        if more:
            inserted = joined(self.text, more)[len(self.text) :]
            self.draft.put(inserted, keys=len(inserted))

    def suggest(self, before: str | None = None, stop: Stop | None = None) -> Suggestion:
        """What is offered after `before` (default: the text before the cursor), found before `stop` says so."""
        text = self.draft.before if before is None else before
        suggestion, finished = self._anticipating().ask(text, stop or after(_PATIENCE))
        return replace(suggestion, finished=finished)

    def look_ahead(self, before: str, stop: Stop) -> None:
        """Find what will be offered after the next key, while there is time."""
        self._anticipating().look_ahead(before, stop)

    def _anticipating(self) -> Anticipation[Suggestion]:
        """What was found for the session and the settings as they are now."""
        session, offering = now = self.session, self.offering
        if self._anticipation is None or self._anticipated != now:
            self._anticipation = Anticipation(session, lambda text, stop: suggest(session, text, offering, stop))
            self._anticipated = now
        return self._anticipation

    def offered(self, suggestion: Suggestion, milliseconds: float) -> None:
        """The suggestion was shown to a person, so long after it was asked for."""
        completion = suggestion.completion
        if completion.candidates:
            self.statistics.offer(len(completion.text) - completion.candidates[0].replace, milliseconds)

    def take(self, suggestion: Suggestion, number: int) -> str:
        """Put candidate `number` (from 1) with a space after it in place of the unfinished word; returns the word."""
        completion = suggestion.completion
        if not 1 <= number <= len(completion.candidates):
            raise UsageError(f"there is no candidate {number}; expected 1 to {len(completion.candidates)}")
        chosen = completion.candidates[number - 1]
        behind = self.text[self.draft.cursor :]
        space = "" if behind[:1].isspace() else " "
        closing = "\n" if self.session.tokenizer.kind == "word" else _CLOSING + "\n"
        self.draft.put(insertion(completion.text, chosen) + space, chosen.replace, closing=space and closing)
        self.statistics.accept()
        return chosen.word

    def put_back(self) -> None:
        """Undo `take`, for another word in its place."""
        self.draft.undo()
        self.statistics.accepted -= 1

    def accept(self, ghost: Ghost) -> None:
        """Make all of a ghost text."""
        self.draft.put("".join(ghost.words), ghost.replace)
        self.statistics.accept()

    def accept_word(self, ghost: Ghost) -> Ghost | None:
        """Make the first word of a ghost text; what is left of the ghost."""
        self.draft.put(ghost.words[0], ghost.replace)
        self.statistics.accept()
        return ghost.after_first()

    def continuation(self, before: str, max_tokens: int | None = None) -> Iterator[str]:
        """What the model writes after `before`, in pieces; the draft is not touched."""
        count = self.max_tokens if max_tokens is None else max_tokens
        return self.session.write(before, self.sampling, max_tokens=count, seed=self.seed)

    def write(self, max_tokens: int | None = None) -> Iterator[str]:
        """Let the model write on, as one step; what was yielded when the caller stops stays."""
        pieces = self.continuation(self.draft.before, max_tokens)
        self.draft.put("", keys=0)
        for piece in pieces:
            self.draft.extend(piece)
            yield piece

    def listed(self, k: int) -> Suggestion:
        """The `k` likeliest next words, without a ghost."""
        self._check("k", k)
        return Suggestion(words(self.session, self.draft.before, replace(self.offering, k=k)))

    def surprisals(self) -> list[Surprisal]:
        """How unexpected each word of the text is, by the model as it was trained."""
        return surprisals(self.loaded, self.text, per="word")

    # -- settings ---------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Every setting by its name: a field of `SamplingConfig`, or one of the editor's own."""
        own = {name: getattr(self.offering, name) for name in _OFFERING} | {"max_tokens": self.max_tokens, "seed": self.seed}
        return own | {field.name: getattr(self.sampling, field.name) for field in fields(self.sampling)}

    def set(self, name: str, value: str) -> None:
        """Change a setting by name.

        Raises:
            UsageError: there is none of this name, or it cannot have this value.
        """
        known = self.settings()
        if name not in known:
            raise UsageError(f"there is no setting {name!r}; expected one of {', '.join(known)}")
        if name == "seed":
            seed = None if value == "none" else int(number_of(name, value, int))
            check_seed(seed)
            self.seed = seed
        elif name == "smart_case":
            self.offering = replace(self.offering, smart_case=switch(name, value))
        else:
            number = number_of(name, value, type(known[name]))
            self._check(name, number)
            if name == "max_tokens":
                self.max_tokens = int(number)
            elif name in _OFFERING:
                self.offering = replace(self.offering, **{name: number})  # type: ignore[arg-type]
            else:
                self.sampling = replace(self.sampling, **{name: number})  # type: ignore[arg-type]

    def _check(self, name: str, number: float) -> None:
        low, high = _LIMITS.get(name, (-float("inf"), float("inf")))
        if name in _LIMITS and not low <= number <= high:
            raise UsageError(f"{name} is {number:g}; expected {low} to {high}")

    def ban(self, words: list[str]) -> None:
        """Never offer these words again, in whatever capitals."""
        self.offering = replace(self.offering, banned=self.offering.banned.union(*map(_capitals, words)))

    def unban(self, words: list[str]) -> None:
        """Offer them again."""
        self.offering = replace(self.offering, banned=self.offering.banned.difference(*map(_capitals, words)))

    def watch(self, words: list[str]) -> None:
        """Show how likely these words are, instead of those that were watched before."""
        self.offering = replace(self.offering, watched=tuple(dict.fromkeys(words)))

    # -- other sessions ---------------------------------------------------------------------------------------------

    def learn(self, on: bool) -> None:
        """Offer the text's own words, and let the weights of a model that was tuned follow it; in memory alone."""
        self._reopen(learning=on, offering=replace(self.offering, own_words=on))

    def remember(self, length: int) -> None:
        """Mix in what followed at similar places of the last `length` tokens, in memory alone; 0 ends it."""
        if not 0 <= length <= _LONGEST_CACHE:
            raise UsageError(f"the cache is {length} tokens long; expected 0 to {_LONGEST_CACHE:,}")
        self._reopen(cache=length)

    def open(self, path: str) -> None:
        """Go on with another model."""
        self._reopen(loaded=load_any(_at_home(path)))

    def _reopen(self, **changes: Any) -> None:
        """Another session, or the old one if it cannot be opened."""
        before = {name: getattr(self, name) for name in changes}
        vars(self).update(changes)
        try:
            self.session = self._open_session()
        except BaseException:
            vars(self).update(before)
            raise

    def save(self, file: str) -> Path:
        """Write the text to `file`, which must not exist, or be as this session saved it."""
        if not file.isprintable():
            raise UsageError("expected a file name without control characters")
        path = _at_home(file)
        with storage_errors(path):
            if path.is_dir():
                raise UsageError(f"{file} is a folder; expected the name of a file")
            saved = self._saved.get(path.absolute())
            if path.exists() and (saved is None or saved != path.read_bytes()):
                raise UsageError(f"{file} exists and is kept as it is; choose another name, or move it away first")
        data = self.text.encode()
        write_atomic(path, data)
        self._saved[path.absolute()] = data
        return path


def _at_home(file: str) -> Path:
    """A path in which `~` is the person's folder."""
    try:
        return Path(file).expanduser()
    except RuntimeError:
        raise UsageError(f"{file} begins with the name of a user that there is not") from None


def switch(name: str, value: str) -> bool:
    """`on` or `off`."""
    if value not in ("on", "off"):
        raise UsageError(f"{name} is {value!r}; expected on or off")
    return value == "on"


def number_of(name: str, value: str, kind: type[int] | type[float]) -> float:
    """`value` as a number."""
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} is {value!r}; expected a number") from None


def _capitals(word: str) -> set[str]:
    return {word, word.lower(), word.upper(), word.lower().capitalize()}
