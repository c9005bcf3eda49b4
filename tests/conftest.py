import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# How fast examples come says something of the machine and of what else runs on it, nothing of the code.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("any machine")


def module_beside(name):
    """The module of this name in the folder of tests, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The machine's cores are shared by the test workers; several threads each would only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def attack_evidence():
    """The module tests/attack_evidence.py: synthetic targets and references."""
    return module_beside("attack_evidence")


@pytest.fixture(scope="session")
def private_comparison():
    """The module tests/private_comparison.py: clipped sums against a loop over single examples."""
    return module_beside("private_comparison")


@pytest.fixture(scope="session")
def inversion_evidence():
    """The module tests/inversion_evidence.py: tiny trained models, and what each inversion game's attacks are given."""
    return module_beside("inversion_evidence")
