"""The accuracy benchmark on tiny data: what it trains on, when it opens the test part, what it resumes and refuses."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfumato.accounting.history import Event, History
from sfumato.data.population import Population
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.undefended import Undefended
from sfumato.errors import SfumatoError
from sfumato.training.presets.image_cnn import ImageCNN
from sfumato.training.trained import Trained

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import dp_accuracy

        yield dp_accuracy


def images(part: str) -> Population:
    rng = np.random.default_rng(["train", "test"].index(part))
    labels = np.arange(40 if part == "train" else 20) % 2
    x = rng.integers(0, 40, (len(labels), 1, 8, 8)) + 150 * labels[:, None, None, None]
    return Population(x.astype(np.uint8), "example", labels=labels, kind="image", name=part)


@pytest.fixture
def tiny(bench, monkeypatch):
    """Two recipes on two brightnesses; `opened` says in which order parts were read."""
    opened = []

    def private(records: int) -> DPSGD:
        return replace(bench.steps(records, 20, 3, lr=0.05), inner=None)

    def open_part(data, path, part):
        opened.append(part)
        return images(part)

    preset = ImageCNN(epochs=1, standardise=False)
    cases = (
        bench.Case("fashion-mnist", "private", preset, private, seeds=(0, 1), held_out="50"),
        bench.Case("fashion-mnist", "ordinary", preset, lambda _: Undefended(), seeds=(0,)),
    )
    monkeypatch.setattr(bench, "CASES", cases)
    monkeypatch.setattr(bench, "opened", open_part)
    return opened


def test_the_test_part_is_opened_once_and_last(bench, tiny, tmp_path):
    result = bench.measured("fashion-mnist", None, tmp_path)
    assert tiny == ["train", "test"]
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    private, ordinary = result["rows"]
    assert len(private["accuracies"]) == 2
    assert 2.9 < private["epsilon"] <= 3
    assert ordinary["epsilon"] is None
    assert ordinary["guarantee"].startswith("none")
    assert bench.measured("fashion-mnist", None, tmp_path) == result  # as kept
    assert tiny == ["train", "test", "train"]


def test_an_interrupted_run_goes_on_with_the_models_it_has(bench, tiny, tmp_path, monkeypatch):
    bench.model(bench.CASES[0], images("train"), 0, tmp_path)
    first = (tmp_path / "fashion-mnist-private-0.safetensors").read_bytes()
    bench.measured("fashion-mnist", None, tmp_path)
    assert (tmp_path / "fashion-mnist-private-0.safetensors").read_bytes() == first
    changed = replace(bench.CASES[0], preset=ImageCNN(epochs=1, standardise=False, lr=0.3))
    with pytest.raises(SfumatoError, match="this job"):
        bench.model(changed, images("train"), 0, tmp_path)


def test_weaker_guarantees_stop_the_run(bench):
    formal, none = DPSGD.example(), History((Event("training", "ordinary training, up to 1 epochs", 3),))
    with pytest.raises(SfumatoError, match="epsilon 3 at delta 1e-05 or less"):
        bench.checked(Trained(state=None, history=none, seed=0), formal)
    facts = {"delta": 1e-5, "unit": "example", "audit_only": True}
    loud = bench.steps(100, 10, 5).plan(images("train")).with_noise(0.3)
    steps = Event("training", "DP-SGD", 3, loud.mechanism(audit_only=True) | facts)
    with pytest.raises(SfumatoError, match="epsilon 3"):
        bench.checked(Trained(state=None, history=History((steps,)), seed=0), formal)
    bench.checked(Trained(state=None, history=none, seed=0), Undefended())


def test_the_interval_is_student_s(bench):
    found = bench.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found["mean"] == 3.0
    assert found["high"] - 3.0 == pytest.approx(2.7764 * 2.5**0.5 / 5**0.5, abs=1e-3)
    assert found["low"] == pytest.approx(6.0 - found["high"])
    assert bench.interval([4.0]) == {"mean": 4.0, "low": None, "high": None}


def test_the_page_says_what_was_missed_and_how_it_was_chosen(bench, tiny, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "docs"
    folder.mkdir()
    words = ["dp_accuracy.py", "--only", "fashion-mnist", "--state", str(tmp_path / "state"), "--write", str(folder)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setitem(bench.AIMS, "fashion-mnist", 101.0)
    assert bench.main() == 0
    page, record = (folder / "dp_accuracy.md").read_text(), json.loads((folder / "dp_accuracy.json").read_text())
    assert page == bench.page(record)
    for part in (
        "missed by",
        "10,000 training images",
        f"{bench.TRIALS['fashion-mnist']} trials",
        "python benchmarks/",
    ):
        assert part in page
    assert str(tmp_path) not in page
    assert "/" not in record["provenance"]["command"].replace("benchmarks/", "")


def test_the_shipped_cases_have_their_numbers_fixed(bench):
    assert bench.SEEDS == (0, 1, 2, 3, 4)
    for case in bench.CASES:
        defence = case.defence(60_000)
        if defence.family == "formal":
            main = case is next(first for first in bench.CASES if first.data == case.data)
            assert (
                case.seeds == bench.SEEDS[: len(bench.SEEDS) if main else 1]
            )  # the recipe beside it is for comparison
            assert case.held_out


def test_held_out_images_are_not_trained_on_and_no_test_part_is_read(bench, tiny, monkeypatch, capsys):
    monkeypatch.setattr(bench, "HELD_OUT", 10)
    monkeypatch.setattr(sys, "argv", ["dp_accuracy.py", "--only", "fashion-mnist", "--held-out"])
    seen = []
    monkeypatch.setattr(bench.Recipe, "fit", spying(bench.Recipe.fit, seen))
    assert bench.main() == 0
    assert tiny == ["train"]
    assert [len(rows) for rows in seen] == [30, 30]
    assert capsys.readouterr().err.count("% held out") == 2


def spying(fit, seen):
    def call(self, population, work, options):
        seen.extend(rows for rows, _ in work)
        return fit(self, population, work, options)

    return call
