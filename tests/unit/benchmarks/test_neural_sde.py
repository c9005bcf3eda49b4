import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sfumato.attacks.catalogue import default_attacks
from sfumato.audit.settings import AuditSettings
from sfumato.cli.config import load
from sfumato.cli.main import app
from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results"

TINY = """
# A tiny run.
# - Scaled down to
#   almost nothing.
# - Made up.

[data]
source = "digits"
records = 240
canaries = { natural = 40, mislabelled = 40 }
[[contender]]
name = "resnet"
recipe = { name = "residual-net", width = 8, blocks = 1, epochs = 1, lr = 0.1, standardise = false }
[[contender]]
name = "ode"
recipe = { name = "ode-net", width = 8, steps = 1, epochs = 1, lr = 0.1, standardise = false }
[[contender]]
name = "sde-add-0.5"
recipe = { name = "sde-net", width = 8, steps = 1, sigma = 0.5, epochs = 1, lr = 0.1, standardise = false }
[[attack]]
name = "loss"
[[attack]]
name = "lira-online"
[audit]
design = "canaries"
models = 6
public = 0.3
draws = [1, 3]
replicates = 20
[run]
title = "Almost nothing"
"""


@pytest.fixture(scope="module")
def bench():
    """The scripts as Python runs them: with their own folder on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import neural_sde
        import neural_sde_claims
        import neural_sde_page
        import results_run

        neural_sde.claims, neural_sde.pages, neural_sde.rounds = neural_sde_claims, neural_sde_page, results_run.rounds
        yield neural_sde


@pytest.fixture
def call(bench, monkeypatch, tmp_path):
    """Runs the script on the tiny configuration."""
    torch.set_num_threads(1)
    config, claims = tmp_path / "tiny.toml", tmp_path / "claims.toml"
    config.write_text(TINY.strip())
    text = (RESULTS / "neural_sde_claims.toml").read_text()
    claims.write_text(text.replace("replicates = 4000", "replicates = 40"))

    def called(*words):
        line = [
            "neural_sde.py",
            "--config",
            config,
            "--state",
            tmp_path / "state",
            "--workers",
            0,
            *words,
            "--claims",
            claims,
        ]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        return bench.main()

    return called


@pytest.mark.slow
def test_a_run_stops_and_goes_on_and_the_page_shows_what_is_there(call, tmp_path, capsys):
    assert call("--minutes", 0) == 3
    assert "The time is over: 0 models" in capsys.readouterr().err
    assert call("--models", 4) == 0
    assert capsys.readouterr().err.count(" trained, ") == 12
    assert call("--page", tmp_path) == 0
    early = json.loads((tmp_path / "tiny.json").read_text())
    assert (early["models"], early["wanted"]) == (4, 6)
    assert "A partial run: 4 of 6 models" in (tmp_path / "tiny.md").read_text()
    capsys.readouterr()
    assert call() == 0
    assert capsys.readouterr().err.count(" trained, ") == 6  # the first four of each were reused
    assert call("--page", tmp_path) == 0
    found, text = json.loads((tmp_path / "tiny.json").read_text()), (tmp_path / "tiny.md").read_text()
    assert found["models"] == 6
    assert "partial" not in text
    assert text.startswith("# Almost nothing\n")
    assert "### TPR at 10% false positives, natural" in text  # 1% of 120 negative scores is one of them
    assert found["notes"] == ["Scaled down to almost nothing.", "Made up."]
    assert [row["id"] for row in found["claims"]] == ["T1"]  # no DP-SGD and no drop-in in this run
    assert str(tmp_path) not in text
    ways = {row["way"] for row in found["risks"] if row["contender"] == "sde-add-0.5"}
    assert ways == {"one", "many", "mean of logits", "mean of probabilities", "drift", "common"}
    assert {row["way"] for row in found["risks"] if row["contender"] == "ode"} == {"one"}
    ran = CliRunner().invoke(app, compare_line(tmp_path))
    design = json.loads(ran.stdout)["design"]
    assert (design["trained"], design["reused"]) == (0, 18)  # the command line finds the same models
    blocks = text.split("```json\n")[1].split("```")[0]
    assert [set(row) for row in json.loads(blocks)] == [{"claim", "verdict", "estimate", "low", "high", "command"}]


def compare_line(folder):
    places = ["--store", folder / "state", "--out", folder / "out", "--executor", "inline"]
    return [str(word) for word in ["compare", "--config", folder / "tiny.toml", *places, "--json", "--display", "none"]]


@pytest.mark.slow
def test_contenders_without_models_are_named_and_left_out(call, tmp_path):
    assert call("--models", 4, "--only", "resnet", "sde-add-0.5") == 0
    assert call("--page", tmp_path) == 0
    found = json.loads((tmp_path / "tiny.json").read_text())
    assert found["short"] == {"ode": 0}
    assert "Not run yet: ode (0 models)" in (tmp_path / "tiny.md").read_text()
    assert found["claims"][0]["verdict"] == "not decided"
    assert found["claims"][0]["estimate"] is None


@pytest.mark.parametrize("design", ["canaries", "halves"])
def test_the_models_of_a_small_run_are_the_first_of_a_large_one(design):
    rng = np.random.default_rng(0)
    records = ArrayRecords(rng.random((60, 4)).astype(np.float32))
    kinds = np.array(["natural", "none", "none"] * 20)
    population = Population(records, "example", labels=np.arange(60) % 2, groups={"canary": kinds})
    settings = AuditSettings(attacks=tuple(default_attacks()), design=design, public=0.2)
    few, many = (replace(settings, models=models).membership(population) for models in (4, 12))
    assert np.array_equal(few.matrix, many.matrix[:4])
    assert np.array_equal(few.public, many.public)


def test_rounds_grow_by_four_and_end_at_the_number_wanted(bench):
    assert bench.rounds(12) == [4, 8, 12]
    assert bench.rounds(6) == [4, 6]
    assert bench.rounds(4) == [4]


def test_the_nearer_end_counts(bench):
    assert bench.seconds_left(None, None) is None
    assert bench.seconds_left(3, None) == 180
    assert 0 < bench.seconds_left(1e6, "00:00") <= 86_400


def test_the_rate_that_is_shown_is_one_that_the_scores_can_tell(bench):
    assert [bench.pages.headline([n]) for n in (999, 1_000, 10_000)] == [0.1, 0.01, 0.01]
    few, some, many = (bench.pages._negatives([n]) for n in (999, 1_000, 10_000))
    assert "at 1% needs 1,000 and one at 0.1% needs 10,000, so the headline is the TPR at 10%." in few
    assert "A figure at 0.1% needs 10,000, so the headline is the TPR at 1%." in some
    assert "headline" not in many


def test_the_file_of_many_questions_asks_models_of_the_main_table():
    main, many = (load(RESULTS / f"{name}.toml") for name in ("neural_sde", "neural_sde_256"))
    by_name = {one.name: one for one in main.contenders}
    assert all(by_name[one.name] == one for one in many.contenders)
    assert replace(many.audit, models=main.audit.models) == main.audit
    assert many.audit.draws[-1] == 256


@pytest.mark.parametrize("name", ["neural_sde", "neural_sde_cifar10"])
def test_the_files_of_the_tables_hold_the_contenders_of_the_claims(bench, name):
    config = load(RESULTS / f"{name}.toml")
    names = [one.name for one in config.contenders]
    fixed = bench.claims.claims_from(RESULTS / "neural_sde_claims.toml")
    kept = [bench.claims.testable(claim, names) for claim in fixed.claims]
    assert fixed.attack in config.audit.draws_attacks
    if name == "neural_sde":
        assert kept == list(fixed.claims)
        assert len(names) == 17
        assert config.audit.draws == (1, 16, 256)
        assert config.audit.models == 24
    else:
        assert [claim is not None for claim in kept] == [True, True, False]


def test_the_sentences_of_the_claims_hold_their_numbers():
    raw = tomllib.loads((RESULTS / "neural_sde_claims.toml").read_text())
    said = {row["id"]: " ".join(row[key] for key in ("estimand", "confirms", "refutes")) for row in raw["claim"]}
    for row in raw["claim"]:
        for key in ("confirmed_low", "confirmed_high", "refuted_above"):
            if key in row:
                assert f"{row[key]:g}" in said[row["id"]]
        for key in ("accuracy_within", "risk_margin", "accuracy_loss"):
            if key in row:
                assert f"{100 * row[key]:g} points" in said[row["id"]]


MODELS = 12


def made_up(rate, spread=0.05, seed=0):
    """Replicates of a risk around a rate: the value first."""
    rng = np.random.default_rng(seed)
    return np.r_[rate, rate * np.exp(rng.normal(0, spread, 2000))]


def contest(bench, risk, accuracy, random=(), models=MODELS):
    names = {name for name, _ in risk}
    rng = np.random.default_rng(1)
    noise = np.repeat(rng.normal(0, 0.001, (len(accuracy), models // 2)), 2, axis=1)
    return bench.claims.Contest(
        accuracy={name: value + noise[i] for i, (name, value) in enumerate(accuracy.items())},
        risk={key: made_up(rate, seed=i) for i, (key, rate) in enumerate(risk.items())},
        random={name: name in random for name in names},
        models=models,
    )


@pytest.fixture
def fixed(bench):
    return bench.claims.claims_from(RESULTS / "neural_sde_claims.toml")


@pytest.mark.parametrize(
    ("ode", "accuracy", "word", "reason"),
    [
        (0.10, 0.86, "confirmed", "ratio is 0.50"),
        (0.19, 0.86, "refuted", "ratio is 0.95"),
        (0.14, 0.86, "not decided", "meets neither"),
        (0.04, 0.86, "not decided", "larger than claimed"),
        (0.10, 0.85, "not decided", "condition on accuracy"),
    ],
)
def test_twice_as_resistant(bench, fixed, ode, accuracy, word, reason):
    risk = {("resnet", "one"): 0.20, ("ode", "one"): ode}
    found = bench.claims.judged(fixed.claims[0], contest(bench, risk, {"resnet": 0.86, "ode": accuracy}), fixed)
    assert found.verdict == word
    assert reason in " ".join(found.reasons)
    assert found.estimate.low < ode / 0.20 < found.estimate.high


def test_few_models_decide_nothing(bench, fixed):
    risk = {("resnet", "one"): 0.20, ("ode", "one"): 0.10}
    game = contest(bench, risk, {"resnet": 0.86, "ode": 0.86}, models=6)
    found = bench.claims.judged(fixed.claims[0], game, fixed)
    assert found.verdict == "not decided"
    assert "Only 6 models" in found.reasons[0]
    assert found.estimate is not None


def sdes(bench, fixed, one, asked, accuracy, private=0.02, private_accuracy=0.70):
    """Two neural SDEs whose risk is `one` for one answer and `asked` otherwise."""
    claim = bench.claims.testable(fixed.claims[1], ["sde-add-0.5", "sde-add-1", "dpsgd-resnet-8"])
    ways = ("many", "drift", "common")
    risk = {("dpsgd-resnet-8", "one"): private}
    accuracies = {"dpsgd-resnet-8": private_accuracy}
    for name, a, b, c in zip(claim.subjects, one, asked, accuracy, strict=True):
        risk |= {(name, "one"): a} | {(name, way): b for way in ways}
        accuracies[name] = c
    return bench.claims.judged(claim, contest(bench, risk, accuracies, random=claim.subjects), fixed)


def test_a_neural_sde_as_private_and_more_accurate_confirms(bench, fixed):
    found = sdes(bench, fixed, (0.02, 0.02), (0.02, 0.40), (0.80, 0.85))
    assert (found.verdict, found.subject) == ("confirmed", "sde-add-0.5")
    assert found.estimate.value == pytest.approx(0.10, abs=0.002)


def test_one_answer_alone_does_not_confirm(bench, fixed):
    found = sdes(bench, fixed, (0.02, 0.02), (0.30, 0.40), (0.80, 0.85))
    assert found.verdict == "refuted"
    assert "None of 2" in found.reasons[0]


def test_an_equal_risk_without_a_gain_is_not_decided_and_a_loss_refutes(bench, fixed):
    assert sdes(bench, fixed, (0.02, 0.02), (0.02, 0.40), (0.70, 0.85)).verdict == "not decided"
    assert sdes(bench, fixed, (0.02, 0.02), (0.02, 0.40), (0.60, 0.85)).verdict == "refuted"


@pytest.mark.parametrize(
    ("many", "accuracy", "word"),
    [(0.10, 0.855, "confirmed"), (0.20, 0.855, "refuted"), (0.155, 0.855, "not decided"), (0.10, 0.80, "refuted")],
)
def test_drop_in(bench, fixed, many, accuracy, word):
    risk = {("resnet", "one"): 0.20, ("drop-in", "one"): 0.02, ("drop-in", "many"): many}
    risk |= {("drop-in", "drift"): 0.08, ("drop-in", "common"): 0.08}
    game = contest(bench, risk, {"resnet": 0.86, "drop-in": accuracy}, random=("drop-in",))
    found = bench.claims.judged(fixed.claims[2], game, fixed)
    assert (found.verdict, found.way) == (word, "many")
    assert found.estimate.value == pytest.approx(many / 0.20)


def test_a_way_that_was_not_tried_decides_nothing(bench, fixed):
    risk = {("resnet", "one"): 0.20, ("drop-in", "one"): 0.02, ("drop-in", "drift"): 0.02}
    game = contest(bench, risk, {"resnet": 0.86, "drop-in": 0.86}, random=("drop-in",))
    found = bench.claims.judged(fixed.claims[2], game, fixed)
    assert found.verdict == "not decided"
    assert "Not every way" in found.reasons[0]


def test_rates_are_those_of_the_roc_and_the_same_clusters_are_drawn(bench):
    rng = np.random.default_rng(2)
    members = np.zeros((8, 200), dtype=bool)
    members[::2, ::2] = members[1::2, 1::2] = True
    scores = rng.normal(size=members.shape) + 2.0 * members
    draws = bench.claims.drawn(8, 200, 50, np.random.default_rng(3))
    assert np.array_equal(draws.targets[:, 0::2], draws.targets[:, 1::2])
    assert draws.targets[1:].sum(axis=1).tolist() == [8.0] * 50
    found = bench.claims.rates(scores, members, 0.1, draws)
    negatives = np.sort(scores[~members])[::-1]
    hits = (scores[members] > negatives[80]).sum()
    assert found[0] == pytest.approx((hits + 0.5) / (members.sum() + 1), abs=1e-3)
    ends = bench.claims.interval(found, 0.95)
    assert ends.low < found[0] < ends.high
    assert np.array_equal(found, bench.claims.rates(scores, members, 0.1, draws))
