import importlib.util
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_chromium = _module("sfumato_tests_chromium", _TESTS / "browser" / "chromium.py")


@pytest.fixture(scope="session")
def examples():
    """Builders of example records."""
    return _module("sfumato_tests_report_examples", _TESTS / "report_examples.py")


@pytest.fixture
def tab():
    """A fresh headless Chromium with one tab."""
    if _chromium.find_chromium() is None:
        pytest.skip("No Chromium on this machine (looked for chromium, chromium-browser, google-chrome).")
    with _chromium.browser() as page:
        yield page
