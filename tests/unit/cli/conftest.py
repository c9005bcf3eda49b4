import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli.main import app

Sfumato = Callable[..., "object"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("SFUMATO_STORE", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """80 rows with three features, a class, and a patient with two rows each."""
    rng = np.random.default_rng(0)
    path = tmp_path / "patients.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "diagnosis", "patient"])
        writer.writerows([*rng.normal(size=3).round(3), "yn"[row % 2], f"p{row // 2}"] for row in range(80))
    return path


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """A table of predictions on 200 records, on which members are a little better known."""
    rng = np.random.default_rng(1)
    path = tmp_path / "predictions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "member", "p0", "p1"])
        for row in range(200):
            right = min(0.999, 0.55 + 0.08 * (row % 2) + 0.3 * rng.random())
            writer.writerow([row % 3 % 2, row % 2, *((right, 1 - right) if row % 3 % 2 == 0 else (1 - right, right))])
    return path


@pytest.fixture
def sfumato(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sfumato:
    """Runs a command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
