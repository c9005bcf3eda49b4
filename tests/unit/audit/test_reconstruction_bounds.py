"""What a guarantee permits of each game, and the sentences where it speaks of something else."""

import numpy as np
import pytest

from sfumato.accounting.adjacency import Adjacency
from sfumato.accounting.guarantee import NoGuarantee, guarantee
from sfumato.accounting.history import Event, History
from sfumato.accounting.reconstruction import rero_bound, rero_gaussian
from sfumato.audit.inversion.bounds import bounds_for, unit_is_class
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
    assert found.permitted > 0.4
    assert "population" in found.note


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


def test_without_a_guarantee_there_is_no_bound():
    assert bounds_for("label", NoGuarantee("none"), population(), 0.1, "planted_label") == []


@pytest.mark.parametrize(("game", "prior"), [("other", 0.1), ("label", 0.0), ("label", 1.5)])
def test_what_cannot_be_is_refused(game, prior):
    with pytest.raises(UsageError):
        bounds_for(game, guaranteed(), population(), prior, "planted_label")
