"""Files that survive a crash: atomic writes, directories published whole, manifests, locks.

The only module that writes what a crash may interrupt. A directory is published in this order: every file written and
fsynced in `.tmp-NAME-<uuid>/`, `MANIFEST.json` (sizes and SHA-256) last, the directory fsynced, renamed, the parent
fsynced, read back. So a directory under its final name is whole or, if the disk lied, caught by `verify`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lstmlm.errors import ArtefactError, BusyError, StorageError, UsageError

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp-"
SPARE_BYTES = 1 << 20
"""Room left free besides what is about to be written: directory entries, the metrics log."""
_BLOCK = 1 << 20


@contextmanager
def storage_errors(path: Path, wanted: int = 0) -> Iterator[None]:
    """Turn an `OSError` from inside the block into a `StorageError` that names `path` and the bytes wanted."""
    try:
        yield
    except OSError as error:
        size = f" ({wanted:,} bytes)" if wanted else ""
        advice = {
            errno.ENOSPC: "; free some space, or choose another place",
            errno.EDQUOT: "; your disk quota is used up",
            errno.EACCES: "; check the permissions, or choose another place",
            errno.EROFS: "; the file system is read-only, choose another place",
        }.get(error.errno or 0, "")
        raise StorageError(f"cannot write {path}{size}: {error.strerror or error}{advice}") from error


def make_directory(path: Path) -> None:
    """Create `path` and its parents; an existing directory is fine."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask decides, as for any file
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex}")
    with storage_errors(path, len(data)):
        try:
            _write_synced(temporary, data)
            os.replace(temporary, path)
            _fsync_directory(path.parent)
        except BaseException:  # also where someone is tired of waiting
            temporary.unlink(missing_ok=True)
            raise


def check_output(path: Path, read: Iterable[Path] = ()) -> None:
    """Refuse, before any work is done, a file that could not be written afterwards, or that is `read` in between.

    Raises:
        UsageError: its folder does not exist, or it is a folder, or to be read, by itself or with the folder it is in.
    """
    here = path.resolve()
    if any(path.exists() and other.resolve() in (here, *here.parents) for other in read):
        raise UsageError(f"{path} is read, and would be written over; expected another file name")
    if not path.parent.is_dir() or path.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be written: {path.parent} is not a folder"
        raise UsageError(f"{path} {what}; expected a file name in an existing folder")


def check_writable(directory: Path) -> None:
    """Refuse, before any work is done, a directory that nothing could be added to afterwards."""
    if not os.access(directory, os.W_OK):
        raise StorageError(f"{directory} cannot be written to; check the permissions, or copy it and take the copy")


def write_output(path: Path, data: bytes) -> None:
    """Write a file a user named: atomically, but through a link, and into a pipe or device instead of in its place."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        with storage_errors(path, len(data)):
            path.write_bytes(data)
    else:
        write_atomic(path, data)


def to_json(value: Any) -> bytes:
    """Readable JSON with a final newline; NaN and infinities are refused, for they are not JSON.

    Half a surrogate pair, as in a file name that is not UTF-8, stands there as JSON escapes it.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        ArtefactError: it is missing, or not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{path} holds a JSON {type(value).__name__}; expected an object")
    return value


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_free_space(directory: Path, wanted: int) -> None:
    """Refuse early, before anything is touched, what the disk cannot hold."""
    with storage_errors(directory):
        free = shutil.disk_usage(directory).free
    if free < wanted + SPARE_BYTES:
        raise StorageError(f"{directory} has {free:,} bytes free; {wanted + SPARE_BYTES:,} are needed")


def publish(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make `directory` appear at once with `files` and their manifest; nothing stays behind when it fails."""
    total = sum(map(len, files.values()))
    check_free_space(directory.parent, total)
    temporary = directory.with_name(f"{TEMPORARY}{directory.name}-{uuid.uuid4().hex}")
    with storage_errors(directory, total):
        try:
            temporary.mkdir()
            for name, data in files.items():
                _write_synced(temporary / name, data)
            _write_synced(temporary / MANIFEST, to_json({"files": _listed(files)}))
            _fsync_directory(temporary)
            os.rename(temporary, directory)
            _fsync_directory(directory.parent)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    try:
        verify(directory)
    except ArtefactError as error:
        raise StorageError(f"{set_aside(directory)} was not written as it should be: {error}") from error


def amend(directory: Path, files: Mapping[str, bytes]) -> None:
    """Add `files` to a published directory, or put them in the place of those added before.

    They are taken from the manifest first, and stand in it again last: a crash in between leaves the directory without them,
    but whole.
    """
    check_free_space(directory, sum(map(len, files.values())))
    listed = {name: about for name, about in read_json(directory / MANIFEST)["files"].items() if name not in files}
    write_atomic(directory / MANIFEST, to_json({"files": listed}))
    for name, data in files.items():
        write_atomic(directory / name, data)
    write_atomic(directory / MANIFEST, to_json({"files": listed | _listed(files)}))


def _listed(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Files as a manifest lists them."""
    return {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}


def verify(directory: Path) -> None:
    """Check every file of a published directory against its manifest.

    Raises:
        ArtefactError: naming the first file that is missing, cut short or altered.
    """
    listed = read_json(directory / MANIFEST).get("files")
    if not isinstance(listed, dict) or not listed:
        raise ArtefactError(f"{directory / MANIFEST} lists no files")
    try:
        if not (directory / MANIFEST).read_bytes().endswith(b"\n"):
            raise ArtefactError(f"{directory / MANIFEST} was cut short: its last line end is missing")
        for name, expected in listed.items():
            path = directory / name
            if name != path.name or path.is_symlink() or not path.is_file():
                raise ArtefactError(f"{path} is missing, or is not a plain file inside the directory")
            if path.stat().st_size != expected["size"]:
                raise ArtefactError(f"{path} has {path.stat().st_size:,} bytes; its manifest says {expected['size']:,}")
            if sha256_of(path) != expected["sha256"]:
                raise ArtefactError(f"{path} was altered: its SHA-256 is not the one in {MANIFEST}")
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{directory / MANIFEST} is damaged: {error}") from error
    except OSError as error:
        raise ArtefactError(f"cannot read {directory}: {error.strerror}") from error


def point(link: Path, target: Path) -> None:
    """Make `link` a relative link to its sibling `target`, atomically."""
    temporary = link.with_name(f"{TEMPORARY}{link.name}-{uuid.uuid4().hex}")
    with storage_errors(link):
        os.symlink(target.name, temporary)
        os.replace(temporary, link)
        _fsync_directory(link.parent)


def discard(directory: Path) -> None:
    """Remove a published directory; killed half-way, what is left is temporary by name, never half a checkpoint."""
    temporary = directory.with_name(f"{TEMPORARY}{directory.name}-{uuid.uuid4().hex}")
    with storage_errors(directory):
        os.rename(directory, temporary)
        shutil.rmtree(temporary)


def set_aside(directory: Path) -> Path:
    """Rename a damaged directory to `corrupt-NAME` (numbered if taken); damaged work is never deleted."""
    name = directory.with_name(f"corrupt-{directory.name}")
    number = 1
    while name.exists():
        number += 1
        name = directory.with_name(f"corrupt-{directory.name}-{number}")
    with storage_errors(directory):
        os.rename(directory, name)
    return name


def clean_temporary(directory: Path) -> None:
    """Remove what interrupted writes left behind. Only for the holder of the lock."""
    with storage_errors(directory):
        for path in directory.glob(f"{TEMPORARY}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def lock(directory: Path) -> Iterator[Callable[[], None]]:
    """Hold `directory` for this process; the kernel frees it when the process ends, however it ends.

    Yields a function that writes into the lock who holds it.

    Raises:
        BusyError: another process holds it; the message names it.
    """
    path = directory / "lock"
    with storage_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _flock(handle, fcntl.LOCK_EX, directory)

        def sign() -> None:
            with storage_errors(path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

        yield sign
    finally:
        os.close(handle)


def _flock(handle: int, kind: int, directory: Path) -> None:
    try:
        with storage_errors(directory / "lock"):
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except StorageError as error:
        if not isinstance(error.__cause__, BlockingIOError):
            raise
        holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
        raise BusyError(f"{directory} is in use by {holder}; wait for it, or take another directory") from error


def refuse_if_locked(directory: Path) -> None:
    """Raise `BusyError` if another process holds `directory`; nothing is written."""
    path = directory / "lock"
    if path.is_file():
        with path.open("rb") as file:
            _flock(file.fileno(), fcntl.LOCK_SH, directory)


class EventLog:
    """An append-only file of JSON lines whose length can be remembered and gone back to."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open `path` and drop everything after its first `length` bytes."""
        self.path = path
        with storage_errors(path):
            self._file = path.open("ab")
            found = self._file.tell()
            if found < length:
                self._file.close()
                raise ArtefactError(f"{path} has {found:,} bytes; the checkpoint was made at {length:,}")
            self._file.truncate(length)

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one event as one line; floats keep every digit."""
        with storage_errors(self.path):
            self._file.write(json.dumps(event, allow_nan=False).encode() + b"\n")
            self._file.flush()

    def sync(self) -> int:
        """Bring everything to the disk; return the length in bytes."""
        with storage_errors(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Write out what is left."""
        with storage_errors(self.path):
            self._file.close()
