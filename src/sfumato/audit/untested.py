"""What an audit left out, in sentences: nobody may take silence for a test."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.audit.inversion.wording import NO_MEMBERSHIP, left_untested
from sfumato.audit.queries import WEIGHTS
from sfumato.audit.record import Subject

WEIGHTS_UNTESTED = "attacks with access to the weights or gradients"
LABELS_UNTESTED = "attacks that see labels only"
NOT_TESTED = ("model stealing", "an attacker who knows the other training records")


def untested(subjects: Sequence[Subject]) -> list[str]:
    """What was left out; of attacks with the weights, or with labels only, some may have been tried."""
    inversions = [result for subject in subjects for result in subject.inversions]
    tried = any(
        any(attack.access in WEIGHTS for attack in subject.attacks)
        or any(row.threat == "released weights" for row in subject.query_risk)
        for subject in subjects
    )
    seen = {attack.access for subject in subjects for attack in subject.attacks} | {one.access for one in inversions}
    weights = f"further {WEIGHTS_UNTESTED}" if tried or "weights" in seen else WEIGHTS_UNTESTED
    left = [left_untested(subjects), *([] if any(subject.attacks for subject in subjects) else [NO_MEMBERSHIP])]
    return [weights, *([] if "labels" in seen else [LABELS_UNTESTED]), *(one for one in left if one), *NOT_TESTED]
