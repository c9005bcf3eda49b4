import json
import sys
from pathlib import Path

import pytest
import torch

from sfumato.cli.config import load

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "docs" / "results" / "crl_paper.toml"

TINY = """
# A tiny run.
# - Made up.

[data]
source = "digits"
records = 160
[[contender]]
name = "undefended"
recipe = { name = "table-mlp", epochs = 1 }
[[contender]]
name = "crl"
recipe = { name = "table-mlp", epochs = 1 }
defence = { name = "crl", alpha = 0.6 }
[[attack]]
name = "entropy"
[[attack]]
name = "lira-online"
[audit]
models = 4
replicates = 20
fprs = [0.01, 0.001]
[run]
title = "Tiny"
"""


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import crl_paper

        yield crl_paper


def test_the_configuration_has_the_attacks_of_the_paper_and_two_strong_ones():
    config = load(CONFIG)
    paper = ["shadow-classifier", "entropy", "modified-entropy", "input-gradient-norm", "gradient-norm"]
    assert [attack.name for attack in config.audit.attacks] == [*paper, "boundary-distance", "lira-online", "bavaria"]
    by_name = {attack.name: attack for attack in config.audit.attacks}
    assert by_name["entropy"].class_thresholds
    assert by_name["modified-entropy"].class_thresholds
    assert [one.name for one in config.contenders] == ["undefended", "crl"]


def test_means_are_over_runs_that_all_resolved(script):
    assert script.over([0.5, 0.7]) == "0.6000 (0.5000 to 0.7000)"
    assert script.over([0.5, None]) == "not resolved"
    assert script.over([]) == "not resolved"


@pytest.mark.slow
def test_two_runs_and_their_page(script, monkeypatch, tmp_path):
    torch.set_num_threads(1)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY.strip())

    def call(*words):
        line = ["crl_paper.py", "--config", config, "--state", tmp_path / "state", "--workers", 0, "--runs", 2, *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        return script.main()

    with pytest.raises(SystemExit, match="at least 4 models"):
        call("--page", tmp_path)
    assert call("--minutes", 0) == 3
    assert call() == 0
    assert call("--page", tmp_path) == 0
    found = json.loads((tmp_path / "tiny.json").read_text())
    assert found["runs"] == 2
    assert len(found["rows"]) == 2 * 2 * 2
    text = (tmp_path / "tiny.md").read_text()
    assert "- Made up." in text
    assert "## Run 2, seed 1" in text
    assert str(tmp_path) not in text
