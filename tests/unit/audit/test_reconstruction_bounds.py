"""What a guarantee permits of each game, and the sentences where it speaks of something else."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import NoGuarantee, guarantee
from sfumato.accounting.history import Event, History
from sfumato.accounting.reconstruction import rero_bound, rero_gaussian
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.inversion.bounds import bounds_for
from sfumato.audit.inversion.guesses import AttributeGuesses
from sfumato.audit.inversion.measures import attribute_measures
from sfumato.audit.inversion.play_attribute import success_without
from sfumato.audit.settings import AuditSettings
from sfumato.data.classes import unit_is_class
from sfumato.data.population import Population, Unit
from sfumato.errors import UsageError
from sfumato.private.plan import Plan


def guaranteed(unit="example", **changes):
    fields = {
        "sample_rate": 0.1, "steps": 50, "expected_batch_size": 8, "noise_multiplier": 2.0, "delta": 1e-5,
        "adjacency": Adjacency.ADD_OR_REMOVE_ONE, "unit": unit,
    }  # fmt: skip
    mechanism = Plan(**(fields | changes)).mechanism(audit_only=True)
    return guarantee(History((Event("training", "DP-SGD", 12, mechanism),)))


def population(unit=None, labels=(0, 0, 0, 1, 1, 1)):
    records = np.arange(12, dtype=np.float32).reshape(6, 2)
    return Population(records, Unit("person", None if unit is None else np.array(list(unit))), labels=np.array(labels))


def only(*given):
    (found,) = bounds_for(*given)
    return found


def test_a_planted_label_is_bounded_by_the_guarantee_of_its_unit():
    found = only("label", guaranteed(), population(), 1 / 9, "planted_label")
    assert found.permitted == pytest.approx(float(rero_bound(guaranteed(), [1 / 9])[0]))
    assert found.applies
    assert found.prior == 1 / 9
    assert found.unit == "example"
    assert "exact" in found.note


def test_a_hidden_attribute_is_bounded_and_the_prior_explained():
    found = only("attribute", guaranteed(), population(), 0.4, "attribute_accuracy")
    assert found.applies
    assert found.permitted == pytest.approx(float(rero_bound(guaranteed(), [0.4], group_size=2)[0]))  # one for another
    assert "never saw" in found.note


def test_what_a_model_tells_of_records_that_it_never_saw_is_no_breach():
    """A model that knows the population better than the public records do is right on everybody's attribute."""
    truth, members = np.zeros((2, 200), dtype=np.int64), np.tile(np.arange(200) % 2 == 0, (2, 1))
    right = np.where(np.arange(200) // 2 % 10 < 8, truth, 1)  # eight of ten, of members and of others
    poor = np.where(np.arange(200) % 2 + np.arange(200) // 2 % 2 == 1, truth, 1)
    units = np.tile(np.arange(200), (2, 1))
    found = AttributeGuesses(right, poor, truth, members, units)
    prior = success_without(found, 0.95)
    weak = guaranteed(noise_multiplier=60.0)  # it permits next to nothing
    bound = only("attribute", weak, population(), prior, "attribute_accuracy")
    measured = attribute_measures(found, AuditSettings(models=2, attacks=(LossThreshold(),)))[0].attacked
    assert 0.8 < prior < 0.9
    assert measured.low < bound.permitted
    with_baseline = only("attribute", weak, population(), 0.5, "attribute_accuracy")
    assert measured.low > with_baseline.permitted  # what the baseline alone would have called broken


def test_the_prior_of_an_attribute_is_at_least_that_of_the_population():
    truth, members = np.zeros((2, 40), dtype=np.int64), np.tile(np.arange(40) < 20, (2, 1))
    found = AttributeGuesses(truth + 1, truth, truth, members, np.tile(np.arange(40), (2, 1)))
    assert success_without(found, 0.95) == 1.0
    assert success_without(replace(found, members=np.ones((2, 40), bool)), 0.95) is None


def test_a_guarantee_about_records_bounds_what_a_units_other_records_tell_as_a_group():
    made, swapped = population("aabbcc"), 2 * 2
    found = only("attribute", guaranteed("example"), made, 0.4, "attribute_accuracy")
    assert found.permitted == pytest.approx(float(rero_bound(guaranteed(), [0.4], group_size=swapped)[0]))
    assert "group of 2" in found.note
    whole = only("attribute", guaranteed("person", max_records_per_unit=2), made, 0.4, "attribute_accuracy")
    assert whole.permitted < found.permitted
    step = only("gradient", guaranteed("example"), made, 0.1, "identified", "unit")
    assert step.permitted == pytest.approx(float(rero_gaussian([0.1], 2.0, group_size=2)[0]), rel=2e-2)
    assert "group of 2" in step.note
    alone = only("gradient", guaranteed("example"), made, 0.1, "identified", "record")
    assert alone.permitted == pytest.approx(float(rero_gaussian([0.1], 2.0)[0]), rel=5e-3)
    planted = only("label", guaranteed("example"), made, 0.1, "planted_label")
    assert planted.permitted == pytest.approx(float(rero_bound(guaranteed(), [0.1])[0]))


def test_one_step_on_a_known_batch_has_the_closed_form():
    found = only("gradient", guaranteed(), population(), 1 / 32, "identified")
    assert found.permitted == pytest.approx(float(rero_gaussian([1 / 32], 2.0)[0]), rel=5e-3)
    assert "sampling hides nothing" in found.note


def test_how_a_class_of_many_units_looks_is_not_bounded():
    for made in (population(), population(unit="aabbcc"), population(unit="ababab")):
        found = only("class", guaranteed(), made, 0.1, "evaluator_accuracy_1")
        assert not found.applies
        assert found.permitted == 1.0
        assert "does not bound" in found.note


def test_the_number_of_units_that_share_a_class_is_named():
    found = only(
        "class", guaranteed("person", max_records_per_unit=2), population("abcaac"), 0.1, "evaluator_accuracy_1"
    )
    assert "up to 3 units (person)" in found.note
    found = only(
        "class", guaranteed("person", max_records_per_unit=3), population("aabaab"), 0.1, "evaluator_accuracy_1"
    )
    assert "up to 2 units (person)" in found.note


def test_a_class_that_is_one_unit_is_bounded_by_the_guarantee_about_it():
    made = population("aaabbb")
    found = only("class", guaranteed("person", max_records_per_unit=3), made, 0.1, "evaluator_accuracy_1")
    assert found.applies
    assert found.permitted == pytest.approx(float(rero_bound(guaranteed(), [0.1])[0]))
    assert "all of it" in found.note


def test_for_a_class_that_is_one_unit_a_guarantee_about_records_is_that_of_a_group():
    found = only("class", guaranteed("example"), population("aaabbb"), 0.1, "evaluator_accuracy_1")
    assert found.applies
    assert found.permitted == pytest.approx(float(rero_bound(guaranteed(), [0.1], group_size=3)[0]))
    assert found.permitted > float(rero_bound(guaranteed(), [0.1])[0])
    assert "group of 3" in found.note


@pytest.mark.parametrize(
    ("unit", "labels", "expected"),
    [
        ("aaabbb", (0, 0, 0, 1, 1, 1), True),
        ("aaabbb", (0, 0, 1, 1, 1, 1), False),
        ("aaaaaa", (0, 0, 0, 1, 1, 1), False),
        ("aabbcc", (0, 0, 0, 0, 1, 1), False),
    ],
)
def test_whether_a_class_is_a_unit(unit, labels, expected):
    assert unit_is_class(population(unit, labels)) is expected


def test_what_is_no_rate_is_not_compared():
    found = only("gradient", guaranteed(), population(), 0.1, "mse")
    assert not found.applies
    assert found.permitted == 1.0


def test_a_game_that_a_blind_guess_wins_is_not_compared():
    found = only("gradient", guaranteed(), population(), 1.0, "identified")
    assert not found.applies
    assert "too few others" in found.note


def test_without_a_guarantee_there_is_no_bound():
    assert bounds_for("label", NoGuarantee("none"), population(), 0.1, "planted_label") == []


@pytest.mark.parametrize(("game", "prior"), [("other", 0.1), ("label", 0.0), ("label", 1.5)])
def test_what_cannot_be_is_refused(game, prior):
    with pytest.raises(UsageError):
        bounds_for(game, guaranteed(), population(), prior, "planted_label")
