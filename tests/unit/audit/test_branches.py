from dataclasses import dataclass
from typing import ClassVar

import pytest

from sfumato.audit.branches import branch_notices, never_taken
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.training.defence import Defence


@dataclass(frozen=True, kw_only=True)
class Branching(Defence):
    """Has branches, whatever they do."""

    name: ClassVar[str] = "branching"
    branches: ClassVar[tuple[str, ...]] = ("ascent", "flattening")


@pytest.mark.parametrize(
    ("tallies", "expected"),
    [
        ([{"ascent": 3.0, "flattening": 0.5}], {}),
        ([{"ascent": 3.0, "flattening": 0.0}], {"branching": ["flattening"]}),
        ([{"ascent": 3.0}, {"flattening": 1.0}], {}),
        ([{}, {}], {"branching": ["ascent", "flattening"]}),
        ([], {}),
    ],
)
def test_a_branch_counts_as_taken_if_any_model_took_it(tallies, expected):
    assert never_taken(LabelSmoothing(inner=Branching()), tallies) == expected


def test_the_notice_names_recipe_part_and_branch_and_says_what_to_do():
    (notice,) = branch_notices("mine", Branching(), [{"tallies": {"ascent": 1.0}}, {"tallies": {}}])
    assert notice.severity == "theoretical"
    assert "mine: branching never took the branch 'flattening' in any of the 2 models" in notice.text
    assert notice.remedy


def test_models_of_unknown_tallies_say_nothing():
    assert branch_notices("mine", Branching(), [{"history": []}]) == []
    assert branch_notices("plain", LabelSmoothing(), [{"tallies": {}}]) == []


def test_private_steps_count_no_branches_and_are_no_evidence():
    private = {"tallies": {}, "kernels": {"private": "capture"}}
    assert branch_notices("mine", Branching(), [private]) == []
    assert len(branch_notices("mine", Branching(), [private, {"tallies": {"ascent": 1.0}, "kernels": {}}])) == 1
