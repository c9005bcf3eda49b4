"""The parts of a chain of defences as one: its objective, its update, its course, what it releases and guards."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sfumato.accounting.history import History
from sfumato.data.population import Population
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.plan import Plan
from sfumato.private.release import Release
from sfumato.training.defence import Defence, PerExampleLoss, ReferenceDefence, chain
from sfumato.training.seen import Objective, Seen


def composed_objective(defence: Defence, base: PerExampleLoss) -> Objective:
    """The objective of the whole chain over the task's own loss."""

    def innermost(seen: Seen) -> torch.Tensor:
        return base(seen.outputs, seen.targets)

    objective: Objective = innermost
    for part in reversed(chain(defence)):
        objective = _around(part, objective)
    return objective


def course_of(defence: Defence) -> Defence | None:
    """The part with a course of its own, or None.

    Raises:
        UsageError: if two parts have one.
    """
    found = [part for part in chain(defence) if type(part).course is not Defence.course]
    if len(found) > 1:
        raise UsageError(
            f"Expected one claim on the update, got a course of trainings of each of "
            f"{' and '.join(part.name for part in found)}.",
            remedy="Keep one of them.",
        )
    return found[0] if found else None


def guarded(defence: Defence) -> list[Defence]:
    """The parts with a guard on answers, outermost first."""
    return [part for part in chain(defence) if part.guards]


def only_guards(part: Defence) -> bool:
    """Whether a part does nothing but to stand between any network and whoever asks it."""
    shapes = (
        "configure", "prepare", "prepare_for", "transform", "loss", "objective", "extra", "course", "plan", "stages",
        "front", "release", "fit_guard",
    )  # fmt: skip
    kind = type(part)
    alone = not isinstance(part, ReferenceDefence)
    return part.guards and alone and all(getattr(kind, name) is getattr(Defence, name) for name in shapes)


def guards_at_random(defence: Defence) -> bool:
    """Whether a guard of the chain may answer the same record in another way each time."""
    return any(part.random_answers for part in guarded(defence))


def labels_pass(defence: Defence) -> bool:
    """Whether the network's own labels come through all guards of the chain."""
    return all(part.keeps_labels for part in guarded(defence))


def fitted_guards(defence: Defence) -> list[Defence]:
    """Those of them whose guard is fitted after the training, innermost first.

    Raises:
        UsageError: if two have one name: what they keep goes by it.
    """
    found = [part for part in reversed(chain(defence)) if type(part).fit_guard is not Defence.fit_guard]
    if len({part.name for part in found}) < len(found):
        raise UsageError(
            f"Expected each fitted guard once, got {' and '.join(part.name for part in found)}.",
            remedy="Keep one of them.",
        )
    return found


def reference_share(defence: Defence) -> float:
    """The share of the units that is set aside as reference data, 0 where no part asks for any.

    Raises:
        UsageError: if two parts do: what one takes for records that the network never saw, the other may fit it to.
    """
    found = [part for part in chain(defence) if isinstance(part, ReferenceDefence)]
    if len(found) > 1:
        raise UsageError(
            f"Expected one part that sets reference records aside, got {' and '.join(part.name for part in found)}.",
            remedy="Keep one of them: both would take the same records, and for different uses.",
        )
    return found[0].reference_fraction if found else 0.0


def earlier_of(defence: Defence) -> History:
    """The earlier history of the whole chain, innermost first."""
    history = History()
    for part in reversed(chain(defence)):
        history += part.earlier()
    return history


def update_of(defence: Defence, population: Population) -> Plan | None:
    """The private update of the chain, or None for the ordinary one.

    Raises:
        UsageError: if two parts claim the update.
        NotPrivateError: if a part of the chain makes one example's loss depend on others under a private update, or
            has released the records before it.
    """
    parts = chain(defence)
    claims = [(part, plan) for part in parts if (plan := part.plan(population)) is not None]
    if len(claims) > 1:
        raise UsageError(
            f"Expected one claim on the update, got {' and '.join(part.name for part, _ in claims)}.",
            remedy="Keep one of them.",
        )
    if not claims:
        return None
    _refuse_course(defence, claims[0][0])
    for part in parts:
        if part.couples:
            raise NotPrivateError(
                f"Expected each example to have its own loss under {claims[0][0].name}, got {part.name}: "
                f"{part.couples}.",
                remedy=f"Leave {part.name} out.",
            )
        if part.release(population) is not None:
            raise NotPrivateError(
                f"Expected one claim of privacy, got {part.name}, which releases the records once, and "
                f"{claims[0][0].name}, whose noise would protect what was released already.",
                remedy=f"Leave one of them out: behind {part.name} any ordinary training keeps the guarantee.",
            )
    claimed, plan = claims[0]
    stages = tuple(mechanism for part in parts for mechanism in part.stages(plan))
    return claimed.plan(population, stages) if stages else plan


def _refuse_course(defence: Defence, claimed: Defence) -> None:
    """A course that does not host the update would train without it."""
    part = course_of(defence)
    if part is not None and not part.hosts_update:
        raise NotPrivateError(
            f"Expected one claim on the update, got {claimed.name} and {part.name}, whose course reads the records "
            "outside any mechanism.",
            remedy="Leave one of them out.",
        )


class Releasing(NamedTuple):
    """A release, and the part of the defence that makes it."""

    release: Release
    part: Defence


def release_of(defence: Defence, population: Population) -> Releasing | None:
    """What the chain releases in place of the training records, or None.

    Raises:
        UsageError: if two parts release them.
        NotPrivateError: if another part reads them in a way of its own.
    """
    found = [Releasing(made, part) for part in chain(defence) if (made := part.release(population)) is not None]
    if len(found) > 1:
        raise UsageError(
            f"Expected one release of the records, got {' and '.join(each.part.name for each in found)}.",
            remedy="Keep one of them.",
        )
    if found:
        _refuse_readers(defence, found[0].part)
    return found[0] if found else None


def _refuse_readers(defence: Defence, releasing: Defence) -> None:
    """A course, or a guard that is fitted, would read the records behind the release."""
    readers = [part for part in (course_of(defence), *fitted_guards(defence)) if part is not None]
    if readers:
        raise NotPrivateError(
            f"Expected nothing to read the records behind {releasing.name}, got {readers[0].name}, which reads them "
            "in a way of its own.",
            remedy=f"Leave {readers[0].name} out.",
        )


def _around(part: Defence, inner: Objective) -> Objective:
    return lambda seen: part.objective(seen, inner)
