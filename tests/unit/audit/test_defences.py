from dataclasses import dataclass
from typing import ClassVar

from sfumato.audit.defences import needs_of
from sfumato.audit.subject import defence_summary
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.mixup import Mixup
from sfumato.training.defence import ReferenceDefence


@dataclass(frozen=True, kw_only=True)
class Asks(ReferenceDefence):
    """Asks for everything."""

    name: ClassVar[str] = "asks"
    reconstruction: ClassVar[str] = "The schedule is not known."
    needs_features: ClassVar[bool] = True

    def extra(self, features, classes):
        return None

    def course(self, workshop):
        return workshop.network()

    def guard(self, logits, draws, behind):
        return logits

    def fit_guard(self, workshop, network):
        return {}

    @property
    def trainings(self):
        return 2.5


def test_needs_say_what_is_asked_for_and_nothing_else():
    told = " ".join(needs_of(Asks(reference_fraction=0.25)))
    for word in ("reference data: 25%", "features", "parameters of its own", "a course", "fitted after"):
        assert word in told
    assert needs_of(LabelSmoothing()) == []


def test_the_summary_speaks_for_the_whole_chain():
    made = defence_summary(LabelSmoothing(inner=Asks(inner=Mixup())))
    assert made.name == "label-smoothing"
    assert made.reconstruction == "The schedule is not known."
    assert made.guard
    assert made.couples == Mixup.couples
    assert made.trainings == 2.5
    assert len(made.needs) == 5
    plain = defence_summary(LabelSmoothing())
    assert (plain.reconstruction, plain.guard, plain.needs, plain.couples, plain.trainings) == ("", False, [], "", 1.0)
