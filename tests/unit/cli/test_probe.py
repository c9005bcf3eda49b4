import json

import pytest

from sfumato.audit.probing.risk_map import RiskMap
from sfumato.audit.record import AuditRecord
from sfumato.cli.config import RunConfig, dump, load

COLUMNS = ("--label", "diagnosis", "--unit", "patient")
FAST = ("--set", "epochs=1", "--set", "replicates=10", "--models", "4", "--executor", "inline", "--display", "none")
PROBE = ("--tuning-epochs", "1", "--defence", "label-smoothing(smoothing=0.3)")


def test_it_writes_a_map_and_prints_a_table(sfumato, table, tmp_path) -> None:
    words = ("probe", table, *COLUMNS, *FAST, *PROBE, "--operations", "transplant,freeze", "--out", "here")
    done = sfumato(*words)
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"map.json", "map.html", "map.md", "map-auc.svg"}
    found = RiskMap.load(tmp_path / "here" / "map.json")
    assert found.operations == ["transplant", "freeze"]
    assert found.settings["epochs"] == 1
    assert found.provenance.command.startswith("sfumato probe patients.csv --label diagnosis")
    assert "AUC carried" in done.stdout
    assert "pptp-reconstruction(map=here/map.json)+label-smoothing" in done.stdout.replace("\n", "")


def test_a_plan_trains_nothing(sfumato, table, tmp_path) -> None:
    done = sfumato("probe", table, *COLUMNS, *FAST, *PROBE, "--regions", "type", "--plan", "--json", "--store", "empty")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["models_to_train"] == 4 * (2 + 2 * 4)
    assert not (tmp_path / "probe").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--defence", "undefended,mixup"), "one defence"),
        (("--operations", "prune"), "prune"),
        (("--regions", "nothing.*", "--plan"), "left none"),
        (("--models", "5"), "even"),
        (("--estimator", "random-forest"), "one network"),
    ],
)
def test_what_cannot_be_probed_is_refused(sfumato, table, words, message) -> None:
    done = sfumato("probe", table, *COLUMNS, "--display", "none", *words)
    assert done.exit_code == 1
    assert message in done.stderr


def test_compare_probes_first_on_people_who_are_not_compared_on(sfumato, table, tmp_path) -> None:
    defences = "undefended,pptp-reconstruction+label-smoothing"
    (tmp_path / "run.toml").write_text("[data]\nsource='x'\n[probe]\nshare = 0.45\nmodels = 4\nepochs = 1\n")
    words = ("compare", table, *COLUMNS, *FAST, "--attacks", "loss", "--config", "run.toml", "--defences", defences)
    done = sfumato(*words, "--set", "epochs=20", "--out", "out")  # random labels, learned by heart
    assert done.exit_code == 0, done.stderr
    record = AuditRecord.load(tmp_path / "out")
    maps = list((tmp_path / "out").glob("probe-*.json"))
    assert len(maps) == 1
    found = RiskMap.load(maps[0])
    assert (found.data.units, record.data.units) == (18, 22)
    part = record.subjects[1].recipe["defence"]
    assert part["map"] == maps[0].name
    assert part["sha256"]
    assert any("chosen by a probe of 18 units" in notice.text for notice in record.notices)
    assert found.apart_from == record.data.fingerprint
    assert not any("cannot be told from the map" in notice.text for notice in record.notices)


def test_compare_refuses_a_probe_for_nobody(sfumato, table) -> None:
    done = sfumato("compare", table, *COLUMNS, *FAST, "--probe", "0.45", "--defences", "undefended,mixup")
    assert done.exit_code == 1
    assert "without regions to probe for" in done.stderr


def test_the_probe_is_part_of_the_configuration(sfumato, table, tmp_path) -> None:
    words = ("--defences", "pptp-reconstruction+label-smoothing", "--probe", "0.4", "--dump-config", "run.toml")
    assert sfumato("compare", table, *COLUMNS, *words).exit_code == 0
    config = load(tmp_path / "run.toml")
    assert isinstance(config, RunConfig)
    assert config.probe is not None
    assert config.probe.share == 0.4
    assert "[probe]" in dump(config)
