import json

import pytest

from sfumato.accounting.ledger import Ledger
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian

ONE = PoissonGaussian(sample_rate=0.01, noise_multiplier=1.0, steps=100, adjacency="ADD_OR_REMOVE_ONE")


@pytest.fixture
def ledgers(tmp_path):
    folder = tmp_path / "ledgers"
    for name in ("ward 7", "ward 8"):
        Ledger.open(folder, name, create=True).declare(3.0, 1e-5, "patient", "ADD_OR_REMOVE_ONE")
    ledger = Ledger.open(folder, "ward 7")
    for run, seeded in (("first", False), ("shadow", True)):
        plan = ONE.plain() | {"unit": "patient", "audit_only": seeded}
        with ledger.begin(run, plan, config=1, fingerprint="f") as meter:
            meter.charge(100)
    return folder


def test_list(sfumato, ledgers) -> None:
    found = json.loads(sfumato("ledger", "list", "--folder", ledgers, "--json").stdout)
    assert [row["name"] for row in found] == ["ward 7", "ward 8"]
    assert (found[0]["target_epsilon"], found[0]["unit"], found[0]["runs"]) == (3.0, "patient", 2)
    assert found[0]["spent"] > 0 == found[1]["spent"]
    assert "ADD_OR_REMOVE_ONE" in sfumato("ledger", "list", "--folder", ledgers).stdout


def test_show(sfumato, ledgers) -> None:
    done = sfumato("ledger", "show", "--folder", ledgers, "--name", "ward 7")
    assert done.exit_code == 0, done.stderr
    for part in ("first", "shadow", "audit only, not charged", "closed", "ward 7: epsilon"):
        assert part in done.stdout
    rows = json.loads(sfumato("ledger", "show", "--folder", ledgers, "--json").stdout)
    assert [row["steps_charged"] for row in rows] == [100, 0]


def test_verify(sfumato, ledgers) -> None:
    done = sfumato("ledger", "verify", "--folder", ledgers)
    assert done.exit_code == 0, done.stderr
    assert "Every record follows" in done.stdout
    path = Ledger.open(ledgers, "ward 7").chain.path
    path.write_bytes(path.read_bytes().replace(b'"steps":100', b'"steps":10'))
    broken = sfumato("ledger", "verify", "--folder", ledgers)
    assert broken.exit_code == 1
    assert "damaged" in broken.stderr
    assert "Every record" not in broken.stdout


def test_errors(sfumato, ledgers, tmp_path) -> None:
    assert "'verify'" in sfumato("ledger", "verfy", "--folder", ledgers).stderr
    assert "Check the path" in sfumato("ledger", "list", "--folder", tmp_path / "nowhere").stderr
    assert "'ward 7'" in sfumato("ledger", "show", "--folder", ledgers, "--name", "ward7").stderr
    (tmp_path / "empty").mkdir()
    assert "Nothing" in sfumato("ledger", "list", "--folder", tmp_path / "empty").stdout
