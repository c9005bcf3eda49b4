import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from sfumato.audit.curves import EqualAccuracy, Frontier, GroupFrontier, StrengthCurve
from sfumato.audit.measured import Finding
from sfumato.cli.config import load
from sfumato.models.build import build_seeded
from sfumato.models.regions import selected
from sfumato.models.resnet import ResNet8
from sfumato.models.small_cnn import SmallCNN

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results"
METHODS = {
    "advreg", "memguard", "mixup-mmd", "dmp", "relaxloss", "selena", "hamp", "ccl", "past", "mist", "werm",
    "label-smoothing", "confidence-penalty", "early-stopping", "dropout", "l1", "weight-decay", "mixup", "distillation",
    "crl", "pptp-reconstruction", "cwrf-reconstruction", "srcm-reconstruction", "dpsgd",
}  # fmt: skip

TINY = """
# A tiny run.
# - Scaled down to
#   almost nothing.

[data]
source = "digits"
records = 220
canaries = { natural = 20, mislabelled = 20 }
[[contender]]
name = "undefended"
recipe = { name = "table-mlp", epochs = 1 }
[[contender]]
name = "crl@0.3"
recipe = { name = "table-mlp", epochs = 1 }
defence = { name = "crl", alpha = 0.3 }
[[contender]]
name = "crl@2"
recipe = { name = "table-mlp", epochs = 1 }
defence = { name = "crl", alpha = 2.0 }
[[contender]]
name = "early-stopping@2"
recipe = { name = "table-mlp", epochs = 2 }
defence = { name = "early-stopping", patience = 1 }
[[tune]]
method = "crl"
tolerance = 1.0
[tune.grid]
t = [0.05, 0.1]
[[attack]]
name = "loss"
[audit]
design = "canaries"
models = 6
public = 0.2
replicates = 20
fprs = [0.1, 0.01]
[run]
title = "Tiny"
"""


@pytest.fixture(scope="module")
def bench():
    """The scripts as Python runs them: with their own folder on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import defences
        import defences_claims

        defences.claims = defences_claims
        yield defences


@pytest.fixture
def call(bench, monkeypatch, tmp_path):
    """Runs the script on the tiny configuration."""
    torch.set_num_threads(1)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY.strip())

    def called(*words):
        line = ["defences.py", "--config", config, "--state", tmp_path / "state", "--workers", 0, *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        return bench.main()

    return called


@pytest.mark.slow
def test_a_run_tunes_stops_and_goes_on_and_the_page_shows_what_is_there(call, tmp_path, capsys):
    assert call("--minutes", 0) == 3
    with pytest.raises(SystemExit, match="trainings of the tuning"):
        call("--page", tmp_path)
    assert call("--models", 4) == 0
    told = capsys.readouterr().err
    assert told.count("tuning crl@") == 4 + 1  # two settings of two contenders, and the undefended one, once
    assert told.count("round of 4 models") >= 16
    assert call("--page", tmp_path) == 0
    found, text = json.loads((tmp_path / "tiny.json").read_text()), (tmp_path / "tiny.md").read_text()
    assert (found["models"], found["wanted"]) == (4, 6)
    assert "A partial run: 4 of 6 models" in text
    assert "- Scaled down to almost nothing." in text
    assert {one["subject"] for one in found["tuning"]} == {"crl@0.3", "crl@2"}
    assert [claim["verdict"] for claim in found["claims"]] == ["not decided"] * 4
    assert "Not run yet: pptp-reconstruction." in text
    assert str(tmp_path) not in text
    rows = [line for line in text.splitlines() if line.startswith("| crl | ")]
    assert rows


@pytest.mark.parametrize(("name", "model"), [("defences", SmallCNN()), ("defences_cifar10", ResNet8(norm="group"))])
def test_the_files_of_the_tables_hold_the_methods_of_the_claims(bench, name, model):
    config = load(RESULTS / f"{name}.toml")
    methods = {one.name.partition("@")[0] for one in config.contenders}
    fixed = bench.claims.claims_from(RESULTS / "defences_claims.toml")
    assert [claim.id for claim in fixed.claims] == ["C1", "C2", "C3", "C4"]
    for claim in fixed.claims:
        assert {*claim.subjects, *claim.baselines} <= methods
    assert config.audit.strength == "full"
    assert sum(config.data.canaries.values()) == 500
    network = build_seeded(model, (1, 28, 28) if name == "defences" else (3, 32, 32), 10, 0)
    for one in config.contenders:
        if one.name.startswith("pptp"):
            assert selected(network, one.defence.regions)


def test_the_table_of_the_claims_has_the_contenders_of_the_large_one():
    large, small = (load(RESULTS / f"{name}.toml") for name in ("defences", "defences_frontier"))
    assert all(one in large.contenders for one in small.contenders)
    assert len(small.contenders) == 1 + 5 * 3
    assert (small.audit, small.data, small.tune) == (large.audit, large.data, large.tune)


def test_pictures_call_a_reconstruction_one(bench, tmp_path):
    spec = importlib.util.spec_from_file_location("report_examples", ROOT / "tests" / "report_examples.py")
    examples = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(examples)
    record = examples.frontier_record()
    *others, last = record.subjects
    rebuilt = last.defence.model_copy(update={"reconstruction": "Made by us."})
    subjects = [*others, last.model_copy(update={"name": "weak@1", "defence": rebuilt})]
    bench.drawn(record.model_copy(update={"subjects": subjects}).with_arrays(record.arrays), tmp_path, "t")
    names = re.findall(r'class="name">([^<]+)<', (tmp_path / "t-all-0.01.svg").read_text())
    assert "weak-reconstruction" in names
    assert "relaxloss" in names


def test_the_large_table_has_every_method_at_three_strengths():
    config = load(RESULTS / "defences.toml")
    names = [one.name.partition("@")[0] for one in config.contenders]
    assert set(names) == METHODS | {"undefended"}
    assert {method: names.count(method) for method in METHODS if names.count(method) != 3} == {"selena": 1}
    assert config.audit.models == 40


def test_the_frontier_on_cifar_has_six_methods_beside_undefended():
    config = load(RESULTS / "defences_cifar10.toml")
    names = {one.name.partition("@")[0] for one in config.contenders}
    assert len(names - {"undefended"}) == 6
    assert config.audit.models == 16


def test_training_sets_are_as_large_as_dp_sgd_is_told():
    """`records` is a public number: all but canaries and test images, and half of the canaries."""
    for name, copies in (("defences", 100), ("defences_cifar10", 125)):
        config = load(RESULTS / f"{name}.toml")
        units = config.data.records + copies  # near copies are further units
        ordinary = units - 500 - round(config.audit.public * units)
        told = {one.defence.records for one in config.contenders if one.name.startswith("dpsgd@")}
        assert told == {ordinary + 250}


def frontier(low, high, *, turned=False, accuracy=0.85, note="", methods=("crl", "early-stopping")):
    subject, baseline = methods[::-1] if turned else methods
    value = (low + high) / 2
    found = Finding(name="tpr_at_fpr", at=0.01, value=value, low=low, high=high)
    row = EqualAccuracy(
        subject=subject, baseline=baseline, accuracy=accuracy, differences=[] if note else [found], note=note
    )
    curves = [StrengthCurve(method=method, points=[]) for method in methods]
    group = GroupFrontier(group="worst", curves=curves, at_accuracies=[], differences=[row])
    return Frontier(reference="undefended", confidence=0.95, method="m", groups=[group])


@pytest.fixture
def fixed(bench):
    return bench.claims.claims_from(RESULTS / "defences_claims.toml")


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.2, -0.1, "confirmed"), (0.1, 0.2, "refuted"), (-0.1, 0.1, "not decided")]
)
def test_an_interval_below_zero_confirms_and_one_above_refutes(bench, fixed, low, high, word):
    claim = fixed.claims[0]
    assert bench.claims.judged(claim, frontier(low, high), fixed, 40).word == word
    turned = bench.claims.judged(claim, frontier(-high, -low, turned=True), fixed, 40)
    assert turned.word == word
    assert (turned.pairs[0].difference.low, turned.pairs[0].difference.high) == (low, high)


def test_few_models_or_a_missing_method_decide_nothing(bench, fixed):
    found = bench.claims.judged(fixed.claims[0], frontier(-0.2, -0.1), fixed, 6)
    assert (found.word, found.pairs[0].word) == ("not decided", "confirmed")
    assert "Only 6 models" in found.reasons[0]
    assert bench.claims.judged(fixed.claims[1], frontier(-0.2, -0.1), fixed, 40).word == "not decided"
    assert bench.claims.judged(fixed.claims[0], None, fixed, 40).word == "not decided"


@pytest.mark.parametrize(("ahead", "word"), [("early-stopping", "refuted"), ("crl", "not decided")])
def test_a_method_that_is_never_as_accurate_has_lost(bench, fixed, ahead, word):
    never = frontier(0, 0, accuracy=None, note=f"every setting of {ahead} is more accurate")
    assert bench.claims.judged(fixed.claims[0], never, fixed, 40).word == word


def test_one_of_two_is_enough_to_confirm_and_both_must_fail(bench, fixed):
    claim = fixed.claims[2]

    def pairs(*words):
        return [bench.claims.Pair(s, "dpsgd", 0.8, None, "", w) for s, w in zip(claim.subjects, words, strict=True)]

    assert bench.claims.together(claim, pairs("confirmed", "refuted")) == "confirmed"
    assert bench.claims.together(claim, pairs("refuted", "refuted")) == "refuted"
    assert bench.claims.together(claim, pairs("refuted", "not decided")) == "not decided"


def test_above_is_the_other_way_round(bench, fixed):
    found = bench.claims.judged(fixed.claims[3], frontier(0.1, 0.2, methods=("relaxloss", "dpsgd")), fixed, 40)
    assert found.word == "confirmed"
