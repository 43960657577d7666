"""Everything that can go wrong in a user's hands, as one tree; each error knows its exit code.

    LstmlmError
    ├── UsageError       2   an option, a value or a path that cannot be meant
    ├── BusyError        3   another run holds the directory
    ├── DataError        4   input text that cannot be used
    │   └── ArtefactError    4   not a model, or a model file that is damaged
    ├── StorageError     5   the disk or the network said no
    ├── ResourceError    6   not enough memory
    ├── DivergedError    7   training left the finite numbers
    └── StoppedError     130/143   a signal asked us to stop, and everything was saved

A message is one or two lines: what was expected or found, where, and what to do about it.
"""

from __future__ import annotations


class LstmlmError(Exception):
    """Base of every error meant for the user; never raised itself."""

    exit_code = 1


class UsageError(LstmlmError):
    """The command or call cannot be meant as written (unknown path, value out of range)."""

    exit_code = 2


class BusyError(LstmlmError):
    """Another process is working in the same run directory."""

    exit_code = 3


class DataError(LstmlmError):
    """The text cannot be used: empty, not UTF-8, too short."""

    exit_code = 4


class ArtefactError(DataError):
    """A directory is not a model, or one of its files is missing, damaged or of an unknown format."""


class StorageError(LstmlmError):
    """Reading or writing failed: disk full, permission, no network."""

    exit_code = 5


class ResourceError(LstmlmError):
    """The machine has not enough memory for what was asked."""

    exit_code = 6


class DivergedError(LstmlmError):
    """Loss or weights left the finite numbers and a smaller learning rate did not help."""

    exit_code = 7


class StoppedError(LstmlmError):
    """SIGINT or SIGTERM was received; the work done so far is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
