"""What is on the disk after any file operation fails, and what a manifest notices."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lstmlm import storage
from lstmlm.errors import ArtefactError, BusyError, LstmlmError, StorageError
from lstmlm.storage import MANIFEST, EventLog, clean_temporary, lock, point, publish, refuse_if_locked, set_aside, verify

FILES = {"a.json": b'{"a": 1}\n', "weights.bin": bytes(range(256)), "empty": b""}
WRITING = ("open", "write", "fsync", "replace", "rename", "symlink")


class FaultyOs:
    """The `os` module, but the n-th operation that touches the disk fails (n counts from 1; 0 never)."""

    def __init__(self, failing: int, fault: BaseException) -> None:
        self.calls = 0
        self._failing, self._fault = failing, fault

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._counted(real) if name in WRITING else real

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._failing:
                raise self._fault
            return real(*arguments, **options)

        return call


def failing(monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> FaultyOs:
    proxy = FaultyOs(number, OSError(code, os.strerror(code)))
    monkeypatch.setattr(storage, "os", proxy)
    return proxy


def operations(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> int:
    """How many disk operations `work` takes when none fails."""
    proxy = failing(monkeypatch, 0, errno.EIO)
    work()
    monkeypatch.setattr(storage, "os", os)
    return proxy.calls


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_write_atomic_with_every_operation_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "file"
    count = operations(monkeypatch, lambda: storage.write_atomic(tmp_path / "other", b"new"))
    assert count >= 4  # open, write, fsync, replace and the directory
    for number in range(1, count + 1):
        path.write_bytes(b"old")
        with monkeypatch.context() as patch:
            failing(patch, number, code)
            with pytest.raises(StorageError, match=f"cannot write {path} .3 bytes.*{os.strerror(code)}"):
                storage.write_atomic(path, b"new")
        assert path.read_bytes() in ((b"old", b"new") if number > 4 else (b"old",)), number
        assert {entry.name for entry in tmp_path.iterdir()} == {"file", "other"}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_publish_with_every_operation_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    publish(tmp_path / "step-1", FILES)
    count = operations(monkeypatch, lambda: publish(tmp_path / "step-2", FILES))
    assert count > 3 * len(FILES)
    for number in range(1, count + 1):
        target = tmp_path / f"new-{number}"
        with monkeypatch.context() as patch:
            failing(patch, number, code)
            with pytest.raises(StorageError, match=rf"{target.name} \([\d,]+ bytes\)"):
                publish(target, FILES)
        if target.exists():  # only where nothing but the directory's own sync was left to do
            verify(target)
        assert not list(tmp_path.glob(".tmp-*"))
        verify(tmp_path / "step-1")


def test_point_with_every_operation_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "best"
    for name in ("old", "new"):
        publish(tmp_path / name, FILES)
    count = operations(monkeypatch, lambda: point(link, tmp_path / "old"))
    for number in range(1, count + 1):
        point(link, tmp_path / "old")
        with monkeypatch.context() as patch:
            failing(patch, number, errno.EIO)
            with pytest.raises(StorageError, match="best"):
                point(link, tmp_path / "new")
        assert os.readlink(link) in ("old", "new")
        clean_temporary(tmp_path)
        assert {entry.name for entry in tmp_path.iterdir()} == {"best", "old", "new"}


def test_partial_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    proxy = FaultyOs(0, OSError())
    monkeypatch.setattr(storage, "os", proxy)
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:3]))
    storage.write_atomic(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert proxy.calls >= 4 + 3  # four parts


def test_too_little_space_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = storage.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match="1,000 bytes free"):
        publish(tmp_path / "model", FILES)
    assert not list(tmp_path.iterdir())


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        publish(tmp_path / "model", FILES)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()}
    assert modes == {0o640}


def damages(path: Path) -> Iterator[str]:
    """Damage a file in one way after the other; at each name it is damaged so, afterwards whole again."""
    whole = path.read_bytes()
    for offset in sorted({0, 1, len(whole) // 2, len(whole) - 1} - {len(whole)}):
        path.write_bytes(whole[:offset])
        yield f"cut at {offset}"
    for bit in (0, 3, 5, 7):
        for place in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            yield f"bit {bit} of byte {place}"
    path.write_bytes(whole + b"\0")
    yield "one byte more"
    path.unlink()
    yield "removed"
    path.mkdir()
    yield "a directory"
    path.rmdir()
    path.symlink_to(path.parent.parent)
    yield "a link out of the directory"
    path.unlink()
    path.write_bytes(whole)


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    publish(directory, {"config.json": FILES["a.json"], "weights.bin": FILES["weights.bin"]})
    for path in sorted(directory.iterdir()):
        for damage in damages(path):
            assert refused(directory), f"{path.name}: {damage} was not noticed"
    verify(directory)


def refused(directory: Path) -> bool:
    try:
        verify(directory)
    except ArtefactError:
        return True
    return False


def test_no_flipped_bit_of_a_manifest_passes(tmp_path: Path) -> None:
    publish(tmp_path / "model", {"a": b"x", "b": b"yy"})
    manifest = tmp_path / "model" / MANIFEST
    whole = manifest.read_bytes()
    for bit in range(8 * len(whole)):
        manifest.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        with pytest.raises(ArtefactError):
            verify(tmp_path / "model")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": {}}',
        b'{"files": []}',
        b'{"files": {"a": 1}}',
        b'{"files": {"a": {"size": 1}}}',
        b'{"files": {"../a": {"size": 1, "sha256": "x"}}}',
        b'{"files": {"/etc/passwd": {"size": 1, "sha256": "x"}}}',
        b'{"files": {"": {"size": 1, "sha256": "x"}}}',
        b'{"files": {"a\\u0000": {"size": 1, "sha256": "x"}}}',
        b'{"files": ' * 10_000,
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_strange_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / MANIFEST).write_bytes(content + b"\n")
    with pytest.raises(ArtefactError):
        verify(tmp_path)


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.to_json({"loss": float("nan")})


def test_a_held_lock_is_busy_and_names_its_holder(tmp_path: Path) -> None:
    with lock(tmp_path) as sign:
        sign()
        # flock belongs to the open file, so another one in this process is a rival
        with pytest.raises(BusyError, match=rf"in use by process {os.getpid()} on"), lock(tmp_path):
            pytest.fail("held twice")
    with lock(tmp_path):
        pass


def test_a_stale_lock_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("process 1 on elsewhere, long dead\n")
    with lock(tmp_path) as sign:
        assert (tmp_path / "lock").read_text() == "process 1 on elsewhere, long dead\n", "taken, nothing written yet"
        sign()
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_looking_at_a_lock_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("process 1 on elsewhere\n")
    os.utime(path, (1, 1))
    refuse_if_locked(tmp_path)
    assert (path.read_text(), path.stat().st_mtime) == ("process 1 on elsewhere\n", 1)
    with path.open() as rival:
        fcntl.flock(rival, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="process 1 on elsewhere"):
            refuse_if_locked(tmp_path)
    assert path.stat().st_mtime == 1


def test_damaged_directories_are_numbered_not_deleted(tmp_path: Path) -> None:
    names = []
    for content in (b"1", b"2", b"3"):
        (tmp_path / "step-1").mkdir()
        (tmp_path / "step-1" / "file").write_bytes(content)
        names.append(set_aside(tmp_path / "step-1"))
    assert [path.name for path in names] == ["corrupt-step-1", "corrupt-step-1-2", "corrupt-step-1-3"]
    assert [(path / "file").read_bytes() for path in names] == [b"1", b"2", b"3"]


def test_leftovers_are_cleaned_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "model"
    publish(kept, FILES)
    (tmp_path / ".tmp-step-1-ab" / "deep").mkdir(parents=True)
    (tmp_path / ".tmp-file-cd").write_text("half")
    (tmp_path / ".tmp-best-ef").symlink_to("model")
    clean_temporary(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]
    verify(kept)


def test_event_log_goes_back_to_a_remembered_length(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "metrics.jsonl")
    log.append({"loss": 0.1 + 0.2})
    length = log.sync()
    log.append({"loss": 1.0})
    log.close()
    again = EventLog(tmp_path / "metrics.jsonl", length)
    again.append({"loss": 2.0})
    again.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1 + 0.2, 2.0]


def test_event_log_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ArtefactError, match="has 3 bytes; the checkpoint was made at 100"):
        EventLog(tmp_path / "metrics.jsonl", 100)


@pytest.mark.parametrize("action", [storage.make_directory, lambda path: storage.write_atomic(path / "file", b"")])
def test_a_path_below_a_file_is_a_storage_error(tmp_path: Path, action: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write") as caught:
        action(tmp_path / "file" / "below")
    assert isinstance(caught.value, LstmlmError)
    assert caught.value.exit_code == 5
