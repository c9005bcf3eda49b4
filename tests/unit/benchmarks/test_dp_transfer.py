import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.models.build import build_seeded
from sfumato.training.trained import Trained

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    """The script as Python runs it: with its own folder on the path; fewer learning rates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import dp_transfer

        rates = {"scratch": (0.5,), "head": (0.001, 0.5), "last": (0.5,), "full": (0.5,)}
        patch.setattr(dp_transfer, "RATES", rates)
        yield dp_transfer


def images(seed, count=60, side=8):
    """Records whose class can be seen: brightness and side."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = rng.integers(0, 60, (count, 1, side, side)).astype(np.uint8)
    x[:, :, :, : side // 2] += (labels * 80)[:, None, None, None].astype(np.uint8)
    return Population(ArrayRecords(x), "example", labels=labels, kind="image", name=f"images {seed}")


@pytest.fixture(scope="module")
def tiny(bench):
    pair = bench.Pair("grey", images(0), images(1), images(2, 30), 60)
    return pair, bench.Scale(batch=20, steps=2, epochs=(("grey", 1),), seeds=(0,), epsilons=(3.0,))


def finished(bench, tiny, path):
    results = bench.Results(path)
    for _ in bench.run([tiny[0]], tiny[1], results):
        pass
    return results


@pytest.fixture(scope="module")
def done(bench, tiny, tmp_path_factory):
    return finished(bench, tiny, tmp_path_factory.mktemp("state") / "r.jsonl")


def test_the_network_is_the_one_that_the_page_names(bench):
    network = build_seeded(bench.TransferCNN(), (1, 28, 28), 10, 0)
    assert sum(p.numel() for p in network.parameters()) == 10_394
    assert network(torch.rand(2, 1, 28, 28)).abs().max() == 0  # the head starts at zero
    assert build_seeded(bench.TransferCNN(), (3, 32, 32), 5, 0)(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_grey_images_are_weighted_and_resized_as_a_whole(bench):
    x = np.zeros((2, 3, 32, 32), dtype=np.uint8)
    x[0, 1] = 200
    x[1, :, :, 16:] = 255
    grey = bench.in_grey(Population(ArrayRecords(x), "example", labels=np.array([0, 1]))).records.array
    assert grey.shape == (2, 1, 28, 28)
    assert np.unique(grey[0]).tolist() == [round(200 * 0.587)]
    assert grey[1].mean() == pytest.approx(127.5, abs=1)
    assert (grey[1, 0, :, :12].max(), grey[1, 0, :, 16:].min()) == (0, 255)


def test_classes_are_picked_and_numbered_from_zero(bench):
    whole = images(0)
    part = bench.classes_of(whole, 1, 3)
    assert part.label_array.tolist() == [label - 1 for label in whole.label_array if label]
    assert (part.classes, part.class_names) == (2, ("1", "2"))


def test_every_way_keeps_its_epsilon_and_trains_its_part_only(bench, tiny, done):
    (pair, scale), results = tiny, done
    cells = results.of("cell", seed=0)
    assert [row["way"] for row in cells] == ["scratch", "head", "last", "full"]
    assert all(2.85 < row["spent"] <= 3 and "audit run" in row["guarantee"] for row in cells)
    trained = {row["way"]: row["trained"] for row in cells}
    assert trained["head"] < trained["last"] < trained["full"] == trained["scratch"] == cells[0]["parameters"]
    assert {row["scored"] for row in results.of("trial")} == {round(len(pair.private) * scale.held_out)}
    assert {row["scored"] for row in cells} == {len(pair.test)}
    for row in cells:
        best = max(row["accuracy"] for row in results.of("trial", way=row["way"]))
        assert row["lr"] in [r["lr"] for r in results.of("trial", way=row["way"], accuracy=best)]


def test_public_weights_leave_the_head_out(bench, tiny, tmp_path):
    pair, scale = tiny
    weights = bench.public_weights(pair, scale, bench.Results(tmp_path / "r.jsonl"))
    names = set(Trained.load(weights).state)
    assert {"1.0.weight", "1.8.bias"} <= names
    assert not any(name.startswith("1.12.") for name in names)


def test_a_stopped_run_goes_on_where_it_was(bench, tiny, done, monkeypatch):
    path, whole = done.path, done.rows
    path.write_text("".join(json.dumps(row) + "\n" for row in whole[:-1]))
    calls = []
    measured = bench.measured
    monkeypatch.setattr(bench, "measured", lambda *given: calls.append(given) or measured(*given))
    again = finished(bench, tiny, path).rows
    assert len(calls) == 1
    assert [row["key"] for row in again] == [row["key"] for row in whole]
    assert again[-1]["accuracy"] == whole[-1]["accuracy"]


def test_another_epsilon_than_the_one_asked_for_is_refused(bench, tiny, tmp_path):
    pair, scale = tiny
    recipe = bench.recipe_of("scratch", tmp_path, 0.5, 3.0, pair.units, scale)
    for target in (2.0, 8.0):
        with pytest.raises(AssertionError, match="Expected epsilon just below"):
            bench.measured(recipe, pair.private, pair.test, 0, target)


def cell(way, seed, accuracy, epsilon=3.0):
    facts = {"kind": "cell", "key": f"{way}{seed}", "pair": "grey", "way": way, "epsilon": epsilon, "seed": seed}
    numbers = {"lr": 0.5, "accuracy": accuracy, "trained": 1, "parameters": 2, "cpu_seconds": 30.0}
    return facts | numbers | {"guarantee": f"epsilon {epsilon}"}


def test_the_page_shows_intervals_over_seeds_and_what_is_missing(bench, tmp_path):
    results = bench.Results(tmp_path / "r.jsonl")
    for row in (cell("scratch", 0, 0.5), cell("scratch", 1, 0.6), cell("head", 0, 0.7), cell("head", 1, 0.9)):
        results.add(row)
    results.add(cell("full", 0, 0.8))
    found = bench.document(results, bench.Scale(), "python benchmarks/dp_transfer.py")
    by_way = {row["way"]: row for row in found["table"]}
    half = 12.706204736 * np.std([0.7, 0.9], ddof=1) / np.sqrt(2)  # Student's t with one degree of freedom
    assert by_way["head"]["accuracy"]["high"] == pytest.approx(0.8 + half)
    assert by_way["head"]["gain"]["value"] == pytest.approx(0.25)  # 0.2 and 0.3, paired
    assert by_way["full"]["accuracy"]["low"] is None
    bench.write(found, tmp_path)
    text = (tmp_path / "dp_transfer.md").read_text()
    assert "| full network | not run | 80.0 (1 seed) | not run |" in text
    assert "| from scratch | not run | 55.0 [" in text
    assert "5 cells and 0 trials in 2 minutes" in text
    assert json.loads((tmp_path / "dp_transfer.json").read_text())["rows"] == results.rows


def test_the_best_rate_of_the_way_and_the_pair_is_taken_and_the_first_of_equal_ones(bench, tmp_path):
    results = bench.Results(tmp_path / "r.jsonl")
    tried = (
        ("grey", "head", 0.5, 0.6),
        ("grey", "head", 1.5, 0.7),
        ("grey", "head", 3.0, 0.7),
        ("grey", "full", 9, 0.9),
    )
    for number, (pair, way, lr, accuracy) in enumerate(tried):
        row = {"kind": "trial", "key": str(number), "pair": pair, "way": way, "lr": lr, "accuracy": accuracy}
        results.add(row)
    assert bench.chosen_rate("grey", "head", results) == 1.5


def test_rates_are_raised_until_the_accuracy_falls(bench, tiny, tmp_path, monkeypatch):
    accuracies = {0.5: 0.4, 1.0: 0.6, 2.0: 0.6, 4.0: 0.5, 8.0: 0.9}
    monkeypatch.setattr(bench, "RATES", {way: tuple(accuracies) for way in bench.WAYS})
    tried = []
    monkeypatch.setattr(bench, "trial", lambda pair, way, lr, *rest: tried.append((way, lr)) or accuracies[lr])
    monkeypatch.setattr(bench, "cell", lambda *given: None)
    for _ in bench.run([tiny[0]], tiny[1], bench.Results(tmp_path / "r.jsonl")):
        pass
    assert [lr for way, lr in tried if way == "head"] == [0.5, 1.0, 2.0, 4.0]
