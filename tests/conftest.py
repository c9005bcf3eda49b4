import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The machine's cores are shared by the test workers; several threads each would only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def attack_evidence():
    """The module tests/attack_evidence.py: synthetic targets and references."""
    path = Path(__file__).with_name("attack_evidence.py")
    spec = importlib.util.spec_from_file_location("attack_evidence", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def private_comparison():
    """The module tests/private_comparison.py: clipped sums against a loop over single examples."""
    path = Path(__file__).with_name("private_comparison.py")
    spec = importlib.util.spec_from_file_location("private_comparison", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def inversion_evidence():
    """The module tests/inversion_evidence.py: tiny trained models, and what each inversion game's attacks are given."""
    path = Path(__file__).with_name("inversion_evidence.py")
    spec = importlib.util.spec_from_file_location("inversion_evidence", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
