"""Public weights: from records of public classes alone, and ready for the defence that starts from them."""

import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sfumato.data.sources.digits import Digits
from sfumato.defences.tl_dmi import TLDMI

ROOT = Path(__file__).parents[3]
CONFIG = """
[data]
source = "digits"
records = 60

[[contender]]
name = "plain"
recipe = {{ name = "table-mlp", hidden = [8], epochs = 1, batch_size = 20 }}

[[contender]]
name = "tl-dmi"
recipe = {{ name = "table-mlp", hidden = [8], epochs = 1, batch_size = 20 }}
defence = {{ name = "tl-dmi", weights = "{weights}" }}

[[attack]]
name = "miface"

[inversion]
public_classes = ["7", "8", "9"]
"""


@pytest.fixture(scope="module")
def script():
    sys.path[:0] = [str(ROOT / "benchmarks")]
    import inversion_public

    return inversion_public


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.format(weights=tmp_path / "public.safetensors"), encoding="utf-8")
    return path


def test_only_records_of_public_classes_are_read(script, config):
    public = script.public_records(script.load(config))
    assert len(public) == 60
    assert public.class_names == ("7", "8", "9")
    everyone = Digits().load()
    named = dict(zip(everyone.ids, everyone.label_array, strict=True))
    assert {named[one] for one in public.ids} == {7, 8, 9}
    assert [named[one] - 7 for one in public.ids] == public.label_array.tolist()


def test_the_weights_fit_the_defence_that_starts_from_them(script, config, tmp_path, monkeypatch, capsys):
    out = tmp_path / "public.safetensors"
    monkeypatch.setattr(sys, "argv", ["inversion_public.py", "--config", str(config), "--out", str(out)])
    script.main()
    assert "60 records of 7, 8, 9" in capsys.readouterr().out
    assert any(tensor.shape == (3, 8) for tensor in load_file(out).values())
    defence = script.load(config).contenders[1].defence
    assert isinstance(defence, TLDMI)
    assert defence.sha256
