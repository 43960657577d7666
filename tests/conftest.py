from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import building
import pytest
import torch

from lstmlm.checkpoint import LoadedModel, load_model
from lstmlm.cli.main import run
from lstmlm.training import probing, trainer, validation


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Tests may set the number of threads; none inherits another's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clean_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, and no settings in the environment that change what commands print."""
    monkeypatch.chdir(tmp_path)
    for name in ("LSTMLM_DEBUG", "COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> building.Clock:
    """The time that training goes by."""
    clock = building.Clock()
    for module in (probing, trainer, validation):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A text file of 120 simple sentences."""
    path = tmp_path / "text.txt"
    path.write_text(building.text())
    return path


@pytest.fixture(scope="session")
def bpe_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return building.saved_model(tmp_path_factory.mktemp("model") / "bpe", "bpe")


@pytest.fixture(scope="session")
def word_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return building.saved_model(tmp_path_factory.mktemp("model") / "word", "word")


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small char model on simple sentences."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(building.text())
    building.trained(folder / "run", folder / "text.txt")
    return folder / "run"


@pytest.fixture
def start(tmp_path: Path) -> LoadedModel:
    """The best model of a short run on its own text, general/text.txt."""
    (tmp_path / "general").mkdir()
    (tmp_path / "general" / "text.txt").write_text(building.text())
    building.trained(tmp_path / "general" / "run", tmp_path / "general" / "text.txt", steps=12, validate_every=4)
    return load_model(tmp_path / "general" / "run")


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Another text in the same alphabet."""
    path = tmp_path / "diary.txt"
    path.write_text(
        "".join(f"the {dog} can sit in the {hat} .\n" for dog in ("dog", "cat", "man") for hat in building.SENTENCES * 5)
    )
    return path


@pytest.fixture
def pair(tmp_path: Path) -> list[LoadedModel]:
    """Two runs on one text, which differ by their seed."""
    (tmp_path / "train.txt").write_text(building.text())
    for seed in (1, 2):
        building.trained(tmp_path / f"seed-{seed}", tmp_path / "train.txt", "bpe", steps=4, validate_every=2, seed=seed)
    return [load_model(tmp_path / f"seed-{seed}") for seed in (1, 2)]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str, LoadedModel, str, str], None]:
    """Check that a command refuses a file with some text as invalid, with a message, in which it is called FILE."""

    def check(command: str, loaded: LoadedModel, text: str, message: str) -> None:
        path = tmp_path / "refused"
        path.write_text(text)
        assert run([command, str(loaded.path), str(path)]) == 4
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"lstmlm: {message.replace('FILE', str(path))}")

    return check
