"""What a defence is: a few parts, each of them optional, each written once per method.

    configure the task · prepare the model · transform the batch · objective or per-example loss, with parameters of its
    own · update · a course of several trainings in place of one · what came earlier · stages before the first step,
    with a layer they fit · release of the records in place of themselves · guard on answers

A defence wraps an inner one, part by part. It never runs an attack.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import torch
from torch import nn

from sfumato.accounting.history import History
from sfumato.accounting.mechanisms.base import Mechanism
from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.private.noise.source import NoiseSource
from sfumato.private.plan import Plan
from sfumato.private.release import Release
from sfumato.training.draws import Draws
from sfumato.training.extras import Extra
from sfumato.training.seen import Objective, Seen
from sfumato.training.task import Task
from sfumato.validate import in_range, positive

if TYPE_CHECKING:  # a workshop is made of trainings, which are made of defences
    from sfumato.training.workshop import Workshop

PerExampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Batch(NamedTuple):
    """A folded batch of a stack of M models.

    `x` is [M * batch, *shape], `targets` soft labels [M * batch, classes] (each row sums to 1), both laid out model
    after model (see `draws.fold`).
    """

    x: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, eq=False)
class Behind:
    """What stands behind a guard on answers.

    Args:
        predict: answers of the network and of the guards further inside, float32 [b, *shape] to [b, classes].
        shape: of one record.
        state: what `Defence.fit_guard` returned; empty for a guard that is not fitted.
    """

    predict: Callable[[torch.Tensor], torch.Tensor]
    shape: tuple[int, ...]
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)


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
    reconstruction: ClassVar[str] = ""  # what is not known of the published method, for one that is rebuilt; or ""
    needs_features: ClassVar[bool] = False  # whether `objective` reads `Seen.features`
    branches: ClassVar[tuple[str, ...]] = ()  # of the objective, as it counts them; one that is never taken is told of
    hosts_update: ClassVar[bool] = False  # whether a private update may run inside its course
    keeps_labels: ClassVar[bool] = False  # whether its guard never changes which class has the largest score
    canary: ClassVar[str] = "mislabelled"  # kind of canary that it hides worst (see `data.canaries`)
    adaptive: ClassVar[tuple[str, ...]] = ()  # attacks that were made for it, as on a command line

    inner: Defence | None = None

    @classmethod
    def example(cls) -> Defence:
        """One with typical numbers, for lists and contract tests; methods with duties of the user's fill them in."""
        return cls()

    def configure(self, task: Task) -> Task:
        """The task with this defence's hyper-parameters (weight decay, epochs, patience)."""
        return task

    def check(self, task: Task, whole: Defence, network: Callable[[], nn.Module]) -> None:
        """Refuse what its training would refuse, before anything is trained; nothing to refuse by default.

        Args:
            task: as the whole chain has configured it.
            whole: the chain.
            network: gives a fresh network of it.
        """
        del task, whole, network

    def remark(self, whole: Defence) -> str:
        """What whoever reads a result of this part must know of the chain that it stands in, or ""."""
        return ""

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

    def objective(self, seen: Seen, inner: Objective) -> torch.Tensor:
        """What is minimised, row by row: for a loss that looks at more than outputs and labels.

        A value that concerns the whole batch is given to each row (`Seen.mean`); its parts must then say in `couples`
        that they make examples depend on each other.

        Args:
            seen: the pass. Other rows belong to other models of a stack, and to other examples.
            inner: the objective of the inner defence, or of the task.

        Returns:
            [rows]; the mean over a model's rows is minimised.
        """
        return self.loss(seen.outputs, seen.targets, lambda outputs, targets: inner(seen.having(outputs, targets)))

    def extra(self, features: int, classes: int) -> Extra | None:
        """Parameters of the objective's own with their optimiser, or None.

        Drawn from torch's global generator, which the caller seeds. They are `Seen.extras[name]` for the objective.

        Args:
            features: of the last hidden layer.
            classes: of the population.
        """
        return None

    def course(self, workshop: Workshop) -> nn.Module:
        """Several trainings in place of one (a teacher and a student, sub-models, rewinding). Overridden or not there.

        It claims the update: no other part of the chain may have a course, and a private update fits inside only where
        `hosts_update` says so. Objective, batch and network are those of the whole chain wherever the workshop trains.

        Args:
            workshop: rows, streams, trainings that resume, and the notebook of what is read.

        Returns:
            The network that is released, with the layers that `Workshop.network` gives.
        """
        raise UsageError(f"Expected a part with a course of its own, got {self.name}, which has no `course`.")

    @property
    def trainings(self) -> float:
        """What its course costs, about, in ordinary trainings of the same task; for plans."""
        return 1.0

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

    @property
    def guards(self) -> bool:
        """Whether `guard` stands between the network and whoever asks it; overridden where a switch takes it away."""
        return type(self).guard is not Defence.guard

    @property
    def random_answers(self) -> bool:
        """Whether its guard may give a record another answer each time that it is asked."""
        return self.guards

    def guard(self, logits: torch.Tensor, draws: Draws, behind: Behind) -> torch.Tensor:
        """What a user of the released model sees instead of `logits` [rows, classes] (log-probabilities will do)."""
        return logits

    def fit_guard(self, workshop: Workshop, network: nn.Module) -> dict[str, torch.Tensor]:
        """Fit the guard to the trained network. Overridden or not there.

        Args:
            workshop: of the training that has just ended; what it reads of the records is noted there.
            network: as it is released, in eval mode.

        Returns:
            Tensors that are kept with the weights, and handed to `guard` as `Behind.state`.
        """
        raise UsageError(f"Expected a part with a guard to fit, got {self.name}, which has no `fit_guard`.")


@dataclass(frozen=True, kw_only=True)
class ReferenceDefence(Defence):
    """A defence that needs records which its network is not fitted to (reference, validation or distillation data).

    They are taken from each model's own training set: it has so many fewer records to learn from, and the records set
    aside are private, too. An audit tells their privacy apart from that of the others.

    Args:
        reference_fraction: share of the units of each training set that is set aside, in (0, 0.9].
    """

    reference_fraction: float = 0.3

    def __post_init__(self) -> None:
        positive("reference_fraction", self.reference_fraction)
        in_range("reference_fraction", self.reference_fraction, 0, 0.9)


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


def ordinarily(defence: Defence, task: Task) -> Task:
    """The task of stages in which no private update takes the steps, with inputs as in those in which it does.

    A part that claims the update configures its own steps: how many, of what length, with which average. Without
    clipping and noise those would be nobody's choice (a rate of 4, which suits clipped gradients, diverges at once).

    Args:
        defence: its parts apply outermost first, but the one that claims the update.
        task: before the defence has configured it.
    """
    made, whole = task, configured(defence, task)
    for part in reversed(chain(defence)):
        if type(part).plan is Defence.plan:
            made = part.configure(made)
    return replace(made, standardise=whole.standardise, scaling=whole.scaling)
