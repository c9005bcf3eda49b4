import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from sfumato.canonical import canonical_json
from sfumato.errors import StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.build import build_seeded
from sfumato.models.user_file import FileModel

NETWORK = """
from torch import nn
import my_layers

def make(shape, outputs):
    return nn.Sequential(my_layers.flat(), nn.Linear(shape[0], outputs))
"""
LAYERS = """
from torch import nn

def flat():
    return nn.Flatten()
"""


def written(folder: Path, network: str = NETWORK, **modules: str) -> FileModel:
    for name, text in {"my_layers": LAYERS, **modules}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "network.py").write_text(network)
    return FileModel(path=str(folder / "network.py"))


def test_builds_the_users_network(tmp_path):
    model = written(tmp_path).build((5,), 3)
    assert isinstance(model, nn.Module)
    assert model(torch.zeros(2, 5)).shape == (2, 3)
    assert model.training


def test_sources_are_the_file_and_its_own_modules(tmp_path):
    assert [source.module for source in written(tmp_path).sources] == ["", "my_layers"]


def test_spec_names_the_content_and_not_the_place(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    assert canonical_json(first) == canonical_json(second)
    assert str(tmp_path) not in canonical_json(first) + repr(first)


@pytest.mark.parametrize("changed", ["network.py", "my_layers.py"])
def test_a_change_of_any_source_changes_the_spec_and_stops_an_older_value(tmp_path, changed):
    before = written(tmp_path)
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    assert canonical_json(FileModel(path=before.path)) != canonical_json(before)
    with pytest.raises(StoreMismatch, match=r"network\.py"):
        before.build((5,), 3)


def test_a_copy_in_another_process_keeps_the_pinned_sources(tmp_path):
    before = pickle.dumps(written(tmp_path))
    (tmp_path / "my_layers.py").write_text(LAYERS + "# changed\n")
    with pytest.raises(StoreMismatch):
        pickle.loads(before).build((5,), 3)


def test_imports_inside_functions_packages_and_relative_imports_are_seen(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from . import inner\n")
    (tmp_path / "parts" / "inner.py").write_text("from .deep import WIDTH\n")
    (tmp_path / "parts" / "deep.py").write_text("WIDTH = 4\n")
    text = (
        "def make(shape, outputs):\n    from torch import nn\n    from parts import inner\n"
        "    return nn.Sequential(nn.Linear(shape[0], inner.WIDTH), nn.Linear(inner.WIDTH, outputs))\n"
    )
    family = written(tmp_path, text)
    assert [s.module for s in family.sources] == ["", "parts", "parts.deep", "parts.inner"]
    assert family.build((5,), 3)[0].out_features == 4


def test_two_files_with_modules_of_one_name_do_not_mix(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tanh = "from torch import nn\n\ndef flat():\n    return nn.Tanh()\n"
    first, second = written(tmp_path / "a"), written(tmp_path / "b", my_layers=tanh)
    assert isinstance(first.build((5,), 3)[0], nn.Flatten)
    assert isinstance(second.build((5,), 3)[0], nn.Tanh)
    assert isinstance(first.build((5,), 3)[0], nn.Flatten)


def test_a_module_of_the_same_name_that_is_already_imported_is_neither_used_nor_lost(tmp_path, monkeypatch):
    other = ModuleType("my_layers")
    monkeypatch.setitem(sys.modules, "my_layers", other)
    assert isinstance(written(tmp_path).build((5,), 3)[0], nn.Flatten)
    assert sys.modules["my_layers"] is other


def test_the_interpreter_is_left_as_it_was(tmp_path):
    family = written(tmp_path)
    before = (list(sys.path), set(sys.modules), sys.dont_write_bytecode)
    family.build((5,), 3)
    assert (list(sys.path), set(sys.modules), sys.dont_write_bytecode) == before
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize("place", ["top", "inside"])
def test_a_dynamic_import_of_an_own_module_is_refused(tmp_path, place):
    load = "importlib.import_module('my_' + 'layers').flat()"
    text = NETWORK.replace("import my_layers", "import importlib")
    text = f"{text}\n{load}\n" if place == "top" else text
    text = text.replace("my_layers.flat()", "nn.Flatten()" if place == "top" else load)
    family = written(tmp_path, text)
    for _ in range(2):  # the refusal must not make the second try pass
        with pytest.raises(UsageError, match="my_layers imported in another way"):
            family.build((5,), 3)


def test_seeding_at_import_does_not_give_every_model_the_same_weights(tmp_path):
    family = written(tmp_path, "import torch\ntorch.manual_seed(0)\n" + NETWORK)
    first, second, again = (build_seeded(family, (5,), 3, seed)[1].weight for seed in (1, 2, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


@pytest.mark.parametrize("path", ["", "nowhere.py", "."])
def test_no_such_file(path):
    with pytest.raises(UsageError, match="Python file"):
        FileModel(path=path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x = 1\n", UsageError, "Expected a function `make`"),
        ("make = 3\n", UsageError, "Expected a function `make`"),
        ("def make(shape, outputs):\n    return 3\n", UnsupportedModel, "got int"),
        ("def make(shape):\n    return 3\n", UsageError, "TypeError"),
        ("raise ValueError('boom')\n", UsageError, "ValueError: boom"),
        (NETWORK.replace("shape[0], outputs", "shape[0], 7"), UnsupportedModel, r"\(2, 7\)"),
        (NETWORK.replace("shape[0], outputs", "shape[0] + 1, outputs"), UsageError, "RuntimeError"),
    ],
)
def test_what_the_file_lacks_is_said(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        written(tmp_path, text).build((5,), 3)


def test_a_syntax_error_is_refused_with_its_file(tmp_path):
    with pytest.raises(UsageError, match=r"my_layers\.py"):
        written(tmp_path, my_layers="def (:\n")
