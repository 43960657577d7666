"""The commands that begin with `/`, as a table; both faces of the conversation execute them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lstmlm.errors import LstmlmError, UsageError
from lstmlm.repl.conversation import Conversation, number_of, switch

_MOST_SURPRISING = 5


@dataclass(frozen=True)
class Command:
    """What a person types, what it does, and the function that does it; what the function returns or yields is shown."""

    name: str
    arguments: str
    help: str
    run: Callable[[Conversation, str], str | Iterator[str]]
    slow: bool = False
    """It asks the model, which takes time."""

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".strip()


def parsed(line: str) -> tuple[str, str]:
    """The command's name, with its slash, and what follows; two empty texts for a line that is none.

    Raises:
        UsageError: it looks like a command, and there is none of this name.
    """
    if not (match := re.match(r"(/[a-z]*)(?:\s|$)", line)):
        return "", ""
    if match[1] not in COMMANDS:
        raise UsageError(f"there is no command {match[1]}; /help lists them")
    return match[1], line[match.end() :].strip()


def execute(conversation: Conversation, name: str, argument: str) -> Iterator[str]:
    """Run a command; what there is to show for it, in pieces. Mistakes are answered, not raised."""
    try:
        said = COMMANDS[name].run(conversation, argument)
        yield from (said,) if isinstance(said, str) else said
    except LstmlmError as error:
        yield str(error)


def completions(conversation: Conversation, line: str) -> list[str]:
    """Lines that `line`, the beginning of a command, may become."""
    name, space, argument = line.partition(" ")
    if not space:
        return [known + " " * bool(COMMANDS[known].arguments) for known in COMMANDS if known.startswith(name)]
    values = {"/set": tuple(conversation.settings()), "/learn": ("on", "off")}.get(name, ())
    return [f"{name} {value}" for value in values if value.startswith(argument)]


def usages(beginning: str = "/") -> str:
    """A line on each command that begins so."""
    found = [command for command in COMMANDS.values() if command.name.startswith(beginning)]
    width = max((len(command.usage) for command in found), default=0)
    return "\n".join(f"{command.usage:<{width}}  {command.help}" for command in found)


def _help(conversation: Conversation, argument: str) -> str:
    return usages()


def _set(conversation: Conversation, argument: str) -> str:
    name, _, value = argument.partition(" ")
    if name and (value or name not in conversation.settings()):
        conversation.set(name, value.strip())
    settings = conversation.settings()
    return "\n".join(f"{known:<20}  {_shown(settings[known])}" for known in ([name] if name else settings))


def _shown(value: object) -> str:
    return {True: "on", False: "off", None: "none"}[value] if value is None or isinstance(value, bool) else f"{value}"


def _top(conversation: Conversation, argument: str) -> str:
    k = int(number_of("k", argument, int)) if argument else conversation.offering.k
    completion = conversation.listed(k).completion
    rows = [f"{n:>3}  {c.probability:>6.1%}  {c.word}" for n, c in enumerate(completion.candidates, 1)]
    return "\n".join([*rows, f"     {completion.other_probability:>6.1%}  other"])


def _gen(conversation: Conversation, argument: str) -> Iterator[str]:
    return conversation.write(tokens(argument))


def tokens(argument: str) -> int | None:
    """How many tokens `/gen` is to write; `None` is as many as the setting says."""
    return int(number_of("N", argument, int)) if argument else None


def _color(conversation: Conversation, argument: str) -> str:
    raise UsageError("colours need the editor on a terminal; /score says it in figures")


def _watch(conversation: Conversation, argument: str) -> str:
    conversation.watch(argument.split())
    return f"watching {argument}" if argument else "watching no word"


def _ban(conversation: Conversation, argument: str) -> str:
    conversation.ban(argument.split())
    return _banned(conversation)


def _unban(conversation: Conversation, argument: str) -> str:
    conversation.unban(argument.split())
    return _banned(conversation)


def _banned(conversation: Conversation) -> str:
    banned = sorted({word.lower() for word in conversation.offering.banned})
    return f"never offered: {', '.join(banned)}" if banned else "no word is banned"


def _cache(conversation: Conversation, argument: str) -> str:
    conversation.remember(int(number_of("L", argument, int)))
    return f"remembers the last {conversation.cache:,} tokens, until you quit" if conversation.cache else "remembers none"


def _learn(conversation: Conversation, argument: str) -> str:
    conversation.learn(switch("learning", argument))
    return "learns from your text, until you quit" if conversation.learning else "learns nothing from your text"


def _save(conversation: Conversation, argument: str) -> str:
    if not argument:
        raise UsageError("expected a file name: /save FILE")
    path = conversation.save(argument)
    return f"saved {len(conversation.text):,} characters in {path}"


def _stats(conversation: Conversation, argument: str) -> str:
    return conversation.statistics.report(conversation.draft)


def _model(conversation: Conversation, argument: str) -> str:
    if argument:
        conversation.open(argument)
    return f"{conversation.name}: {conversation.loaded.path}"


def _text(conversation: Conversation, argument: str) -> str:
    return conversation.text


def _undo(conversation: Conversation, argument: str) -> str:
    conversation.draft.undo()
    return ""


def _reset(conversation: Conversation, argument: str) -> str:
    conversation.draft.replace("")
    return ""


def _quit(conversation: Conversation, argument: str) -> str:
    conversation.over = True
    return ""


def _score(conversation: Conversation, argument: str) -> str:
    found = conversation.surprisals()
    if not found:
        return "there is no word to score yet"
    bits = math.fsum(word.bits for word in found)
    most = sorted(found, key=lambda word: -word.bits)[:_MOST_SURPRISING]
    return (
        f"{bits:,.1f} bits in {len(found):,} words: {bits / len(found):.2f} bits each, perplexity per word "
        f"{2 ** (bits / len(found)):,.1f}\nmost surprising: {', '.join(f'{word.text} {word.bits:.1f}' for word in most)}"
    )


COMMANDS = {
    command.name: command
    for command in (
        Command("/help", "", "this list", _help),
        Command("/gen", "[N]", "let the model write on, at most N tokens", _gen, slow=True),
        Command("/top", "[K]", "the K likeliest next words", _top, slow=True),
        Command("/set", "[NAME [VALUE]]", "change a setting; without a value, show it; alone, show all", _set),
        Command("/watch", "[WORD...]", "show how likely these words are as you type", _watch),
        Command("/ban", "[WORD...]", "never offer these words; alone, list them", _ban),
        Command("/unban", "WORD...", "offer them again", _unban),
        Command("/score", "", "how well the model predicts the text", _score, slow=True),
        Command("/color", "", "colour the text by how surprising it is", _color),
        Command("/cache", "L", "remember the last L tokens of the text; 0: none", _cache, slow=True),
        Command("/learn", "on|off", "learn from the text as you write it", _learn, slow=True),
        Command("/save", "FILE", "write the text to a new file", _save),
        Command("/stats", "", "keys saved, words accepted, milliseconds", _stats),
        Command("/model", "[PATH]", "go on with another model", _model, slow=True),
        Command("/text", "", "show the text as it is", _text),
        Command("/undo", "", "take the last change back", _undo),
        Command("/reset", "", "begin a new text", _reset),
        Command("/quit", "", "leave", _quit),
    )
}
