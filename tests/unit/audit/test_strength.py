from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from sfumato.attacks.catalogue import attacks
from sfumato.attacks.membership.bavaria import BaVarIA
from sfumato.attacks.membership.gap import Gap
from sfumato.attacks.membership.label_noise import LabelNoise
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.rmia import RMIA
from sfumato.audit.compare import compare
from sfumato.audit.record import NotRun
from sfumato.audit.settings import AuditSettings
from sfumato.audit.strength import (
    CANARIES,
    KINDS,
    canary_kinds,
    full_strength,
    needed,
    ordinary_units,
    protocol_attacks,
    reached,
    refuse_attacked,
    refuse_weak,
    shares,
    strength_notices,
)
from sfumato.data.canaries import twins, with_canaries
from sfumato.data.population import Population, Unit
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.training.defence import Defence
from sfumato.training.recipe import Recipe
from sfumato.training.task import Optimizer, Task

BASE = AuditSettings(attacks=(LossThreshold(),), models=64)


@dataclass(frozen=True, kw_only=True)
class Hides(Defence):
    """Guards its answers, and has an attack of its own."""

    name: ClassVar[str] = "hides"
    canary: ClassVar[str] = "near-duplicate"
    adaptive: ClassVar[tuple[str, ...]] = ("lira-online(statistic=hinge)", "rmia(trim=0.2)", "augmentation-bits")

    called: str = ""

    def __post_init__(self):
        if self.called:
            object.__setattr__(self, "canary", self.called)

    def guard(self, logits, draws, behind):
        return logits


@dataclass(frozen=True, kw_only=True)
class LabelAttack(LossThreshold):
    """Stands for an attack that sees labels only."""

    name: ClassVar[str] = ""


def read(text):
    """Attacks by name; those with labels only are stood in for, under their name."""
    known = {"lira-online(statistic=hinge)": LiRAOnline(statistic="hinge"), "rmia(trim=0.2)": RMIA(trim=0.2)}
    return known[text] if text in known else LabelAttack(called=text, queries=len(text))


def none_there(text):
    raise UsageError(f"Expected an attack, got {text!r}.")


def test_canaries_are_shared_out_with_most_for_the_kinds_that_suit_the_defences():
    found = shares(CANARIES, [Undefended(), LabelSmoothing()])
    assert found == {
        "mislabelled": 320, "natural": 45, "out-of-distribution": 45, "blank": 45, "near-duplicate": 45,
    }  # fmt: skip
    alone = [replace(Hides(), called=kind) for kind in KINDS]
    assert sum(shares(50, alone).values()) == 50  # where all kinds suit, no other is left to have the rest
    two = shares(101, [Undefended(), Hides()])
    assert sum(two.values()) == 101
    assert set(two) == set(KINDS)
    assert abs(two["mislabelled"] - two["near-duplicate"]) <= 1
    assert min(two["mislabelled"], two["near-duplicate"]) > max(two["natural"], two["blank"])


def test_the_four_lira_variants_stand_side_by_side_on_images():
    names = [attack.name for attack in protocol_attacks("image", [Undefended()], none_there)]
    assert names == ["lira-online", "lira-hinge", "lira-logit-18", "lira-hinge-18", "bavaria", "rmia"]
    made = {attack.name: attack for attack in protocol_attacks("image", [Undefended()], none_there)}
    assert {made[name].query_set.per_record for name in ("lira-logit-18", "lira-hinge-18")} == {18}
    assert made["lira-hinge-18"].statistic == "hinge"
    tables = [attack.name for attack in protocol_attacks("table", [Undefended()], none_there)]
    assert tables == ["lira-online", "lira-hinge", "bavaria", "rmia"]


def test_a_guard_brings_attacks_on_labels_and_a_defence_its_own():
    names = [attack.name for attack in protocol_attacks("image", [Undefended(), Hides()], read)]
    assert {"gap", "label-noise", "augmentation-bits"} <= set(names)
    assert "rmia-0.2" in names  # the name rmia is taken
    assert names.count("lira-hinge") == 1  # what was made for it is among the variants already
    assert len(names) == len(set(names))
    assert "augmentation-bits" not in [attack.name for attack in protocol_attacks("table", [Hides()], read)]
    assert needed(Hides(), "table") == (
        "lira-online(statistic=logit,augmentation=none)",
        "lira-online(statistic=hinge,augmentation=none)",
        "bavaria",
        "rmia",
        "gap",
        "label-noise",
        "lira-online(statistic=hinge)",
        "rmia(trim=0.2)",
    )


def test_an_attack_that_is_not_there_stops_the_run_and_says_who_wanted_it():
    with pytest.raises(UsageError, match=r"gap for full strength, because hides guards its answers"):
        protocol_attacks("image", [Hides()], none_there)


def test_settings_at_full_strength_are_the_protocols_and_doing_it_twice_changes_nothing():
    found = full_strength("image", 5000, [Undefended()], BASE, none_there)
    assert found.scaled == ()
    assert found.settings.design == "canaries"
    assert found.settings.strength == "full"
    assert sum(found.canaries.values()) == CANARIES
    assert found.settings.attacks[0].name == "loss"
    again = full_strength("image", 5000, [Undefended()], found.settings, none_there, found.canaries)
    assert again == found


def test_what_is_scaled_is_said():
    found = full_strength("table", 600, [Undefended()], replace(BASE, models=8, canaries=60), none_there)
    assert sum(found.canaries.values()) == 60
    assert found.settings.canaries == 0  # the data designate them from now on
    assert [text for text in found.scaled if "8 models" in text and "64" in text]
    assert [text for text in found.scaled if "60 canaries" in text and "500" in text]


def test_too_few_units_and_coins_are_refused():
    with pytest.raises(UsageError, match="twice as many units"):
        full_strength("table", 999, [Undefended()], BASE, none_there)
    with pytest.raises(UsageError, match="coins"):
        full_strength("table", 5000, [Undefended()], replace(BASE, design="coins", delta=1e-3), none_there)


@pytest.fixture
def strong(population):
    """60 people, 20 of them canaries, as the protocol wants them."""
    settings = replace(BASE, models=4, canaries=20)
    found = full_strength("table", population.units, [Undefended()], settings, none_there)
    return found.settings, with_canaries(population, found.canaries, 0)


def test_a_run_is_held_to_what_it_is_called(strong, recipes, population):
    settings, marked = strong
    refuse_weak(marked, recipes, settings)
    refuse_weak(population, recipes, BASE)  # a usual run may be what it likes
    clean = with_canaries(population, {"natural": 20}, 0)
    for wrong, data, why in (
        (settings, clean, "other kinds than clean"),
        (replace(settings, canaries=20), population, "other kinds than clean"),
        (replace(settings, design="halves"), marked, "no canaries"),
        (replace(settings, fprs=(0.1,)), marked, "only the AUC"),
        (replace(settings, attacks=tuple(a for a in settings.attacks if a.name != "rmia")), marked, "the attack rmia"),
    ):
        with pytest.raises(UsageError, match=why):
            refuse_weak(data, recipes, wrong)


def test_one_variant_of_lira_is_not_the_best_of_them(strong, recipes):
    settings, marked = strong
    one = replace(settings, attacks=(LiRAOnline(), BaVarIA(), RMIA()))
    with pytest.raises(UsageError, match=r"lira-online\(statistic=hinge"):
        refuse_weak(marked, recipes, one)
    made_for_it = replace(settings, attacks=(*settings.attacks, Gap(), LabelNoise()))
    with pytest.raises(UsageError, match=r"the attack rmia\(trim=0.2\) for undefended"):
        refuse_weak(marked, [replace(recipes[0], defence=Hides())], made_for_it)


def test_kinds_that_were_left_out_are_said_and_the_one_that_suits_a_defence_is_missed(recipes, compared, population):
    given = full_strength(
        "table", population.units, [Undefended()], replace(BASE, models=4), none_there, {"mislabelled": 20}
    )
    left = [text for text in given.scaled if "kind" in text]
    assert len(left) == 1
    assert all(kind in left[0] for kind in KINDS if kind != "mislabelled")
    for kinds, reason in (({"mislabelled": 20}, []), ({"blank": 20}, ["mislabelled"])):
        marked, settings = with_canaries(population, kinds, 0), given.settings
        found = reached(marked, settings.membership(marked), recipes[:1], compared.run.record.subjects[:1], settings)
        assert found.reached != "full"
        assert [text.rpartition("kind ")[2].partition(",")[0] for text in found.missing if "kind" in text] == reason


def test_what_was_reached_follows_from_what_was_measured(strong, recipes, compared):
    settings, marked = strong
    membership, subject = settings.membership(marked), compared.run.record.subjects[0]
    rate = subject.attacks[0].findings[0].model_copy(update={"name": "tpr_at_fpr", "at": 0.01, "resolvable": True})
    fine = subject.model_copy(
        update={"not_run": [], "attacks": [subject.attacks[0].model_copy(update={"findings": [rate]})]}
    )
    small = reached(marked, membership, recipes[:1], [fine], settings)
    assert (small.reached, small.models, sum(small.canaries.values())) == ("scaled", 4, 20)
    assert len(small.scaled) == 2
    assert {notice.severity for notice in strength_notices(small)} == {"theoretical"}
    blind = reached(marked, membership, recipes[:1], [subject], settings)  # no TPR at 1% can be resolved there
    assert blind.reached == "not full"
    assert any("only the AUC" in text for text in blind.missing)
    failed = fine.model_copy(update={"not_run": [NotRun(attack="rmia", reasons=["no moon"])]})
    assert any("rmia could not run: no moon" in text for text in
               reached(marked, membership, recipes[:1], [failed], settings).missing)  # fmt: skip
    extra = fine.model_copy(update={"not_run": [NotRun(attack="loss", reasons=["no moon"])]})
    assert reached(marked, membership, recipes[:1], [extra], settings).missing == []  # not of the protocol
    assert reached(marked, membership, recipes[:1], [fine], BASE) is None
    assert any(notice.severity == "critical" for notice in strength_notices(blind))
    assert strength_notices(None) == []


def test_kinds_count_units_in_the_game(strong):
    settings, marked = strong
    found = canary_kinds(marked, settings.membership(marked))
    assert sum(found.values()) == 20
    assert set(found) == set(KINDS)


def test_hyper_parameters_are_tuned_on_units_that_nobody_attacks(strong, population):
    settings, marked = strong
    membership = settings.membership(marked)
    units = ordinary_units(marked, membership)
    assert not membership.in_game[units].any()
    assert not membership.public[units].any()
    assert len(twins(marked))
    assert not np.isin(units, twins(marked)).any()
    assert membership.matrix[:, units].all()
    chosen = np.isin(np.arange(marked.units), units)
    refuse_attacked(marked.take(np.flatnonzero(marked.rows_of(chosen))), marked, membership)
    with pytest.raises(UsageError, match="attacked"):
        refuse_attacked(marked, marked, membership)
    one = marked.take(np.flatnonzero(marked.unit_of == twins(marked)[0]))
    with pytest.raises(UsageError, match="near copies"):
        refuse_attacked(one, marked, membership)
    everyone = BASE.membership(population)
    with pytest.raises(UsageError, match="attacks them all"):
        ordinary_units(population, everyone)


def test_every_attack_of_the_protocol_is_in_the_catalogue():
    assert {spelled.partition("(")[0] for spelled in needed(Undefended(), "image")} <= set(attacks())


def test_on_images_the_variants_with_18_queries_run_and_only_canaries_are_asked(tmp_path):
    rng = np.random.default_rng(0)
    images = Population(
        rng.random((60, 1, 8, 8)).astype(np.float32), Unit("example"), labels=rng.integers(0, 3, 60), kind="image"
    )
    found = full_strength("image", 60, [Undefended()], replace(BASE, models=4, canaries=24, replicates=10), none_there)
    marked = with_canaries(images, found.canaries, 0)
    whole = LiRAOnline(augmentation="mirror-shift", called="asked-of-all")
    settings = replace(found.settings, attacks=(*found.settings.attacks, whole))
    recipe = Recipe(Task(model=MLP(hidden=(8,)), optimizer=Optimizer(lr=0.1), epochs=3, batch_size=16), Undefended())
    record = compare(marked, [recipe], settings, Store(tmp_path), executor="inline").record
    subject = record.subjects[0]
    assert subject.not_run == []
    assert subject.attack("lira-logit-18").queries.startswith("18 per record")
    assert subject.attack("lira-logit-18").per_target == subject.attack("asked-of-all").per_target
    assert subject.attack("lira-hinge-18").per_target != subject.attack("lira-logit-18").per_target
    assert {row.group for row in subject.groups} == set(KINDS)
