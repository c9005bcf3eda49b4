import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def command_line(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from results_run import command_line

    return command_line


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/data/of/me/state", "state"),
        ("/state", "state"),
        ("~/state", "state"),
        ("../shared/x.zip", "x.zip"),
        ("cifar10:/data/of/me/x.zip", "cifar10:x.zip"),
        ("cifar10:../x.zip", "cifar10:x.zip"),
        ("docs/results/x.toml", "docs/results/x.toml"),
        ("--state", "--state"),
    ],
)
def test_a_command_on_a_page_names_no_folder_of_the_machine(command_line, monkeypatch, given, told):
    monkeypatch.setattr(sys, "argv", ["x.py", given])
    assert command_line("x.py") == f"python benchmarks/x.py {told}"
