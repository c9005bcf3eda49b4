"""The ways of the overhead benchmark against a float64 loop over single examples, and its arithmetic by hand."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OPACUS = ["opacus_hooks", "opacus_functorch", "opacus_ew", "opacus_ghost"]
needs_opacus = pytest.mark.skipif(importlib.util.find_spec("opacus") is None, reason="opacus is not installed")


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's folder on the path, as when it runs as a script, and one small network of each kind."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from rivals.networks import NETWORKS, Encoder, Network

    small = Network("small", 5, (6,), 3, lambda: Encoder(11, 6, 16, 2, 3), vocabulary=11)
    image = Network("image", 5, (1, 28, 28), 10, NETWORKS["cnn"].build)
    monkeypatch.setitem(NETWORKS, "small", small)
    monkeypatch.setitem(NETWORKS, "image", image)
    torch.set_num_threads(1)
    return NETWORKS


def error_of(network, way):
    from rivals.worker import Job, relative_error

    return relative_error(Job("time", network, way, steps=1, warm_up=0, threads=1))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["small", "image"])
@pytest.mark.parametrize(
    "way", ["vmap", "vmap_8", "one_by_one", *(pytest.param(w, marks=needs_opacus) for w in OPACUS)]
)
def test_a_rival_releases_the_clipped_mean(benchmark, network, way):
    assert error_of(network, way) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("network", ["small", "image"])
def test_our_step_releases_the_clipped_mean(benchmark, network):
    assert error_of(network, "sfumato") < 1e-5


@pytest.mark.slow
def test_the_check_sees_a_step_that_does_not_clip(benchmark, monkeypatch):
    from rivals.plain import plain_step
    from rivals.ways import WAYS, Way

    monkeypatch.setitem(WAYS, "unclipped", Way(plain_step))
    assert error_of("image", "unclipped") > 0.01


@pytest.mark.slow
def test_the_check_refuses_an_adapted_model_that_is_another_function(benchmark, monkeypatch):
    from rivals.plain import one_by_one_step
    from rivals.ways import WAYS, Way

    monkeypatch.setitem(WAYS, "other", Way(one_by_one_step, lambda model: nn.Sequential(model, nn.Tanh())))
    with pytest.raises(ValueError, match="same function"):
        error_of("image", "other")


@pytest.mark.slow
def test_attention_written_out_is_the_same_function(benchmark):
    from rivals.networks import written_out

    network = benchmark["small"]
    model, written = network.module(), written_out(network.module())
    x = network.batch().x
    assert not [m for m in written.modules() if isinstance(m, nn.MultiheadAttention)]
    assert torch.allclose(model(x), written(x), atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in written.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"), [("cnn", 26_010), ("mlp", 1_297_252), ("encoder", 3_704_322)]
)  # fmt: skip
def test_the_networks_have_their_sizes(benchmark, name, parameters):
    assert sum(p.numel() for p in benchmark[name].module().parameters()) == parameters


def test_the_interval_of_a_median_is_the_binomial_one(monkeypatch):
    """Fifteen values: the 4th and the 12th hold the median in 96.5 % of samples (tables of order statistics)."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from dp_overhead import median_interval

    low, high, confidence = median_interval([float(v) for v in range(15, 0, -1)])
    assert (low, high) == (4.0, 12.0)
    assert confidence == pytest.approx(0.96484375)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0, pytest.approx(0.75))
    assert median_interval([float(v) for v in range(6)])[:2] == (0.0, 5.0)


@pytest.mark.slow
def test_a_way_that_fails_is_named_with_its_error():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "dp_overhead.py", "--json", "--quick", "--threads", "1", "--only", "cnn",
         "--methods", "fastdp", "vmap_8", "--fastdp", "no-such-folder"],
        capture_output=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)["cnn"]
    assert "no-such-folder" in found["failures"]["fastdp"]
    assert found["best_rival"] == "vmap_8"
    assert found["best_rival_ratio"] == found["methods"]["vmap_8"]["ratio"]
    assert 0 < found["methods"]["vmap_8"]["memory_ratio"] < 3
