import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.data.sources.csv import CSV
from sfumato.data.sources.parquet import Parquet
from sfumato.errors import DataError


def test_the_same_table_gives_the_same_population_as_csv(tmp_path):
    columns = {
        "who": ["a", "a", "b", "c"],
        "age": [1.5, None, 3.0, 4.0],
        "job": ["x", "y", None, "x"],
        "y": [3, 7, 3, 7],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    rows = [",".join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([",".join(columns), *rows]))
    roles = {"label": "y", "unit": "who", "missing": "most-frequent", "groups": ("job",)}
    one = Parquet(str(tmp_path / "t.parquet"), **roles).load()
    two = CSV(str(tmp_path / "t.csv"), **roles).load()
    assert one.fingerprint == two.fingerprint
    assert one.groups["job"].tolist() == two.groups["job"].tolist() == ["x", "y", "(missing)", "x"]
    assert one.class_names == two.class_names == ("3", "7")
    assert [event.purpose for event in one.events] == [event.purpose for event in two.events]


def test_errors_name_rows_and_columns(tmp_path):
    pq.write_table(pa.table({"y": [0, 1], "age": [1.0, None]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet, row 2, column `age`"):
        Parquet(str(tmp_path / "t.parquet"), label="y", unit="example").load()
    with pytest.raises(DataError, match=r"Did you mean 'age'"):
        Parquet(str(tmp_path / "t.parquet"), label="agee", unit="example").load()
    with pytest.raises(DataError, match=r"Did you mean '.*t.parquet'"):
        Parquet(str(tmp_path / "t.parqet"), label="y", unit="example").load()
