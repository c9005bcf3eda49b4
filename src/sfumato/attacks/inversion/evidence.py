"""What an inversion attack is given: exactly what it may touch. One kind of evidence for each game.

- Class inversion: what does the model know of a class? Success shows what a class looks like; whether it shows more of
  the training records than of other records of the class is measured apart.
- Gradient inversion: which records were in the batch whose update was seen?
- Attribute inference: what is the hidden attribute of a record of which all else is known?
- Planted labels: which secret label was a record trained with? It was drawn at random, so only the training can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sfumato.canonical import array_digest
from sfumato.data.population import Population
from sfumato.errors import NotApplicable
from sfumato.private.clipping.base import Clipping
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import Oracle
from sfumato.types import Floats, Ints

UPDATE = "update"  # access of whoever sees what a training step shares
Tell = Callable[[str], None]
StepLoss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, eq=False)
class ClassEvidence:
    """Some classes of one trained model.

    Args:
        oracle: the model, with the access that the attack declares.
        labels: int64 [q], the classes asked about.
        public: records of other classes that the attacker has, or None; their labels mean nothing to the model.
        seed: root of the attack's own random streams for this model.
        tell: is told now and then how far a long attack has come.
    """

    oracle: Oracle
    labels: Ints
    public: Population | None
    seed: int
    tell: Tell = silent

    @property
    def public_records(self) -> Population:
        """The public records; refuses where there are none."""
        if self.public is None:
            raise NotApplicable("needs public records of other classes, got none")
        return self.public

    @property
    def box(self) -> Box:
        """The range of values that records have."""
        return self.oracle.box

    def spec(self) -> dict[str, Any]:
        """What determines the outcome of an attack on it."""
        public = "" if self.public is None else self.public.fingerprint
        return {"oracle": self.oracle, "labels": self.labels, "public": public, "seed": self.seed}

    def restricted_to(self, access: str, public: bool) -> ClassEvidence:
        """The same without anything that is not declared."""
        return replace(self, oracle=self.oracle.restricted_to(access), public=self.public if public else None)


@dataclass(frozen=True)
class PrivateStep:
    """What is public of a private step: how it clips, and by what it divides. The noise is not known, its size apart.

    Args:
        clipping: how each unit's gradient is bounded, as in the first step.
        divisor: of the noisy sum over units (`Plan.expected_batch_size`), above 0.
        together: whether all records of a batch are one unit, whose mean gradient is clipped; else each record is one.
    """

    clipping: Clipping
    divisor: float
    together: bool = False


@dataclass(frozen=True, eq=False)
class GradientEvidence:
    """Updates of single training steps, each from one batch, as whoever aggregates them sees them.

    Args:
        network: with the weights at which the updates were computed, in the mode that the training uses; its
            parameters, in the order of `named_parameters`, are those of `updates`.
        updates: for each of q steps the mean gradient of its batch, or the noisy one that a private step shares:
            parameter name -> float [*parameter].
        sizes: int64 [q], records in each batch (public for the protocol); at most b.
        shape: of one record.
        classes: number of them.
        box: the range of values.
        labels: int64 [q, b], -1 beyond a batch's size, where the attacker knows them; else None.
        public: records that the attacker has, or None.
        seed: root of the attack's own random streams.
        private: how each update was clipped and divided before it got noise; None for updates that were not.
        tell: as for `ClassEvidence`.
        loss: what the training minimises, as far as the attacker can write it down: network, records [b, *shape] and
            soft labels [b, classes] to one loss per record, [b]; None for the cross-entropy.
    """

    network: nn.Module
    updates: tuple[dict[str, torch.Tensor], ...]
    sizes: Ints
    shape: tuple[int, ...]
    classes: int
    box: Box
    labels: Ints | None
    public: Population | None
    seed: int
    private: PrivateStep | None = None
    tell: Tell = silent
    loss: StepLoss | None = None

    def spec(self) -> dict[str, Any]:
        """What determines the outcome of an attack on it."""
        tensors = {f"{i}/{name}": value for i, step in enumerate(self.updates) for name, value in step.items()}
        weights = {f"w/{name}": value for name, value in self.network.state_dict().items()}
        return {
            "tensors": {name: array_digest(v.detach().cpu().numpy()) for name, v in (tensors | weights).items()},
            "sizes": self.sizes,
            "labels": "to be recovered" if self.labels is None else self.labels,
            "loss": "cross-entropy" if self.loss is None else self.loss,
            "public": "" if self.public is None else self.public.fingerprint,
            "private": "no" if self.private is None else self.private,
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class AttributeEvidence:
    """Records of a table of which one attribute is hidden.

    Args:
        oracle: the model, with the access that the attack declares.
        records: float32 [q, features], the hidden column filled with NaN.
        labels: int64 [q], true classes, which the attacker knows.
        column: position of the hidden attribute.
        values: float32 [v], the values that it can have, rising; a continuous one is cut into intervals and stands for
            each by its median in the public records.
        public: records of the same kind that the model was not trained on, with their labels: what the attacker knows
            of the population. Their hidden column is there.
        public_values: int64 [public records], which of `values` each of them has.
        seed: root of the attack's own random streams.
        tell: as for `ClassEvidence`.
    """

    oracle: Oracle
    records: Floats
    labels: Ints
    column: int
    values: Floats
    public: Population
    public_values: Ints
    seed: int
    tell: Tell = silent

    def spec(self) -> dict[str, Any]:
        """What determines the outcome of an attack on it."""
        return {
            "oracle": self.oracle,
            "records": self.records,
            "labels": self.labels,
            "column": self.column,
            "values": self.values,
            "public": self.public.fingerprint,
            "public values": self.public_values,
            "seed": self.seed,
        }

    def filled(self, value: float) -> torch.Tensor:
        """float32 [q, features]: every record with this value in the hidden column."""
        x = torch.from_numpy(self.records).float().clone()
        x[:, self.column] = value
        return x


@dataclass(frozen=True, eq=False)
class LabelEvidence:
    """Records that were trained with a label drawn uniformly from the wrong classes, if they were trained on at all.

    Args:
        oracle: the model, with the access that the attack declares.
        records: float32 [q, *shape].
        true_labels: int64 [q], the class that each record really has; it is never the planted one.
        seed: root of the attack's own random streams.
        tell: as for `ClassEvidence`.
        public: records that the attacker has, or None.
    """

    oracle: Oracle
    records: Floats
    true_labels: Ints
    seed: int
    tell: Tell = silent
    public: Population | None = None

    def spec(self) -> dict[str, Any]:
        """What determines the outcome of an attack on it."""
        return {
            "oracle": self.oracle,
            "records": self.records,
            "labels": self.true_labels,
            "public": "" if self.public is None else self.public.fingerprint,
            "seed": self.seed,
        }
