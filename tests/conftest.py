from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import building
import pytest
import torch

from lstmlm.checkpoint import LoadedModel


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
