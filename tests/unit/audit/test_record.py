import json
import math
import os
import zipfile

import numpy as np
import pytest
from pydantic import ValidationError

from sfumato.audit.record import AuditRecord, Finding
from sfumato.errors import UsageError

HOSTILE = "</script><img onerror=1>\x00\u2028\ud7ff'\"\\ \U0001f600"


@pytest.fixture
def record(compared):
    return compared.run.record


def change(path, **values):
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, **values}))


def test_round_trip_keeps_every_value_and_array(record, tmp_path):
    path = record.save(tmp_path / "record")
    assert path == tmp_path / "record.json"
    again = AuditRecord.load(tmp_path)
    assert again == record
    assert again.arrays.keys() == record.arrays.keys()
    assert len(again.arrays) >= 3
    for name, array in record.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_a_dot_in_the_name_is_kept(record, tmp_path):
    assert record.save(tmp_path / "run.v2") == tmp_path / "run.v2.json"
    assert (tmp_path / "run.v2.npz").exists() or (tmp_path / "run.v2.json").exists()
    assert AuditRecord.load(tmp_path / "run.v2.json").arrays.keys() == record.arrays.keys()


def test_hostile_text_comes_back_unchanged(record, tmp_path):
    hostile = record.model_copy(update={"title": HOSTILE}).with_arrays({f"a/{HOSTILE[:9]}/b": np.arange(3)})
    again = AuditRecord.load(hostile.save(tmp_path / "record.json"))
    assert again.title == HOSTILE
    assert [array.tolist() for array in again.arrays.values()] == [[0, 1, 2]]


def test_no_id_of_the_population_is_in_either_file(compared, record, tmp_path):
    path = record.save(tmp_path / "record.json")
    content = path.read_bytes()
    with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
        content += b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    names = [*compared.population.id_array, *compared.population.unit_names]
    assert compared.run.worst  # the ids are known to the run, and kept apart
    assert [name for name in names if str(name).encode() in content] == []
    assert b"zz-" not in content
    assert b"north" in content  # a group of many is named: the search would find a name


def walk(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
    else:
        yield value


def test_dump_holds_no_nan_and_no_infinity(record):
    numbers = [v for v in walk(record.model_dump()) if isinstance(v, float)]
    assert len(numbers) > 100
    assert all(math.isfinite(v) for v in numbers)
    json.loads(record.model_dump_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_finding_cannot_hold_what_json_cannot(value):
    with pytest.raises(ValidationError, match="finite"):
        Finding(name="auc", value=value, low=0.0, high=1.0)


@pytest.mark.parametrize("version", [6, 99, 0, -1, True, "1", 1.0, None])
def test_other_schema_versions_are_refused(record, tmp_path, version):
    path = record.save(tmp_path / "record.json")
    change(path, schema_version=version)
    with pytest.raises(UsageError, match="schema version"):
        AuditRecord.load(path)


def test_a_record_of_an_earlier_version_is_read_with_what_it_lacks_left_empty(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    raw = json.loads(path.read_text())
    for subject in raw["subjects"]:
        del subject["unit_rates"]
        for name in ("reconstruction", "needs", "guard", "couples", "trainings"):
            del subject["defence"][name]
        for attack in subject["attacks"]:
            del attack["method"]
    del raw["strength"]
    path.write_text(json.dumps({**raw, "schema_version": 3}))
    again = AuditRecord.load(path)
    assert again.strength is None
    assert again.subjects[0].unit_rates is None
    assert again.subjects[0].defence.reconstruction == ""
    assert again.subjects[0].attacks[0].method == ""


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", '{"schema_version": NaN}', "[" * 100_000, "\xff"],
    ids=["empty", "list", "cut", "null", "nan", "deep", "bytes"],
)
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="Expected"):
        AuditRecord.load(path)


def test_a_missing_file_an_unknown_key_and_a_wrong_type_are_refused(record, tmp_path):
    with pytest.raises(UsageError, match=r"record\.json"):
        AuditRecord.load(tmp_path / "absent")
    path = record.save(tmp_path / "record.json")
    change(path, surprise=1)
    with pytest.raises(UsageError, match="surprise"):
        AuditRecord.load(path)
    path = record.save(tmp_path / "record.json")
    change(path, subjects="none")
    with pytest.raises(UsageError, match="subjects"):
        AuditRecord.load(path)


def test_damaged_and_pickled_arrays_are_refused(record, tmp_path):
    path = record.save(tmp_path / "record.json")
    arrays = path.with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:-30])
    with pytest.raises(UsageError, match="arrays"):
        AuditRecord.load(path)
    np.savez(arrays, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(UsageError, match="arrays"):
        AuditRecord.load(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(record, tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.audit.record.MOST_ARRAY_BYTES", 100)
    path = record.save(tmp_path / "record.json")
    with pytest.raises(UsageError, match="GB"):
        AuditRecord.load(path)


def test_objects_cannot_become_arrays(record):
    with pytest.raises(UsageError, match="objects"):
        record.with_arrays({"a": np.array([object()])})


def test_with_arrays_leaves_the_original_alone(record):
    before = set(record.arrays)
    record.with_arrays({"other": np.zeros(1)})
    assert set(record.arrays) == before


def test_save_that_fails_leaves_the_old_file_and_no_litter(record, tmp_path, monkeypatch):
    path = record.save(tmp_path / "record.json")
    before = path.read_bytes()

    def broken(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        record.model_copy(update={"title": "new"}).save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["record.json", "record.npz"]


def test_subject_by_name_suggests_the_nearest(record):
    assert record.subject("undefended").name == "undefended"
    with pytest.raises(UsageError, match="Did you mean 'undefended'"):
        record.subject("undefendd")
