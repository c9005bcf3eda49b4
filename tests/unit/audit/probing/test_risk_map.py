import json

import pytest

from sfumato.audit.probing.risk_map import RiskMap
from sfumato.errors import UsageError
from sfumato.models.ranking import read_ranking


@pytest.fixture
def saved(probed, tmp_path):
    return probed.map.save(tmp_path / "deep" / "map.json")


def test_it_comes_back_as_it_was(probed, saved):
    assert RiskMap.load(saved) == probed.map
    assert read_ranking(saved) == probed.map.ranking
    assert [path.name for path in saved.parent.iterdir()] == ["map.json"], "written atomically"


def test_it_holds_no_personal_data(probed, saved):
    assert "zz-" not in saved.read_text()
    assert str(saved.parent) not in saved.read_text()


def changed(saved, change) -> None:
    plain = json.loads(saved.read_text())
    change(plain)
    saved.write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "version 1"),
        (lambda m: m.update(schema_version=True), "version 1"),
        (lambda m: m.pop("schema_version"), "version 1"),
        (lambda m: m.update(kind="audit"), "kind"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.update(models="8"), "models"),
        (lambda m: m.pop("ranking"), "ranking"),
        (lambda m: m["effects"][0].update(region="elsewhere"), "regions of the map"),
        (lambda m: m["effects"].append(m["effects"][0]), "once each"),
        (lambda m: m["regions"].append(m["regions"][0]), "once each"),
        (lambda m: m["regions"].clear(), "once each"),
        (lambda m: m["ranking"]["regions"].pop(), "regions of the map"),
        (lambda m: m["effects"][0]["accuracy"].update(value="0.5"), "accuracy"),
        (lambda m: m["provenance"].pop("seed"), "provenance.seed"),
    ],
)
def test_a_map_that_was_changed_is_refused(saved, change, message):
    changed(saved, change)
    with pytest.raises(UsageError, match=message):
        RiskMap.load(saved)


@pytest.mark.parametrize("text", ["", "[1]", '"map"', "[" * 100_000, '{"schema_version": 1, "title": NaN}', "\xff\x00"])
def test_what_is_no_map_is_refused(tmp_path, text):
    path = tmp_path / "map.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="risk map"):
        RiskMap.load(path)
    with pytest.raises(UsageError, match="risk map"):
        RiskMap.load(tmp_path / "nowhere.json")
