import csv
import json

import numpy as np
import pytest

from sfumato.audit.record import AuditRecord
from sfumato.audit.strength import LABELS_ONLY, protocol_attacks
from sfumato.cli.catalogue import defences
from sfumato.cli.strengthening import attack_from
from sfumato.data.canaries import KINDS
from sfumato.training.composition import guarded

FAST = ("--set", "epochs=2", "--set", "replicates=20", "--executor", "inline", "--defences", "undefended")
SMALL = ("--records", "200", "--models", "4", "--canaries", "60")


@pytest.mark.slow
def test_full_strength_says_what_it_chose_and_what_was_scaled(sfumato, tmp_path) -> None:
    done = sfumato("compare", "digits", "--strength", "full", *SMALL, *FAST, "--out", "here")
    assert done.exit_code == 0, done.stderr
    assert "38 mislabelled" in done.stderr
    assert "lira-online, rmia, bavaria, lira-hinge" in done.stderr
    for text in ("Scaled to 4 models per recipe, where the protocol has 64.", "Scaled to 60 canaries"):
        assert text in done.stderr
        assert text in done.stdout
    assert "Worst canaries of undefended: " in done.stdout
    assert "Strength: not full, with 4 models and 60 canaries." in done.stdout  # no TPR at 1% can be resolved
    record = AuditRecord.load(tmp_path / "here")
    assert record.strength.reached == "not full"
    assert sum(record.strength.canaries.values()) == record.data.game_units == 60
    assert {row.group for row in record.subjects[0].groups} == set(record.strength.canaries)
    assert record.subjects[0].attack("lira-hinge").method == "lira-online"
    assert {"carlini2022lira"} <= set(record.citations)
    assert any("Scaled to 4 models" in notice.text for notice in record.notices)
    page = (tmp_path / "here" / "report.md").read_text()
    assert "variant of lira-online" in page
    assert "calibrated to each unit: not resolved: a rate of 0.01 for each unit by itself needs at least 99" in page
    assert "Strength of the attack" in page


def test_the_configuration_of_full_strength_repeats_it(sfumato) -> None:
    words = ("digits", "--strength", "full", *SMALL, *FAST, "--out", "x")
    assert sfumato("compare", *words, "--dump-config", "run.toml").exit_code == 0
    done = sfumato("plan", "--config", "run.toml", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["attacks"][-1] == "lira-hinge"
    assert json.loads(done.stdout)["models_per_recipe"] == 4


def test_a_usual_configuration_can_be_run_at_full_strength(sfumato) -> None:
    usual = ("digits", "--records", "200", "--models", "4", *FAST)
    assert sfumato("compare", *usual, "--dump-config", "usual.toml").exit_code == 0
    done = sfumato("plan", "--config", "usual.toml", "--strength", "full", "--canaries", "60", "--json")
    assert done.exit_code == 0, done.stderr
    assert "canaries: 38 mislabelled" in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--data-option", "canaries=natural=60"), "other kinds than clean"),
        (("--set", "fprs=0.1", "--canaries", "60"), "only the AUC"),
        (("--design", "coins", "--set", "delta=0.001"), "coins"),
        (("--canaries", "150"), "twice as many units"),
        (("--design", "halves"), "got `halves`"),
    ],
    ids=["clean", "auc", "coins", "too many", "halves"],
)
def test_what_is_weak_is_not_called_full(sfumato, words, why) -> None:
    done = sfumato("compare", "digits", "--strength", "full", "--records", "200", "--models", "4", *FAST, *words)
    assert done.exit_code == 1
    assert why in done.stderr


def test_a_table_cannot_be_attacked_at_full_strength(sfumato, tmp_path) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member", "score"])
        writer.writerows([row % 2, rng.random()] for row in range(20))
    done = sfumato("audit", "--scores", "scores.csv", "--strength", "full")
    assert done.exit_code == 1
    assert "trains models of its own" in done.stderr


def test_variants_stand_side_by_side(sfumato, tmp_path) -> None:
    names = "lira-online,lira-online(statistic=hinge, called=lira-hinge)"
    words = ("audit", "digits", "--records", "100", "--models", "4", *FAST, "--attacks", names, "--out", "here")
    done = sfumato(*words)
    assert done.exit_code == 0, done.stderr
    subject = AuditRecord.load(tmp_path / "here").subjects[0]
    assert [(one.name, one.method) for one in subject.attacks] == [("lira-online", ""), ("lira-hinge", "lira-online")]
    assert subject.attack("lira-hinge").settings["statistic"] == "hinge"
    assert "called" not in subject.attack("lira-hinge").settings


def test_every_defence_names_attacks_and_canaries_that_there_are() -> None:
    for kind in defences().values():
        made = kind.example()
        assert made.canary in KINDS, kind.name
        for text in made.adaptive:
            assert attack_from(text).method, kind.name


def test_attacks_on_labels_are_there_for_defences_that_guard_their_answers() -> None:
    made = [kind.example() for kind in defences().values()]
    assert any(guarded(one) for one in made)
    for kind in ("image", "table"):
        methods = {attack.method for attack in protocol_attacks(kind, made, attack_from)}
        assert set(LABELS_ONLY[kind]) <= methods


def test_training_a_model_says_which_branches_it_never_took(sfumato, table) -> None:
    words = ("train", table, "--label", "diagnosis", "--unit", "patient", "--set", "epochs=1", "--out", "model")
    done = sfumato(*words, "--defence", "relaxloss(alpha=0)")
    assert done.exit_code == 0, done.stderr
    assert "relaxloss never took the branch" in done.stderr
    assert "never took" not in sfumato(*words, "--defence", "label-smoothing").stderr
