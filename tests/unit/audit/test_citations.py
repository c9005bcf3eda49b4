from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.citations import citations
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.mixup import Mixup
from sfumato.defences.undefended import Undefended


def test_every_method_that_was_used_is_cited_wrapped_ones_too():
    found = citations([LossThreshold(), LiRAOnline()], [Undefended(), Mixup(inner=LabelSmoothing())])
    expected = {m.reference for m in (LossThreshold, LiRAOnline, Mixup, LabelSmoothing)}
    assert set(found) == expected
    assert list(found) == sorted(found)
    assert all(key in entry for key, entry in found.items())


def test_nothing_used_is_nothing_cited():
    assert citations([], [Undefended()]) == {}
