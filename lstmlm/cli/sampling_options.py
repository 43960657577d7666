"""Options that say how a token is drawn: one for each field of `SamplingConfig`, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lstmlm.config import SamplingConfig

_Command = TypeVar("_Command", bound=Callable[..., Any])
_HELP = {
    "repetition_penalty": "Above 1: what has occurred becomes less likely, by a factor on its logit.",
    "frequency_penalty": "Taken from a token's logit for each time it has occurred; -2 to 2.",
    "presence_penalty": "Taken once from the logit of what has occurred; -2 to 2.",
    "no_repeat_ngram_size": "Never the same N tokens in a row again; 0: let them.",
    "temperature": "Below 1 safer, above 1 bolder; 0: always the likeliest.",
    "top_k": "Only the K likeliest; 0: all.",
    "top_p": "Only the likeliest that reach P.",
    "min_p": "Only those P times as likely as the likeliest.",
    "typical_p": "Only those of the most usual surprisal that reach P.",
    "epsilon_cutoff": "Only those of at least this probability.",
    "eta_cutoff": "The same, but lower where much is possible.",
}


def sampling_options(command: _Command) -> _Command:
    """Penalties, temperature and filters."""
    for name, help in reversed(_HELP.items()):
        default = getattr(SamplingConfig, name)
        option = click.option(
            f"--{name.replace('_', '-')}", type=type(default), default=default, show_default=True, help=help
        )
        command = option(command)
    return command
