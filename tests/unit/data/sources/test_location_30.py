import gzip

import numpy as np
import pytest

from sfumato.data.sources.location_30 import Location30
from sfumato.errors import DataError


def row(cluster, *places):
    return ",".join([f'"{cluster}"', *("1" if i in places else "0" for i in range(446))])


ROWS = [row(13, 1, 3), row(1), row(30, 445)]


def test_plain_and_gzip_read_alike(write, tmp_path):
    text = "\n".join(ROWS) + "\n"
    one = Location30(str(write(text, "bangkok"))).load()
    (tmp_path / "l.csv.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    assert one.fingerprint == Location30(str(tmp_path / "l.csv.gz")).load().fingerprint
    assert one.label_array.tolist() == [12, 0, 29]
    assert (one.classes, one.class_names[12], one.unit.name, one.units) == (30, "cluster-13", "example", 3)
    assert one.records.shape == (446,)
    assert [np.flatnonzero(x).tolist() for x in one.tensor(np.arange(3)).numpy()] == [[1, 3], [], [445]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (row(31), r"cluster from 1 to 30 at t.csv, line 2, got b'31'"),
        (row("x"), "cluster from 1 to 30"),
        (row(0), "cluster from 1 to 30"),
        (ROWS[0][:-2], r"446 cells of 0 or 1 at t.csv, line 2, got 445"),
        (ROWS[0][:-1] + "2", "446 cells of 0 or 1"),
        ('"1"', "got 0 cells"),
    ],
)
def test_other_tables_are_refused_by_line(write, line, told):
    with pytest.raises(DataError, match=told):
        Location30(str(write(f"{ROWS[0]}\n{line}\n", "t.csv"))).load()


def test_empty_cut_off_and_swollen_files_are_refused(write, tmp_path):
    with pytest.raises(DataError, match=r"Expected rows in t\.csv, got 0"):
        Location30(str(write("\n", "t.csv"))).load()
    (tmp_path / "cut.gz").write_bytes(gzip.compress("\n".join(ROWS).encode())[:-20])
    with pytest.raises(DataError, match="gzip"):
        Location30(str(tmp_path / "cut.gz")).load()
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"0" * (17 << 20)))
    with pytest.raises(DataError, match="at most 16777216 bytes"):
        Location30(str(tmp_path / "bomb.gz")).load()


@pytest.mark.data
def test_the_shared_file(shared_file):
    population = Location30(str(shared_file("location-30.csv.gz"))).load()
    assert (len(population), population.records.shape, population.classes) == (5010, (446,), 30)
    assert np.bincount(population.label_array, minlength=30).min() > 90
