import tomllib
from pathlib import Path

import pytest

from sfumato.attacks.catalogue import default_attacks
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.audit.settings import AuditSettings
from sfumato.cli.config import Contender, DataChoice, RecipeChoice, RunChoice, RunConfig, dump, from_tables, load
from sfumato.cli.configuring import configured
from sfumato.cli.opening import open_population
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


def test_numbers_of_answers_are_read_from_files_and_from_the_command_line(tmp_path: Path) -> None:
    text = '[data]\nsource = "digits"\n[audit]\ndraws = [1, 16, 256]\ndraws_attacks = ["loss"]\n'
    read = load(written(tmp_path, text))
    assert (read.audit.draws, read.audit.draws_attacks) == ((1, 16, 256), ("loss",))
    assert load(written(tmp_path, dump(read))) == read
    given = RunOptions(data="digits", changes=["draws=1,64", "draws_attacks=rmia,loss"])
    audit = configured(given, compared=False).audit
    assert (audit.draws, audit.draws_attacks) == ((1, 64), ("rmia", "loss"))


def test_variants_of_an_attack_keep_their_names_in_a_file(tmp_path: Path) -> None:
    text = '[data]\nsource = "digits"\n[[attack]]\nname = "lira-online"\n[[attack]]\nname = "lira-online"\n'
    read = load(written(tmp_path, f'{text}statistic = "hinge"\ncalled = "lira-hinge"\n'))
    assert [attack.name for attack in read.audit.attacks] == ["lira-online", "lira-hinge"]
    assert load(written(tmp_path, dump(read))) == read
    assert dump(read).count("called") == 1


def test_full_strength_has_defaults_of_its_own(tmp_path: Path) -> None:
    read = load(written(tmp_path, '[data]\nsource = "digits"\n[audit]\nstrength = "full"\n'))
    assert (read.audit.models, read.audit.design) == (64, "canaries")
    assert load(written(tmp_path, dump(read))) == read
    audit = configured(RunOptions(data="digits", strength="full"), compared=True).audit
    assert (audit.strength, audit.models, audit.design) == ("full", 64, "canaries")
    fewer = configured(RunOptions(data="digits", strength="full", models=8), compared=True).audit
    assert (fewer.strength, fewer.models) == ("full", 8)
    with pytest.raises(UsageError, match="strength"):
        configured(RunOptions(data="digits", strength="strong"), compared=True)


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


SEVERAL = RunConfig(
    data=DataChoice(source="digits"),
    contenders=(
        Contender(name="plain"),
        Contender(name="small", recipe=RecipeChoice(name="table-mlp", fields={"hidden": [4], "epochs": 2})),
        Contender(name="mixed", recipe=RecipeChoice(name="image-cnn"), defence=Dropout(rate=0.3, inner=Mixup())),
    ),
    audit=AuditSettings(attacks=(LiRAOnline(),), models=4),
)


def test_contenders_are_dumped_and_read_back_as_the_same_objects(tmp_path: Path) -> None:
    assert load(written(tmp_path, dump(SEVERAL))) == SEVERAL


def test_contenders_as_inline_tables() -> None:
    text = """
    data = { source = "digits" }
    [[contender]]
    name = "small"
    recipe = { name = "table-mlp", hidden = [4], epochs = 2 }
    [[contender]]
    name = "mixed"
    recipe = { name = "image-cnn" }
    defence = { name = "dropout", rate = 0.3, inner = { name = "mixup" } }
    """
    assert from_tables(tomllib.loads(text)).contenders == SEVERAL.contenders[1:]


def test_resolved_contenders_have_every_number_and_mean_the_same() -> None:
    full = SEVERAL.resolved("table")
    names = [one.recipe.name for one in full.contenders]
    assert names == ["table-mlp", "table-mlp", "image-cnn"]
    assert full.contenders[0].recipe.fields["lr"] == RecipeChoice().preset("table").lr
    assert full.contenders[1].recipe.preset("table") == SEVERAL.contenders[1].recipe.preset("table")
    assert full.recipe == RecipeChoice()


DIGITS = '[data]\nsource="digits"\n'
ONE = '[[contender]]\nname="a"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[contender]]\nrecipe={name="table-mlp"}', "`name`"),
        ('[[contender]]\nname="a"\nrecipe={name="table-mpl"}', "'table-mlp'"),
        ('[[contender]]\nname="a"\nrecipe={name="table-mlp", epoch=3}', "'epochs'"),
        ('[[contender]]\nname="a"\nrecipe="table-mlp"', "a table as `recipe`"),
        ('[[contender]]\nname="a"\ndefence={name="mixp"}', "'mixup'"),
        ('[[contender]]\nname="a"\ndefence={name="mixup", alfa=1}', "'alpha'"),
        ('[[contender]]\nname="a"\ndefense={name="mixup"}', "'defence'"),
        ('[[contender]]\nname="a"\nrecipe={train=["mine.py"]}', "a training or classifiers"),
        ("[[contender]]\nname=3", "text as the name"),
        (ONE + ONE, "distinct names"),
        (ONE + '[recipe]\nname="table-mlp"', r"no \[recipe\] beside"),
        (ONE + '[[defence]]\nname="mixup"', r"no \[\[defence\]\] beside"),
        ('[contender]\nname="a"', r"\[\[contender\]\]"),
    ],
)
def test_faults_of_contenders_are_named_with_a_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        load(written(tmp_path, DIGITS + text))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"recipe": "table-mlp"}, "--recipe"),
        ({"defences": "mixup"}, "--defences"),
        ({"model": "net.py:make"}, "--model"),
        ({"changes": ["epochs=3"]}, "--set epochs"),
        ({"changes": ["dropout.rate=0.1"]}, "--set dropout"),
    ],
)
def test_options_for_one_recipe_are_refused_beside_contenders(tmp_path: Path, given: dict, told: str) -> None:
    path = written(tmp_path, dump(SEVERAL))
    with pytest.raises(UsageError, match=f"no {told} beside"):
        configured(RunOptions(config=str(path), **given), compared=True)


def test_options_of_the_audit_stand_over_a_file_with_contenders(tmp_path: Path) -> None:
    path = written(tmp_path, dump(SEVERAL))
    config = configured(RunOptions(config=str(path), models=6, changes=["replicates=50"]), compared=True)
    assert (config.audit.models, config.audit.replicates, config.defences) == (6, 50, ())
    assert config.contenders == SEVERAL.contenders


def test_canaries_are_part_of_the_data_and_read_back(tmp_path: Path) -> None:
    config = from_tables({"data": {"source": "digits", "canaries": {"natural": 3, "mislabelled": 2}}})
    assert config.data == DataChoice(source="digits", canaries={"natural": 3, "mislabelled": 2})
    assert load(written(tmp_path, dump(config))) == config
    inline = '[data]\nsource = "digits"\ncanaries = { natural = 3, mislabelled = 2 }\n'
    assert load(written(tmp_path, inline)) == config


def test_canaries_on_the_command_line_stand_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, '[data]\nsource = "digits"\ncanaries = { natural = 3 }\n')
    given = RunOptions(config=str(path), data_option=["canaries=isolated=1,duplicated=2"])
    assert configured(given, compared=False).data.canaries == {"isolated": 1, "duplicated": 2}
    assert configured(RunOptions(config=str(path)), compared=False).data.canaries == {"natural": 3}
    assert configured(RunOptions(data="digits", data_option=["canaries=natural=1"]), compared=False).data.options == {}


def test_canaries_of_the_wrong_form_are_refused() -> None:
    with pytest.raises(UsageError, match="a table"):
        from_tables({"data": {"source": "digits", "canaries": 250}})
    with pytest.raises(UsageError, match="KIND=NUMBER"):
        configured(RunOptions(data="digits", data_option=["canaries=natural:1"]), compared=False)


def test_canaries_are_made_after_the_records_were_taken() -> None:
    population = open_population(DataChoice(source="digits", records=40, canaries={"isolated": 2, "natural": 38}), 3)
    assert len(population) == 40
    assert population.records.shape == (66,)
    assert sorted(set(population.groups["canary"])) == ["isolated", "natural"]
