import importlib
import sys
from abc import ABC, abstractmethod
from importlib.metadata import EntryPoint

import pytest

from sfumato import registry
from sfumato.errors import UsageError


class Base(ABC):
    name = ""

    @abstractmethod
    def do(self): ...


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of methods on disk; `write(module, text)` adds a module to it."""
    home = tmp_path / "methods_for_test"
    (home / "deep").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "deep" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Fresh(Base):
        """A base of its own per test, since subclasses are remembered by their base."""

    monkeypatch.setattr(sys.modules[__name__], "Base", Fresh, raising=False)
    sys.modules["base_for_test"] = sys.modules[__name__]

    def write(name, text, folder=home):
        (folder / f"{name}.py").write_text(f"from base_for_test import Base\n{text}")
        importlib.invalidate_caches()
        return home

    yield write, lambda: registry.discover(importlib.import_module("methods_for_test"), Fresh)
    for name in [n for n in sys.modules if n.startswith(("methods_for_test", "base_for_test", "plugin_for_test"))]:
        del sys.modules[name]


METHOD = "class {cls}(Base):\n    name = '{name}'\n    def do(self): ...\n"


def test_concrete_named_methods_are_found_at_any_depth_and_sorted(package):
    write, discover = package
    home = write("b", METHOD.format(cls="Zed", name="zed"))
    write("a", METHOD.format(cls="Alpha", name="alpha"), home / "deep")
    write("c", METHOD.format(cls="Nameless", name="") + "class Half(Base):\n    name = 'half'\n")
    assert list(discover()) == ["alpha", "zed"]


def test_two_methods_of_one_name_are_refused(package):
    write, discover = package
    write("a", METHOD.format(cls="A", name="same"))
    write("b", METHOD.format(cls="B", name="same"))
    with pytest.raises(UsageError, match="one Fresh called 'same'"):
        discover()


def test_a_module_that_cannot_be_imported_is_not_skipped(package):
    write, discover = package
    write("broken", "import nothing_of_that_name\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        discover()


def plug(monkeypatch, module):
    def points(*, group):
        assert group == "methods_for_test"
        return [EntryPoint("extra", module, group)]

    monkeypatch.setattr(registry, "entry_points", points)


def test_plug_ins_are_found_and_their_neighbours_are_not(package, monkeypatch):
    write, discover = package
    home = write("a", METHOD.format(cls="A", name="a"))
    write("plugin_for_test", METHOD.format(cls="P", name="plugged"), home.parent)
    write("plugin_for_test_not", METHOD.format(cls="N", name="neighbour"), home.parent)
    importlib.import_module("plugin_for_test_not")
    plug(monkeypatch, "plugin_for_test")
    assert list(discover()) == ["a", "plugged"]


def test_a_broken_plug_in_is_named(package, monkeypatch):
    _, discover = package
    plug(monkeypatch, "plugin_that_is_absent")
    with pytest.raises(UsageError, match="plug-in 'extra'"):
        discover()


def test_lookup_suggests_the_nearest():
    assert registry.lookup({"loss": Base}, "attack", "loss") is Base
    with pytest.raises(UsageError, match="Did you mean 'loss'"):
        registry.lookup({"loss": Base}, "attack", "los")
