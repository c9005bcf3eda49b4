"""What is inverted, how often, and what is public."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.attacks.inversion.base import InversionAttack
from sfumato.errors import UsageError
from sfumato.validate import at_least


@dataclass(frozen=True, kw_only=True)
class InversionSettings:
    """How inversion is audited.

    Args:
        attacks: instances of inversion attacks, each method once.
        public: a source of public records (as on a command line), or "" for none.
        public_classes: names of classes of the data that count as public: they are taken out of the population, no
            model is trained on them, and attackers may have them. Not beside `public`.
        targets: how many models of each recipe are attacked, in complementary pairs.
        classes: how many classes of each are inverted, drawn at random; 0 for all.
        batches: sizes of the batches whose update is inverted.
        steps: how many updates of each size.
        attributes: columns of a table that are hidden in turn, by position; () for up to 5 drawn at random among
            those whose commonest value has at most 80 % of the records, where there are any.
        records: how many records have an attribute hidden, of members and of others each.
        bins: most values of a hidden attribute; continuous ones are cut into as many intervals of equal frequency.
        evaluator: preset of the evaluation model; "" for the one that differs most from the recipe's.
        knowledge: whether a network is trained on reconstructions alone, to see what it learns from them.
        gallery: whether pictures are kept for a local file. They show people.
    """

    attacks: tuple[InversionAttack[Any], ...]
    public: str = ""
    public_classes: tuple[str, ...] = ()
    targets: int = 2
    classes: int = 0
    batches: tuple[int, ...] = (1, 8)
    steps: int = 4
    attributes: tuple[int, ...] = ()
    records: int = 200
    bins: int = 4
    evaluator: str = ""
    knowledge: bool = False
    gallery: bool = False

    def __post_init__(self) -> None:
        names = [attack.method for attack in self.attacks]
        if not names:
            raise UsageError("Expected at least one inversion attack, got none.", remedy="See `sfumato list attacks`.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(
                f"Expected each inversion attack once, got {twice[0]!r} more than once.",
                remedy="Results are kept by name; run the other settings apart.",
            )
        if self.public and self.public_classes:
            raise UsageError(
                "Expected `public` or `public_classes`, got both.", remedy="Public records come from one place."
            )
        for name in ("targets", "steps", "records"):
            at_least(name, getattr(self, name), 1)
        at_least("classes", self.classes, 0)
        at_least("bins", self.bins, 2)
        for size in self.batches:
            at_least("batches", size, 1)
