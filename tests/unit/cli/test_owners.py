import pytest

from sfumato.cli.config import DataChoice, dump, from_tables, load
from sfumato.cli.configuring import configured
from sfumato.cli.opening import open_population
from sfumato.cli.options import RunOptions
from sfumato.data.owners import planted_rows
from sfumato.errors import UsageError


def test_owners_are_part_of_the_data_and_read_back(tmp_path):
    config = from_tables({"data": {"source": "digits", "owners": 20, "planted": 2}})
    assert config.data == DataChoice(source="digits", owners=20, planted=2)
    path = tmp_path / "run.toml"
    path.write_text(dump(config))
    assert load(path) == config
    given = RunOptions(config=str(path), data_option=["planted=0"])
    assert (configured(given, compared=False).data.owners, configured(given, compared=False).data.planted) == (20, 0)


def test_owners_on_the_command_line():
    data = configured(RunOptions(data="digits", data_option=["owners=20"]), compared=False).data
    assert (data.owners, data.planted, data.options) == (20, None, {})
    with pytest.raises(UsageError, match="`owners` as a whole number, got 'many'"):
        configured(RunOptions(data="digits", data_option=["owners=many"]), compared=False)


def test_records_are_taken_before_they_are_dealt_and_canaries_are_whole_owners():
    choice = DataChoice(source="digits", records=205, owners=10, planted=3, canaries={"mislabelled": 4})
    population = open_population(choice, 1)
    assert (len(population), population.unit.name, population.units, len(planted_rows(population))) == (
        200, "owner", 20, 60,
    )  # fmt: skip
    assert (population.groups["canary"] == "mislabelled").sum() == 40
    assert len(planted_rows(open_population(DataChoice(source="digits", owners=100), 1))) == 17


def test_planted_labels_need_owners():
    with pytest.raises(UsageError, match="Expected `owners` beside `planted`, got planted = 2"):
        open_population(DataChoice(source="digits", planted=2), 0)
