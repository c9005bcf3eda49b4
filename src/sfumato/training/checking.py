"""What of a chain of defences can be refused before anything is trained."""

from __future__ import annotations

from torch import nn

from sfumato.data.population import Population
from sfumato.training.composition import course_of, fitted_guards, reference_share, release_of, update_of
from sfumato.training.defence import Defence, chain
from sfumato.training.features import Inputs
from sfumato.training.fronts import behind, front_of
from sfumato.training.preparation import network_of
from sfumato.training.task import Task


def check_chain(task: Task, defence: Defence, population: Population) -> None:
    """Refuse what a training would refuse, some of it after hours of other trainings.

    Args:
        task: as the defence has configured it.
        defence: its parts apply outermost first.
        population: that would be trained on.

    Raises:
        UsageError: if parts do not fit together, or one of them does not fit the task or the network.
        NotPrivateError: if the private update would not be one.
    """
    course_of(defence)
    fitted_guards(defence)
    reference_share(defence)
    if update_of(defence, population) is None:
        release_of(defence, population)

    def network() -> nn.Module:
        seen = Inputs(population, task.features).shape
        return network_of(task, defence, behind(front_of(defence, seen), seen), population.classes, seed=0)

    for part in chain(defence):
        part.check(task, defence, network)
