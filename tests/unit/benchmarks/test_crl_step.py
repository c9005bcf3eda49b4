"""The benchmark of CRL's step on tiny inputs: what its kinds of steps are, and what its keys say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import crl_step

        yield crl_step


def test_the_settings_are_those_that_it_names(bench):
    assert bench.SETTINGS.keys() == bench.TINY.keys() == {"cnn", "mlp", "resnet8"}
    assert bench.SETTINGS["cnn"].shape == (1, 28, 28)
    assert {setting.batch for setting in bench.SETTINGS.values()} == {64}


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_each_kind_of_step_takes_its_branch_in_both_parts_and_no_other(bench, network):
    names = {"even": "distance to alpha", "descent": "descent", "flattening": "flattening"}
    for kind in bench.KINDS:
        training = bench.training_of(bench.TINY[network], kind)
        training.median_step(0.0)
        taken = {branch: steps for branch, steps in training.tally.of(0).items() if steps}
        expected = {f"{part}: {names[kind]}": 3.0 for part in ("classification", "centres")} if kind in names else {}
        assert taken == expected


def test_all_kinds_of_steps_begin_with_the_same_network_and_learn(bench):
    states = []
    for kind in bench.KINDS:
        training = bench.training_of(bench.TINY["mlp"], kind)
        states.append({name: value.clone() for name, value in training.run.stack.module.state_dict().items()})
        training.median_step(0.0)
        after = training.run.stack.module.state_dict()
        assert not all(torch.equal(states[-1][name], value) for name, value in after.items())
    for state in states[1:]:
        assert all(torch.equal(states[0][name], value) for name, value in state.items())


def test_ratios_are_pair_by_pair_and_of_ours_over_undefended(bench):
    times = {"undefended": [2.0, 4.0, 1.0], "even": [3.0, 4.0, 2.0], "descent": [2.0, 4.0, 1.0],
             "flattening": [5.0, 12.0, 2.0]}  # fmt: skip
    found = bench.summary("cnn", times)
    assert found["crl_step_ratio_cnn"] == 2.0
    assert (found["crl_step_ratio_cnn_low"], found["crl_step_ratio_cnn_high"]) == (2.0, 2.0)
    assert found["crl_step_ratio_cnn_even"] == 1.5
    assert found["crl_step_ratio_cnn_flattening"] == 2.5
    assert found["crl_step_ratio_cnn_descent"] == 1.0
    assert (found["crl_step_ratio_cnn_ms"], found["crl_step_ratio_cnn_undefended_ms"]) == (4.0, 2.0)


@pytest.mark.slow
def test_the_command_prints_one_document(bench):
    done = subprocess.run(
        [sys.executable, str(FOLDER / "crl_step.py"), "--json", "--quick", "--threads", "1"],
        stdout=subprocess.PIPE, check=True, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["surroundings"]["threads"] == 1
    for network in bench.SETTINGS:
        key = f"crl_step_ratio_{network}"
        assert found[f"{key}_low"] <= found[key] <= found[f"{key}_high"]
        assert found[f"{key}_ms"] > 0
    assert str(FOLDER) not in done.stdout.decode()
