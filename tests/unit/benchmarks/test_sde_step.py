"""The benchmark of a neural SDE's step on tiny states: what it compares, and that the ways compute the same."""

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
        import sde_step

        yield sde_step


@pytest.fixture(scope="module")
def solvers(bench):
    from rivals import solvers

    return solvers


def setting_of(bench, solvers, name):
    return solvers.Setting(*bench.TINY[name])


def test_every_comparison_is_of_known_ways_in_known_settings(bench, solvers):
    for key, what in bench.COMPARISONS.items():
        assert {what.ours, what.other} <= solvers.WAYS.keys(), key
        assert what.setting in bench.SETTINGS.keys() & bench.TINY.keys()
        assert what.speedup == ("speedup" in key)
        assert what.other.startswith(key.split("_")[0]) or not what.speedup
    assert bench.SETTINGS["conv"] == ((64, 28, 28), 16, 10)
    assert (bench.SETTINGS["small"][0], bench.SETTINGS["small"][2]) == ((64,), 100)
    assert bench.GENERATOR.startswith("AES-256")


def job(bench, ways, setting):
    return {"ways": ways, "setting": setting, "pairs": 2, "warm_up": 0, "task": "time", "threads": 1, "tiny": True}


def test_a_worker_times_ways_in_turn_and_says_what_failed(bench):
    answer = bench.work(job(bench, ["sde", "residual"], "conv"))
    assert [len(times) for times in answer["ms"]] == [2, 2]
    pytest.importorskip("torchdiffeq", reason="torchdiffeq is an optional extra")
    failed = bench.work(job(bench, ["ode-each", "torchdiffeq-each"], "small"))
    assert failed["way"] == "torchdiffeq-each"
    assert "vmap" in failed["failure"]


def test_ratios_keep_their_direction_and_a_failure_has_no_number(bench, monkeypatch):
    answers = {"time": {"ms": [[1.0] * 6, [4.0] * 6]}, "memory": {"mb": 8.0}}

    monkeypatch.setattr(bench, "asked", lambda plan, ways, setting, pairs, task: answers[task])
    plan = bench.Plan([], 6, 0, 1, 1, True, 60)
    speed = bench.measured(plan, "torchsde_speedup_conv", {})
    ratio = bench.measured(plan, "per_evaluation_ratio", {})
    assert (speed["torchsde_speedup_conv"], ratio["per_evaluation_ratio"]) == (4.0, 0.25)
    assert ratio["per_evaluation_ratio_memory_ratio"] == 1.0
    monkeypatch.setattr(bench, "asked", lambda *_: {"failure": "no", "way": "torchsde"})
    failed = bench.measured(plan, "torchsde_speedup_conv", {})
    assert failed["torchsde_speedup_conv"] is None
    assert failed["torchsde_speedup_conv_failure"] == "no"


@pytest.mark.parametrize("setting", ["conv", "small"])
def test_the_libraries_compute_what_we_compute(bench, solvers, setting, monkeypatch):
    """Without noise, and for clipped sums; with noise they draw their own."""
    pytest.importorskip("torchdiffeq", reason="torchdiffeq is an optional extra")
    pytest.importorskip("torchsde", reason="torchsde is an optional extra")
    monkeypatch.setattr(solvers, "SIGMA", 0.0)
    made = setting_of(bench, solvers, setting)
    block = solvers.block(made, noisy=False)
    h = made.state().requires_grad_()
    solvers.losses(block(h)).mean().backward()
    library = solvers.ForLibraries(made)
    for name in ("by_torchsde", "by_torchdiffeq"):
        monkeypatch.setattr(solvers, "ForLibraries", lambda _: library)
        library.zero_grad()
        getattr(solvers, name)(made)()
        for ours, theirs in zip(block.parameters(), library.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    ours = solvers.WAYS["ode-each"](made)()
    theirs = solvers.by_torchsde_each(made)()
    for (name, one), other in zip(ours.items(), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: n + text)


def test_a_given_path_ends_with_a_step_of_no_length(solvers):
    """torchsde adds up its times in float32, and takes one step more where 100 steps of 0.01 fall short of 1."""
    motion = solvers.Given(torch.ones(2, 3))
    assert [float(motion(0, 1).sum()) for _ in range(3)] == [3.0, 3.0, 0.0]
    pytest.importorskip("torchsde", reason="torchsde is an optional extra")
    assert all(part.isfinite().all() for part in solvers.by_torchsde_each(solvers.Setting((3,), 2, 100))())


@pytest.mark.slow
def test_the_command_prints_one_document(bench):
    keys = ["per_evaluation_ratio", "torchsde_speedup_small_per_example"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "sde_step.py"), "--json", "--quick", "--threads", "1", "--only", *keys],
        stdout=subprocess.PIPE, check=True, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["generator"] == bench.GENERATOR
    assert found["surroundings"]["threads"] == 1
    for key in keys:
        assert found[f"{key}_low"] <= found[key] <= found[f"{key}_high"]
        assert found[f"{key}_memory_ratio"] > 0
    assert str(FOLDER) not in done.stdout.decode()
