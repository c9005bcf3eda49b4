"""A section of the report: what it shows, and in which order. One file each in `sections/`, found by discovery."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.audit.record import AuditRecord


@dataclass(frozen=True)
class Section(ABC):
    """One part of the report. HTML and Markdown are written from one context, so they cannot disagree.

    The partial templates are `assets/sections/<name>.html` and `assets/sections/<name>.md`.

    Attributes:
        name: short name, in lower case with hyphens; anchors and test ids come from it.
        order: sections are printed in rising order.
        title: heading.
        in_card: whether the model card has it too.
    """

    name: ClassVar[str] = ""
    order: ClassVar[int] = 0
    title: ClassVar[str] = ""
    in_card: ClassVar[bool] = False

    @property
    def testid(self) -> str:
        """The `data-testid` of the section on the page."""
        return f"section-{self.name}"

    @abstractmethod
    def context(self, record: AuditRecord) -> dict[str, Any]:
        """What the partial templates show, in words. Reads the record and computes no statistics."""
