import json
from pathlib import Path

import pytest

NETWORK = """
import torch
from torch import nn

def make(shape, outputs):
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, outputs),
    )

def plain(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], outputs))

class Mixing(nn.Module):
    def forward(self, x):
        return x - x.mean(0)

def mixing(shape, outputs):
    return nn.Sequential(plain(shape, outputs), Mixing())
"""
SHAPE = ("--shape", "3,8,8", "--classes", "4", "--batch", "6")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


def test_a_healthy_network_passes_with_a_table_of_its_parameters(sfumato, file) -> None:
    done = sfumato("doctor", f"{file}:plain", *SHAPE)
    assert done.exit_code == 0, done.stderr
    assert "1.weight" in done.stdout
    assert "4x192" in done.stdout
    assert "linear weight" in done.stdout
    assert "Private training is possible, in one pass." in done.stdout


def test_batch_normalisation_is_refused_by_name_with_exit_code_1(sfumato, file) -> None:
    done = sfumato("doctor", file, *SHAPE, "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["refused"], found["written"]) == (1, True, None)
    assert [(f["severity"], f["place"], f["repaired"]) for f in found["findings"]] == [("refused", "1", True)]
    assert found["changes"][0]["after"].startswith("GroupNorm(4, 8")
    assert {use["name"] for use in found["parameters"]} >= {"0.weight", "1.weight", "5.bias"}
    assert list(file.parent.glob("*private*")) == []


def test_fix_writes_a_file_that_is_healthy_and_names_what_it_replaced(sfumato, file) -> None:
    done = sfumato("doctor", file, *SHAPE, "--fix")
    assert done.exit_code == 0, done.stderr
    assert "BatchNorm2d(8" in done.stdout
    assert "GroupNorm(4, 8" in done.stdout
    written = file.with_name("net_private.py")
    assert sfumato("doctor", f"{written}:make", *SHAPE).exit_code == 0
    assert sfumato("doctor", file, *SHAPE, "--fix").exit_code == 0, "its own file is written again"
    assert sfumato("doctor", file, *SHAPE).exit_code == 1, "the given file stays as it is"


def test_fix_leaves_files_of_others_alone(sfumato, file) -> None:
    mine = file.with_name("net_private.py")
    mine.write_text("mine = 1\n")
    done = sfumato("doctor", file, *SHAPE, "--fix")
    assert done.exit_code == 1
    assert "exists" in done.stderr
    assert mine.read_text() == "mine = 1\n"
    done = sfumato("doctor", file, *SHAPE, "--fix", "--out", file.parent / "elsewhere" / "x.py")
    assert "beside" in done.stderr


def test_what_cannot_be_fixed_stays_refused(sfumato, file) -> None:
    done = sfumato("doctor", f"{file}:mixing", *SHAPE, "--fix")
    assert done.exit_code == 1
    assert "Mixing" in done.stdout
    assert "needs your hand" in done.stdout


@pytest.mark.parametrize("shape", ["", "3,x", "0,3", "3;8"])
def test_a_shape_that_is_none_is_refused(sfumato, file, shape) -> None:
    done = sfumato("doctor", file, "--shape", shape)
    assert done.exit_code == 1
    assert "3,32,32" in done.stderr


def test_a_file_that_is_not_there_is_refused(sfumato) -> None:
    done = sfumato("doctor", "nowhere.py:make")
    assert done.exit_code == 1
    assert "Python file that exists" in done.stderr
