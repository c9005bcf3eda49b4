import csv
import os
import stat

import numpy as np
import pytest

from sfumato.audit.worst import COLUMNS, WorstUnits, write_worst_units


@pytest.fixture
def tables(compared):
    return compared.run.worst


def test_the_tenth_with_the_highest_auc_is_named(compared, tables):
    assert [t.subject for t in tables] == ["undefended", "label-smoothing"]
    for table in tables:
        assert len(table.names) == round(0.1 * compared.run.record.data.game_units)
        assert set(table.names) <= set(compared.population.unit_names)
        assert (np.diff(table.auc) <= 0).all()
        assert (table.models_in + table.models_out == 8).all()


def test_only_the_owner_can_read_the_file(tables, tmp_path):
    path = write_worst_units(tables, tmp_path / "new" / "worst.csv")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    rows = list(csv.reader(path.open()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 1 + sum(len(t.names) for t in tables)
    assert [p.name for p in path.parent.iterdir()] == ["worst.csv"]


def test_names_with_commas_and_line_breaks_stay_one_cell(tmp_path):
    name = 'a,"b"\nc'
    one = np.ones(1)
    path = write_worst_units([WorstUnits("s", "a", np.array([name]), one, one, one, one)], tmp_path / "w.csv")
    assert list(csv.reader(path.open(newline="")))[1][2] == name


def test_a_failed_write_leaves_nothing(tables, tmp_path, monkeypatch):
    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_worst_units(tables, tmp_path / "worst.csv")
    assert list(tmp_path.iterdir()) == []
