import json
from pathlib import Path

import pytest

from sfumato.cli.config import Contender, DataChoice, RecipeChoice, RunConfig, dump
from sfumato.cli.contenders import contenders
from sfumato.cli.opening import open_population
from sfumato.defences.dropout import Dropout
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.models.user_file import FileModel

TWO = (
    Contender(name="small", recipe=RecipeChoice(name="table-mlp", fields={"hidden": [4], "epochs": 1})),
    Contender(name="wide", recipe=RecipeChoice(name="table-mlp", fields={"hidden": [8], "epochs": 1}),
              defence=Dropout(rate=0.2)),
)  # fmt: skip


def test_each_contender_has_its_own_network_and_defence(table: Path) -> None:
    population = open_population(DataChoice(source=str(table), options={"label": "diagnosis", "unit": "patient"}), 0)
    recipes = contenders(RunConfig(data=DataChoice(source="x"), contenders=TWO), population)
    assert [recipe.name for recipe in recipes] == ["small", "wide"]
    assert [recipe.task.model.hidden for recipe in recipes] == [(4,), (8,)]
    assert [recipe.defence for recipe in recipes] == [Undefended(), Dropout(rate=0.2)]


def test_a_contender_may_bring_a_network_of_the_users_own(table: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(shape, outputs):\n    return nn.Linear(3, outputs)\n"
    )
    own = Contender(name="own", recipe=RecipeChoice(name="table-mlp", model=f"{tmp_path / 'net.py'}:make"))
    population = open_population(DataChoice(source=str(table), options={"label": "diagnosis", "unit": "patient"}), 0)
    (recipe,) = contenders(RunConfig(data=DataChoice(source="x"), contenders=(own,)), population)
    assert isinstance(recipe.task.model, FileModel)


def test_a_contender_that_does_not_suit_the_data_is_refused(table: Path) -> None:
    population = open_population(DataChoice(source=str(table), options={"label": "diagnosis", "unit": "patient"}), 0)
    image = Contender(name="image", recipe=RecipeChoice(name="image-cnn"))
    with pytest.raises(UsageError, match="image-cnn"):
        contenders(RunConfig(data=DataChoice(source="x"), contenders=(image,)), population)


def test_one_file_prices_compares_and_dumps_several_networks(sfumato, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "several.toml"
    choice = DataChoice(source=str(table), options={"label": "diagnosis", "unit": "patient"})
    path.write_text(dump(RunConfig(data=choice, contenders=TWO)))
    planned = sfumato("plan", "--config", path, "--models", 4, "--json", "--display", "none")
    assert planned.exit_code == 0, planned.stderr
    priced = json.loads(planned.stdout)
    assert (priced["recipes"], priced["models"]) == (["small", "wide"], 8)
    ran = sfumato("compare", "--config", path, "--models", 4, "--attacks", "loss", "--json", "--display", "none")
    assert ran.exit_code == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert [subject["name"] for subject in record["subjects"]] == ["small", "wide"]
    assert {(c["subject"], c["baseline"]) for c in record["comparisons"]} == {("wide", "small")}
    assert sfumato("compare", "--config", path, "--dump-config", tmp_path / "again.toml").exit_code == 0
    full = (tmp_path / "again.toml").read_text()
    assert full.count("[[contender]]") == 2
    assert "batch_size" in full
    assert "[[defence]]" not in full


def test_a_defence_on_the_command_line_is_refused_with_the_reason(sfumato, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "several.toml"
    path.write_text(dump(RunConfig(data=DataChoice(source=str(table), options={"label": "diagnosis"}), contenders=TWO)))
    told = sfumato("compare", "--config", path, "--defences", "mixup", "--models", 4)
    assert told.exit_code != 0
    assert "beside [[contender]]" in told.stderr
