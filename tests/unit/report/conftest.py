import importlib.util
from pathlib import Path

import pytest


def _examples():
    path = Path(__file__).parents[2] / "report_examples.py"
    spec = importlib.util.spec_from_file_location("report_examples", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def examples():
    """Builders of example records."""
    return _examples()


@pytest.fixture(
    scope="session", params=["compare", "guaranteed", "random", "frontier", "predictions", "empty", "hostile"]
)
def any_record(request):
    """Each example record in turn."""
    return getattr(_examples(), f"{request.param}_record")()
