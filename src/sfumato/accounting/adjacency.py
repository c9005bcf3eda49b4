"""When two data sets count as neighbours. No number about privacy means anything without it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from sfumato.validate import one_of

if TYPE_CHECKING:
    from dp_accounting import NeighboringRelation


class Adjacency(StrEnum):
    """How a data set may change by one unit (Ponomareva et al. 2023, section 2.1)."""

    ADD_OR_REMOVE_ONE = "ADD_OR_REMOVE_ONE"
    REPLACE_ONE = "REPLACE_ONE"
    REPLACE_SPECIAL = "REPLACE_SPECIAL"

    @property
    def words(self) -> str:
        """The relation as part of a sentence."""
        return _WORDS[self]

    @property
    def swaps(self) -> int:
        """How many changes of this kind exchange one unit for another: what a game with fixed-size sets needs."""
        return 1 if self is Adjacency.REPLACE_ONE else 2

    @property
    def relation(self) -> NeighboringRelation:
        """The same relation in dp-accounting's words."""
        from dp_accounting import NeighboringRelation  # seconds and megabytes that a plan alone does not need

        return NeighboringRelation[self.value]

    @classmethod
    def named(cls, name: str) -> Adjacency:
        """The relation called `name`.

        Raises:
            UsageError: if there is none of that name.
        """
        one_of("adjacency", str(name), [relation.value for relation in cls])
        return cls(str(name))


_WORDS = {
    Adjacency.ADD_OR_REMOVE_ONE: "one unit added or removed",
    Adjacency.REPLACE_ONE: "one unit replaced by another",
    Adjacency.REPLACE_SPECIAL: "one unit's contribution set to zero",
}
