"""No defence: the task as it is, against which everything is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.training.defence import Defence


@dataclass(frozen=True, kw_only=True)
class Undefended(Defence):
    """Ordinary training."""

    name: ClassVar[str] = "undefended"
    family: ClassVar[str] = "none"
    summary: ClassVar[str] = "Ordinary training, the baseline of every comparison."
