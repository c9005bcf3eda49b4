from pathlib import Path

import pytest

from sfumato.attacks.catalogue import default_attacks
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.audit.settings import AuditSettings
from sfumato.cli.config import DataChoice, RecipeChoice, RunChoice, RunConfig, dump, from_tables, load
from sfumato.cli.configuring import configured
from sfumato.cli.options import RunOptions
from sfumato.defences.dropout import Dropout
from sfumato.defences.mixup import Mixup
from sfumato.errors import UsageError

FULL = RunConfig(
    data=DataChoice(source="patients.csv", records=500, options={"label": "diagnosis", "unit": "patient"}),
    recipe=RecipeChoice(name="table-mlp", fields={"epochs": 12, "hidden": [32, 16]}, model="net.py:make"),
    defences=(Mixup(alpha=0.4), Dropout(rate=0.3, inner=Mixup())),
    audit=AuditSettings(attacks=(LiRAOnline(variance="per-example"),), models=8, seed=7, fprs=(0.1, 0.01)),
    run=RunChoice(executor="inline", out="here", title='A "title"'),
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_dump_is_read_back_as_the_same_objects(tmp_path: Path) -> None:
    assert load(written(tmp_path, dump(FULL))) == FULL


def test_resolved_writes_every_number_of_the_recipe_and_means_the_same() -> None:
    config = RunConfig(data=DataChoice(source="digits"), recipe=RecipeChoice(fields={"epochs": "3"}))
    full = config.resolved("table")
    assert full.recipe.name == "table-mlp"
    assert full.recipe.fields["lr"] == config.recipe.preset("table").lr
    assert full.recipe.preset("table") == config.recipe.preset("table")
    assert full.recipe.preset("table").epochs == 3


def test_what_is_left_out_has_the_defaults() -> None:
    config = from_tables({"data": {"source": "digits"}})
    assert config.audit == AuditSettings(attacks=tuple(default_attacks()))
    assert config.recipe.preset("image").name == "image-cnn"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[dta]\nsource="digits"', "'data'"),
        ('[data]\nsource="digits"\n[audit]\nmodel=3', "'models'"),
        ('[data]\nsource="digits"\n[recipe]\nname="table-mpl"', "'table-mlp'"),
        ('[data]\nsource="digits"\n[recipe]\nname="table-mlp"\nepoch=3', "'epochs'"),
        ('[data]\nsource="digits"\n[[defence]]\nname="mixp"', "'mixup'"),
        ('[data]\nsource="digits"\n[[defence]]\nname="mixup"\n[defence.inner]\nname="mixup"\nalfa=1', "'alpha'"),
        ('[data]\nsource="digits"\n[[attack]]\nname="los"', "'loss'"),
        ('[data]\nsource="digits"\n[run]\nstor="x"', "'store'"),
        ('[data]\nsource="digits"\n[audit]\nattacks=["loss"]', "attacks"),
        ('[data]\nsource="digits"\n[defence]\nname="mixup"', r"\[\[defence\]\]"),
        ("data = 3", r"\[data\]"),
        ("[data]\nunit='example'", "Name them"),
        ("[data", "configuration file"),
        ('[data]\nsource="digits"\nrecords="many"', "whole number"),
    ],
)
def test_faults_are_named_with_a_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(written(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dump-config"):
        load(tmp_path / "none.toml")


def test_options_stand_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, dump(FULL))
    config = configured(
        RunOptions(
            config=str(path), models=4, changes=["epochs=2", "replicates=50"], defences="undefended", unit="ward"
        ),
        compared=True,
    )
    assert config.audit.models == 4
    assert config.audit.replicates == 50
    assert config.audit.seed == 7
    assert config.audit.attacks == FULL.audit.attacks
    assert [d.name for d in config.defences] == ["undefended"]
    assert dict(config.data.options) == {"label": "diagnosis", "unit": "ward"}
    assert config.recipe.fields == {"epochs": "2", "hidden": [32, 16]}
    assert config.run == FULL.run


def test_compare_has_four_recipes_and_audit_one() -> None:
    options = RunOptions(data="digits")
    assert len(configured(options, compared=True).defences) == 4
    assert len(configured(options, compared=False).defences) == 1


def test_queries_reach_every_attack() -> None:
    config = configured(RunOptions(data="digits", queries=3, attacks="loss,rmia"), compared=True)
    assert [(a.name, a.queries) for a in config.audit.attacks] == [("loss", 3), ("rmia", 3)]


def test_unknown_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'epochs'"):
        configured(RunOptions(data="digits", changes=["epoch=3"]), compared=True)
    with pytest.raises(UsageError, match="KEY=VALUE"):
        configured(RunOptions(data="digits", changes=["epochs"]), compared=True)
