"""AdvReg: adversarial regularisation against an inner membership attacker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from sfumato.defences.reference_batches import position, reference_batch
from sfumato.errors import UsageError
from sfumato.models.build import drawn_from
from sfumato.training.defence import Defence, ReferenceDefence
from sfumato.training.draws import Draws
from sfumato.training.loop import Hooks, Step
from sfumato.training.losses import two_column
from sfumato.training.task import Optimizer, Task
from sfumato.training.workshop import Workshop
from sfumato.validate import at_least, one_of, positive

VARIANTS = ("alternating", "official")
LOSSES = ("mse", "bce")
OWN_LOSS = {"alternating": "bce", "official": "mse"}
OWN_RATE = {"alternating": 1e-3, "official": 1e-4}


@dataclass(frozen=True, kw_only=True)
class AdvReg(ReferenceDefence):
    """A game of the network and an attacker that tells its answers to training records from those to reference records.

    With h in [0, 1] the attacker's guess that a record was trained on, the network minimises its loss +
    weight * (mean h - 0.5) while h learns to be 1 on training and 0 on reference records (Nasr, Shokri and Houmansadr,
    2018). Training begins with plain epochs, each followed by epochs of the attacker alone.

    Variants: "alternating", as in the public code of RelaxLoss and CRL: an epoch of the attacker, an epoch of the
    network, and so on; the attacker is shown sorted logits and the label as a vector of -1 with a +1. "official", as in
    the authors' code for Purchase: several steps of the attacker ahead of each step of the network; it is shown logits
    and the label as a vector of 0 with a 1, and begins with small weights. Both attackers are networks with a tower for
    logits and one for labels. The attacker sees each record as it is, without augmentation, and the network in eval
    mode.

    Args:
        weight: of the attacker's success, at least 0; 3 in the authors' code for Purchase.
        variant: "alternating" or "official".
        attacker_steps: of "official": steps of the attacker for each one of the network; 26 in the authors' code.
        warmup_epochs: epochs without the attacker, fewer than the task's; 1 in the authors' code.
        warmup_passes: epochs of the attacker after each of them; 5 in the authors' code.
        attacker_lr: None for 1e-3 ("alternating") or 1e-4 ("official"), each with Adam.
        attacker_loss: "mse" or "bce"; None for "bce" ("alternating") or "mse" ("official").
        attacker_width: units of the attacker's first layer; 1024 as published, and the others in proportion; at
            least 64, or too few units are left where the towers end.
    """

    name: ClassVar[str] = "advreg"
    reference: ClassVar[str] = "nasr2018machine"
    summary: ClassVar[str] = "Trains against an inner attacker that tells training from reference records."
    bibtex: ClassVar[str] = """@inproceedings{nasr2018machine,
  author = {Nasr, Milad and Shokri, Reza and Houmansadr, Amir},
  title = {Machine Learning with Membership Privacy using Adversarial Regularization},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  year = {2018}
}"""
    couples: ClassVar[str] = "its attacker has learned from the other records, and its guesses are part of the loss"

    weight: float = 3.0
    variant: str = "alternating"
    attacker_steps: int = 26
    warmup_epochs: int = 1
    warmup_passes: int = 5
    attacker_lr: float | None = None
    attacker_loss: str | None = None
    attacker_width: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("weight", self.weight, 0)
        one_of("variant", self.variant, VARIANTS)
        at_least("attacker_steps", self.attacker_steps, 1)
        at_least("warmup_epochs", self.warmup_epochs, 0)
        at_least("warmup_passes", self.warmup_passes, 0)
        positive("attacker_lr", self.attacker_rate)
        one_of("attacker_loss", self.judged_by, LOSSES)
        at_least("attacker_width", self.attacker_width, 64)

    @property
    def attacker_rate(self) -> float:
        """The attacker's learning rate: the given one, or the variant's."""
        return OWN_RATE[self.variant] if self.attacker_lr is None else self.attacker_lr

    @property
    def judged_by(self) -> str:
        """The attacker's loss: the given one, or the variant's."""
        return OWN_LOSS[self.variant] if self.attacker_loss is None else self.attacker_loss

    @property
    def trainings(self) -> float:
        return 2.5 if self.variant == "alternating" else 1 + 1.2 * self.attacker_steps  # measured with a small CNN

    def check(self, task: Task, whole: Defence, network: Callable[[], nn.Module]) -> None:
        if task.epochs <= self.warmup_epochs:
            raise UsageError(
                f"Expected more epochs than the {self.warmup_epochs} without the attacker, got {task.epochs}.",
                remedy="Train for longer, or set `warmup_epochs`; else the attacker would never be felt.",
            )

    def course(self, workshop: Workshop) -> nn.Module:
        self.check(workshop.task, workshop.run.defence, workshop.network)
        network, attacker = workshop.network(), self.attacker(workshop)
        optimizer = workshop.optimizer(list(attacker.parameters()), Optimizer(name="adam", lr=self.attacker_rate))
        game = _Game(self, workshop, network, attacker, optimizer)
        kept = {"attacker": attacker, "attacker optimiser": optimizer}
        return workshop.fit("game", network, hooks=Hooks(game.backward, game.before, kept))

    def attacker(self, workshop: Workshop) -> Attacker:
        """A fresh attacker, drawn from a stream of the model's own."""
        with drawn_from(workshop.draws.seeds[0], "inner attacker"):
            made = Attacker(workshop.targets.shape[1], self.attacker_width, self.variant)
        return made.to(workshop.x.dtype)


class Attacker(nn.Module):
    """h of the paper: one tower for logits and one for labels, joined by a third.

    The towers of "alternating" are K-1024-512-64 for logits and K-512-64 for labels; of "official" the second is
    K-128-64. The joining one is 128-512-256-128-64-1 in either: that of the official code.

    Args:
        classes: K.
        width: in place of 1024; all others in proportion.
        variant: of `AdvReg`.
    """

    def __init__(self, classes: int, width: int, variant: str) -> None:
        super().__init__()
        self.variant = variant
        half, last, beside = width // 2, width // 16, width // (2 if variant == "alternating" else 8)
        self.logits = _tower(classes, width, half, last)
        self.labels = _tower(classes, beside, last)
        self.joined = nn.Sequential(_tower(2 * last, half, width // 4, width // 8, last), nn.Linear(last, 1))
        if variant == "official":
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.01)
                    nn.init.zeros_(layer.bias)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Log-odds that records were trained on, [rows], from logits and labels [rows, K] each."""
        if self.variant == "alternating":
            logits, targets = logits.sort(dim=1).values, 2 * targets - 1
        return self.joined(torch.cat([self.logits(logits), self.labels(targets)], dim=1))[:, 0]


class _Game:
    """The attacker's side of one training, and what the network is told of it."""

    def __init__(
        self,
        defence: AdvReg,
        workshop: Workshop,
        network: nn.Module,
        attacker: Attacker,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.defence, self.workshop, self.network = defence, workshop, network
        self.attacker, self.optimizer = attacker, optimizer

    def before(self, rows: torch.Tensor, draws: Draws, done: float) -> None:
        """The attacker's steps ahead of one of the network's."""
        epoch, step = position(self.workshop, done)
        warm = self.defence.warmup_epochs
        if step == 0 and 0 < epoch <= warm:
            for number in range(self.defence.warmup_passes):
                self._pass(draws.at("warm-up", number))
        if epoch < warm:
            return
        if self.defence.variant == "official":
            for number in range(self.defence.attacker_steps):
                self._step(len(rows), draws.at("attacker", number))
        elif step == 0:
            self._pass(draws.at("attacker"))

    def backward(self, step: Step) -> torch.Tensor:
        """The network's side: its loss, and from the end of the warm-up on the attacker's success."""
        loss = self.workshop.objective(step.seen).mean()
        if step.seen.epoch >= self.defence.warmup_epochs:
            logits = two_column(step.seen.outputs, self.workshop.task.head)
            loss = loss + privacy_gain(self.attacker(logits, step.seen.targets), self.defence.weight)
        loss.backward()
        return loss.detach()

    def _pass(self, draws: Draws) -> None:
        for rows, at in self.workshop.batches(self.workshop.fit_rows, draws):
            self._learn(rows, reference_batch(self.workshop, len(rows), at))

    def _step(self, size: int, draws: Draws) -> None:
        rows = self.workshop.fit_rows
        own = rows[draws.permutation("own", len(rows))[0][:size]]
        self._learn(own, reference_batch(self.workshop, size, draws))

    def _learn(self, own: torch.Tensor, others: torch.Tensor) -> None:
        """One step on as many training as reference records."""
        rows = torch.cat([own, others])
        told = self.attacker(self.workshop.outputs(self.network, rows), self.workshop.targets[rows])
        self.optimizer.zero_grad(set_to_none=True)
        attacker_loss(told, len(own), self.defence.judged_by).backward()
        self.optimizer.step()


def privacy_gain(told: torch.Tensor, weight: float) -> torch.Tensor:
    """What the attacker's success adds to the network's loss: weight * (mean h - 0.5), a scalar.

    Args:
        told: log-odds of h for training records, [rows].
        weight: see `AdvReg`.
    """
    return weight * (told.sigmoid().mean() - 0.5)


def attacker_loss(told: torch.Tensor, members: int, kind: str) -> torch.Tensor:
    """What the attacker minimises, a scalar: the mean over records of the distance between h and the truth.

    Args:
        told: log-odds of h, [rows]; training records first.
        members: how many of them are training records.
        kind: "mse" or "bce" (in nats).
    """
    truth = (torch.arange(len(told), device=told.device) < members).to(told.dtype)
    return mse_loss(told.sigmoid(), truth) if kind == "mse" else binary_cross_entropy_with_logits(told, truth)


def _tower(*widths: int) -> nn.Sequential:
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers)
