import re
import sys
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sfumato.audit.probing.risk_map import RiskMap
from sfumato.data.population import Population

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The script on 40 made-up pictures, one epoch, four models of each variant."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import risk_maps

    rng = np.random.default_rng(0)
    pictures = Population(
        rng.random((40, 1, 8, 8)).astype(np.float32),
        "example",
        labels=rng.integers(0, 2, 40),
        name="made up",
        kind="image",
    )
    monkeypatch.setattr(risk_maps, "open_population", lambda *_, **__: pictures)

    def run(*words: str) -> int:
        given = ["risk_maps.py", "--state", str(tmp_path / "state"), "--workers", "0", "--models", "4", "--epochs", "1"]
        monkeypatch.setattr(sys, "argv", [*given, "--only", "small-cnn", *words])
        return risk_maps.main()

    run.module = risk_maps
    return run


@pytest.mark.slow
def test_it_trains_goes_on_and_writes_a_page_with_pictures(bench, tmp_path, capsys):
    soon = (datetime.now() - timedelta(minutes=1)).strftime("%H:%M")
    assert bench("--page", str(tmp_path / "page")) == 3, "nothing is there yet"
    assert bench() == 0
    trained = len(re.findall(r"\d\d:\d\d:\d\d ", capsys.readouterr().err))
    assert trained == 4 * (2 + 4 * 4)
    assert bench("--until", soon) == 0
    assert not re.findall(r"\d\d:\d\d:\d\d ", capsys.readouterr().err), "finished models are not trained again"
    assert bench("--page", str(tmp_path / "page")) == 0
    found = RiskMap.load(tmp_path / "page" / "risk-map-small-cnn.json")
    assert [region.name for region in found.regions] == ["stem", "layer-2", "layer-3", "head"]
    page = (tmp_path / "page" / "risk-map-small-cnn.md").read_text()
    assert "sfumato probe fashion-mnist --records 5000 --recipe image-cnn --set epochs=1" in page
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert pictures
    for picture in pictures:
        ElementTree.parse(tmp_path / "page" / picture)


def test_the_time_of_day_is_the_next_one(bench):
    inside = (datetime.now() + timedelta(minutes=30)).strftime("%H:%M")
    assert 28 * 60 < bench.module.seconds_left(inside) <= 30 * 60
    assert bench.module.seconds_left(None) is None
