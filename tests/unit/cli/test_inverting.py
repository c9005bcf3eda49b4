import json

import pytest

from sfumato.attacks.catalogue import attacks, inversions, usual_inversions
from sfumato.attacks.inversion.dlg import DLG
from sfumato.attacks.inversion.gmi import GMI
from sfumato.attacks.inversion.miface import MIFace
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.inversion.settings import InversionSettings
from sfumato.audit.settings import AuditSettings
from sfumato.cli.config import DataChoice, RunConfig, dump, from_tables, load
from sfumato.cli.configuring import configured
from sfumato.cli.inverting import inversion_settings, known_attacks, named, without_public
from sfumato.cli.opening import open_data, open_population
from sfumato.cli.options import RunOptions
from sfumato.errors import UsageError


def run_of(*, compared=True, **given):
    return configured(RunOptions(**{"data": "digits", **given}), compared=compared)


def test_attacks_of_both_kinds_go_where_they_belong():
    audit = run_of(attacks="loss,miface(steps=9),rmia,dlg").audit
    assert [attack.name for attack in audit.attacks] == ["loss", "rmia"]
    assert audit.inversion.attacks == (MIFace(steps=9), DLG())
    assert run_of(attacks="loss").audit.inversion is None
    assert run_of().audit.inversion is None
    only = run_of(attacks="miface").audit
    assert (only.attacks, only.inversion.attacks) == ((), (MIFace(),))


def test_inversion_stands_for_the_usual_ones_and_what_is_named_by_itself_keeps_its_numbers():
    usual = {attack.method for attack in usual_inversions()}
    assert {attack.method for attack in named("inversion").inversion} == usual
    mixed = named("loss,inversion,miface(steps=9)")
    assert [one.name for one in mixed.membership] == ["loss"]
    assert [one for one in mixed.inversion if one.method == "miface"] == [MIFace(steps=9)]
    assert {attack.method for attack in mixed.inversion} == usual | {"miface"}


def test_an_unknown_attack_is_refused_with_the_nearest_of_both_kinds():
    with pytest.raises(UsageError) as caught:
        named("mifase")
    assert "miface" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"changes": ["inversion.targets=4"]}, "targets", 4),
        ({"changes": ["inversion.batches=1,4,16"]}, "batches", (1, 4, 16)),
        ({"changes": ["inversion.attributes=3"]}, "attributes", (3,)),
        ({"changes": ["inversion.knowledge=true"]}, "knowledge", True),
        ({"changes": ["inversion.evaluator=image-cnn"]}, "evaluator", "image-cnn"),
        ({"public": "fashion-mnist"}, "public", "fashion-mnist"),
        ({"public_classes": "0, 1"}, "public_classes", ("0", "1")),
        ({"gallery": True}, "gallery", True),
    ],
)
def test_options_of_inversion(given, field, value):
    assert getattr(run_of(attacks="miface", **given).audit.inversion, field) == value


def test_public_is_a_share_or_a_source():
    share = run_of(attacks="loss,miface", public="0.3").audit
    assert (share.public, share.inversion.public) == (0.3, "")
    source = run_of(attacks="loss,miface", public="more.csv", changes=["public=0.3"]).audit
    assert (source.public, source.inversion.public) == (0.3, "more.csv")


@pytest.mark.parametrize(
    "given",
    [{"public": "digits"}, {"public_classes": "0"}, {"gallery": True}, {"changes": ["inversion.targets=3"]}],
    ids=["public", "classes", "gallery", "set"],
)
def test_options_of_inversion_without_such_an_attack_are_refused(given):
    with pytest.raises(UsageError, match="inversion attack"):
        run_of(attacks="loss", **given)


def test_an_unknown_field_of_inversion_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        run_of(attacks="miface", changes=["inversion.target=3"])
    assert "targets" in caught.value.remedy


def test_queries_of_membership_attacks_beside_inversion_alone_are_refused():
    with pytest.raises(UsageError, match="--queries"):
        run_of(attacks="miface", queries=4)
    both = run_of(attacks="loss,miface", queries=4).audit
    assert both.attacks == (LossThreshold(queries=4),)


def config_of(**more):
    asked = InversionSettings(
        attacks=(MIFace(steps=7), GMI()), public_classes=("1", "2"), targets=4, batches=(1, 2), gallery=True, **more
    )
    audit = AuditSettings(attacks=(LossThreshold(),), inversion=asked)
    return RunConfig(data=DataChoice(source="digits"), audit=audit)


def test_a_run_with_inversion_survives_its_file(tmp_path):
    path = tmp_path / "run.toml"
    for config in (config_of(), RunConfig(data=DataChoice(source="digits"), audit=run_of(attacks="inversion").audit)):
        path.write_text(dump(config))
        assert load(path) == config


def test_what_a_file_leaves_open_can_be_said_on_the_command_line_and_the_other_way_round(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(dump(config_of()))
    changed = configured(RunOptions(config=str(path), changes=["inversion.targets=2"]), compared=True).audit.inversion
    assert (changed.targets, changed.public_classes, changed.gallery) == (2, ("1", "2"), True)
    moved = configured(RunOptions(config=str(path), public="other.csv"), compared=True).audit.inversion
    assert (moved.public, moved.public_classes) == ("other.csv", ())
    others = configured(RunOptions(config=str(path), attacks="dlg"), compared=True).audit
    assert (others.attacks, others.inversion.attacks, others.inversion.targets) == ((), (DLG(),), 4)


def test_a_table_of_inversion_needs_an_attack_of_that_kind_and_known_keys():
    with pytest.raises(UsageError, match="inversion attack"):
        from_tables({"data": {"source": "digits"}, "inversion": {"targets": 4}})
    with pytest.raises(UsageError, match=r"\[inversion\]"):
        from_tables({"data": {"source": "digits"}, "attack": [{"name": "miface"}], "inversion": {"attacks": ["x"]}})
    with pytest.raises(UsageError, match=r"\[audit\]"):
        from_tables({"data": {"source": "digits"}, "audit": {"inversion": {}}})
    found = from_tables({"data": {"source": "digits"}, "attack": [{"name": "miface"}], "inversion": {"targets": 4}})
    assert found.audit.inversion == InversionSettings(attacks=(MIFace(),), targets=4)


def test_public_classes_are_split_off_before_anything_else():
    audit = run_of(attacks="miface", public_classes="0,1,2,3,4").audit
    choice = DataChoice(source="digits", records=100, canaries={"mislabelled": 10})
    population, public = open_data(choice, audit)
    assert set(population.class_names) == {"5", "6", "7", "8", "9"}
    assert len(population) == 100
    assert set(public.label_array) <= {0, 1, 2, 3, 4}
    assert len(public) == 100
    assert "canary" not in public.groups
    whole = open_population(DataChoice(source="digits"), 0)
    assert not set(public.id_array) & set(population.id_array)
    assert set(public.id_array) <= set(whole.id_array)


def test_public_records_of_another_source_and_none():
    audit = run_of(attacks="miface", public="digits").audit
    population, public = open_data(DataChoice(source="breast-cancer"), audit)
    assert (population.name, public.name) == ("breast-cancer", "digits")
    assert open_data(DataChoice(source="digits", records=20), run_of(attacks="miface").audit).public is None


def test_a_public_table_is_read_with_the_options_of_the_private_one(table):
    audit = run_of(attacks="miface", public=str(table)).audit
    choice = DataChoice(source=str(table), options={"label": "diagnosis", "unit": "patient"})
    population, public = open_data(choice, audit)
    assert public.fingerprint == population.fingerprint


def test_attacks_that_lack_public_records_are_told_before_training():
    both = AuditSettings(attacks=(), inversion=InversionSettings(attacks=(MIFace(), GMI())))
    (line,) = without_public(both, None)
    assert line.startswith("gmi: not run")
    assert "--public" in line
    alone = AuditSettings(attacks=(), inversion=InversionSettings(attacks=(GMI(),)))
    with pytest.raises(UsageError, match="public records for gmi"):
        without_public(alone, None)
    beside = AuditSettings(attacks=(LossThreshold(),), inversion=InversionSettings(attacks=(GMI(),)))
    assert len(without_public(beside, None)) == 1
    assert without_public(run_of(attacks="miface").audit, None) == []


def test_settings_of_inversion_without_attacks_are_none():
    assert inversion_settings((), {}) is None


def test_the_list_names_both_kinds_and_marks_reconstructions(sfumato):
    found = json.loads(sfumato("list", "attacks", "--json").stdout)
    families = {entry["name"]: entry["family"] for entry in found}
    assert set(families) == set(known_attacks()) == {*attacks(), *inversions()}
    assert families["miface"] == "inversion"
    assert families["loss"] != "inversion"
    rebuilt = [name for name, kind in inversions().items() if kind.reconstruction]
    assert {e["name"] for e in found if e.get("reconstruction")} == set(rebuilt)
    text = sfumato("list", "attacks").stdout
    assert "family" in text
    assert text.count("(reconstruction)") >= len(rebuilt)


def test_a_table_of_predictions_cannot_be_inverted(sfumato, predictions):
    done = sfumato("audit", "--predictions", predictions, "--attacks", "miface")
    assert done.exit_code == 1
    assert "asks the model itself" in done.output


def test_a_released_model_has_no_public_classes(sfumato, tmp_path):
    done = sfumato("audit", "--release", tmp_path, "--attacks", "miface", "--public-classes", "0")
    assert done.exit_code == 1
    assert "--public SOURCE" in done.output


TINY = (
    "inversion",
    "miface(steps=40)",
    "miface-scores(budget=200)",
    "brep-mi(draws=256,most=20,patience=2)",
    "mirror(samples=200,generations=3)",
    "dlg(iterations=3)",
    "geiping(iterations=5,restarts=1)",
)
CHANGES = ("epochs=3", "inversion.classes=2", "inversion.steps=2", "inversion.batches=1", "inversion.attributes=20",
           "inversion.records=20")  # fmt: skip


@pytest.mark.slow
def test_inversion_end_to_end(sfumato, tmp_path):
    words = ["digits", "--public-classes", "0,1,2,3,4", "--attacks", ",".join(TINY), "--defences", "undefended"]
    words += ["--models", 2, "--records", 300, "--store", tmp_path / "store"]
    for change in CHANGES:
        words += ["--set", change]
    planned = sfumato("plan", *words)
    assert planned.exit_code == 0, planned.output
    assert "miface 4" in planned.stdout
    done = sfumato("compare", *words, "--gallery", "--out", "first")
    assert done.exit_code == 0, done.output
    assert "Inversion of undefended, record-level" in done.stdout
    assert "strongest attack" not in done.stdout  # no membership attack was asked for
    assert {p.name for p in (tmp_path / "first").iterdir()} >= {"report.html", "record.json", "gallery.html"}
    record = json.loads((tmp_path / "first" / "record.json").read_text())
    (subject,) = record["subjects"]
    tried = {one["name"] for one in subject["inversions"]} | {one["attack"] for one in subject["not_run"]}
    assert tried == {attack.method for attack in usual_inversions()}
    assert all(one["seconds"] > 0 for one in subject["inversions"])
    assert "nothing is left to reconstruct" in sfumato("plan", *words).stdout
    again = sfumato("compare", *words, "--out", "second", "--json")
    found = json.loads(again.stdout)
    assert found["design"]["trained"] == 0
    assert found["subjects"][0]["inversions"] == subject["inversions"]
    flat = [one for one in found["findings"] if one["attack"] == "miface"]
    assert {one["level"] for one in flat} == {"class", "record", "none"}
