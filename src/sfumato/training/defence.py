"""What a defence is: up to ten parts, each of them optional, each written once per method.

    configure the task · prepare the model · transform the batch · per-example loss · update · what came earlier ·
    stages before the first step, with a layer they fit · release of the records in place of themselves ·
    guard on answers

A defence wraps an inner one, part by part. It never runs an attack.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import nn

from sfumato.accounting.history import History
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.data.population import Population
from sfumato.errors import NotPrivateError, UsageError
from sfumato.private.noise.source import NoiseSource
from sfumato.private.plan import Plan
from sfumato.private.release import Release
from sfumato.training.draws import Draws
from sfumato.training.task import Task

PerExampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Batch(NamedTuple):
    """A folded batch of a stack of M models.

    `x` is [M * batch, *shape], `targets` soft labels [M * batch, classes] (each row sums to 1), both laid out model
    after model (see `draws.fold`).
    """

    x: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Defence(ABC):  # noqa: B024 - every part has the identity as its default
    """A way to train (or to answer) that is meant to leak less.

    Each part has the identity as its default. All tensors are folded: rows of M models, one after the other; a part
    must treat rows independently, or, where it mixes records (mixup), stay within each model's rows by using `draws`.

    Args:
        inner: the defence that this one is wrapped around.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "empirical"  # "empirical", "formal" or "none"; only "formal" may yield a guarantee
    reference: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    couples: ClassVar[str] = ""  # why its parts make one example's loss depend on others, or ""

    inner: Defence | None = None

    @classmethod
    def example(cls) -> Defence:
        """One with typical numbers, for lists and contract tests; methods with duties of the user's fill them in."""
        return cls()

    def configure(self, task: Task) -> Task:
        """The task with this defence's hyper-parameters (weight decay, epochs, patience)."""
        return task

    def prepare(self, model: nn.Module) -> nn.Module:
        """The network with this defence's layers; may change `model` in place and must return it."""
        return model

    def prepare_for(self, model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """As `prepare`, for a part that runs the network to see what is inside.

        Args:
            model: as for `prepare`.
            shape: of one input of the network.
        """
        return self.prepare(model)

    def transform(self, batch: Batch, draws: Draws) -> Batch:
        """The batch that is trained on. Random numbers come from `draws` only."""
        return batch

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, inner: PerExampleLoss) -> torch.Tensor:
        """Per-example loss.

        Args:
            outputs: logits [rows, outputs]; one column for the one-logit binary head.
            targets: soft labels [rows, classes].
            inner: the loss of the inner defence, or of the task.

        Returns:
            [rows], one value per example, which no other example influences.
        """
        return inner(outputs, targets)

    def plan(self, population: Population, alongside: Sequence[Mechanism] = ()) -> Plan | None:
        """The private update that replaces the ordinary one, or None. Only one part of a chain may claim the update.

        Args:
            population: for the unit of privacy alone; nothing may be computed from its records, their number included.
            alongside: the stages of all parts of the chain; a target is for the composition with them.
        """
        return None

    def stages(self, plan: Plan) -> tuple[Mechanism, ...]:
        """Mechanisms through which this part reads the training records before the first step; each becomes an event.

        Args:
            plan: of the private update, whose unit and relation they share; its noise may still be solved for.

        Raises:
            NotPrivateError: if this part cannot protect the plan's unit.
        """
        return ()

    def front(self, shape: tuple[int, ...]) -> nn.Module | None:
        """A layer in front of the network that is not trained but fitted by `fit_front`; None for none.

        Its state has the same names and shapes before and after the fit: weights that were saved are loaded into it.

        Args:
            shape: of one input.
        """
        return None

    def release(self, population: Population) -> Release | None:
        """What this part releases of the training records in place of themselves, or None.

        It happens once, before anything else reads them. All that follows sees `released` alone, and is ordinary
        training. Only one part of a chain may do it, and none under a private update. Its `front`, if any, is made of
        public numbers: it is not fitted, and stands before the release as it stands before each query.

        Args:
            population: for the unit of privacy and the number of classes; nothing else may be taken from it.

        Raises:
            NotPrivateError: if this part cannot protect the population's unit.
        """
        return None

    def released(self, records: Batch, population: Population, source: NoiseSource) -> Batch:
        """Noisy copies of training records, drawn through the mechanisms of `release`: its only use of them.

        Args:
            records: of one model, behind the `front`: `x` float32 [k, *shape], `targets` rows of one 1 [k, classes].
            population: as for `release`.
            source: of all noise.

        Returns:
            [copies * k, *shape] and [copies * k, classes], copy after copy.
        """
        raise UsageError(f"Expected a part that releases records, got {self.name}, which has no `released`.")

    def fit_front(self, layer: nn.Module, batches: Iterable[torch.Tensor], plan: Plan, source: NoiseSource) -> None:
        """Fit the layer in place. What it learns of the records goes through the mechanisms of `stages`, all of it.

        Args:
            layer: as `front` gave it.
            batches: every training record once, float32 [b, *shape]; the records arrive in no meaningful order.
            plan: of the private update.
            source: of all noise.
        """
        raise UsageError(f"Expected a part that fits a layer of its own, got {self.name}, which has no `fit_front`.")

    def earlier(self) -> History:
        """What private records were read for before the training that this defence is part of (given weights)."""
        return History()

    def guard(self, logits: torch.Tensor, draws: Draws) -> torch.Tensor:
        """What a user of the released model sees instead of `logits` [rows, classes] (log-probabilities will do)."""
        return logits


D = TypeVar("D", bound=Defence)


def chain(defence: Defence) -> list[Defence]:
    """The defence and what it wraps, outermost first."""
    found: list[Defence] = []
    here: Defence | None = defence
    while here is not None:
        found.append(here)
        here = here.inner
    return found


def configured(defence: Defence, task: Task) -> Task:
    """The task as all parts want it; the outermost has the last word."""
    for part in reversed(chain(defence)):
        task = part.configure(task)
    return task


def composed_loss(defence: Defence, base: PerExampleLoss) -> PerExampleLoss:
    """The per-example loss of the whole chain over the task's own."""
    loss = base
    for part in reversed(chain(defence)):
        loss = _wrap(part, loss)
    return loss


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


class Releasing(NamedTuple):
    """A release, and the part of the defence that makes it."""

    release: Release
    part: Defence


def release_of(defence: Defence, population: Population) -> Releasing | None:
    """What the chain releases in place of the training records, or None.

    Raises:
        UsageError: if two parts release them.
    """
    found = [Releasing(made, part) for part in chain(defence) if (made := part.release(population)) is not None]
    if len(found) > 1:
        raise UsageError(
            f"Expected one release of the records, got {' and '.join(each.part.name for each in found)}.",
            remedy="Keep one of them.",
        )
    return found[0] if found else None


def _wrap(part: Defence, inner: PerExampleLoss) -> PerExampleLoss:
    return lambda outputs, targets: part.loss(outputs, targets, inner)
