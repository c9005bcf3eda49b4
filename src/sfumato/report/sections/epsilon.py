"""Measured lower bounds on epsilon, each beside the most that its test could have certified."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AuditRecord, EpsilonFinding
from sfumato.report.charts import bar_strip, swatch
from sfumato.report.section import Section
from sfumato.report.wording import count, number, rate_label


class Bound(NamedTuple):
    """One lower bound in words."""

    subject: str
    swatch: Markup
    finding: EpsilonFinding
    value: str
    ceiling: str
    confidence: str
    delta: str
    n: str
    strip: Markup | None


class EpsilonSection(Section):
    """Section 10."""

    name: ClassVar[str] = "epsilon"
    order: ClassVar[int] = 80
    title: ClassVar[str] = "Lower bounds on epsilon"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        found = [(index, s.name, bound) for index, s in enumerate(record.subjects) for bound in s.epsilon]
        top = max((b.ceiling for _, _, b in found if math.isfinite(b.ceiling)), default=0.0)
        return {"bounds": [_bound(index, name, bound, top) for index, name, bound in found]}


def _bound(index: int, subject: str, bound: EpsilonFinding, top: float) -> Bound:
    drawable = top > 0 and math.isfinite(bound.value) and math.isfinite(bound.ceiling)
    return Bound(
        subject,
        swatch(index),
        bound,
        number(bound.value),
        number(bound.ceiling),
        rate_label(bound.confidence),
        f"{bound.delta:g}",
        count(bound.n) if bound.n else "",
        bar_strip(bound.value, bound.ceiling, top) if drawable else None,
    )
