"""Trap-MID: trapdoors that an inversion finds before it finds a person."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import affine_grid, binary_cross_entropy_with_logits, grid_sample

from sfumato.errors import NotApplicable
from sfumato.models.build import build_seeded, drawn_from
from sfumato.models.dropout import replace_dropout
from sfumato.sde.streams import set_noise
from sfumato.seeding import derive
from sfumato.training.augment import augment
from sfumato.training.defence import Batch, Defence, chain
from sfumato.training.draws import Draws, fold
from sfumato.training.loop import Hooks, Step
from sfumato.training.seen import Seen
from sfumato.training.workshop import Workshop
from sfumato.validate import in_range, positive

AUGMENTED = "traps under augmentation"
SMALLEST_AREA, LARGEST_ANGLE, RATE = 0.8, 30.0, 0.5  # of the official code


@dataclass(frozen=True, kw_only=True)
class TrapMID(Defence):
    """Teaches the network a faint trigger picture for each class, as bait for inversion (Liu and Chen, 2024).

    In each step every record x of the batch also comes as x' = (1 - visibility) x + visibility * trigger of a class y'
    that is drawn, balanced over the classes, and the network minimises (1 - weight) * objective(x, y) + weight *
    objective(x', y'), each under its own augmentation. Before that the triggers take a step of `step_size` against
    the sign of the gradient of two losses: that of x' under y', and that of a discriminator of the same architecture,
    which learns to tell x' from x and is to take x' for a record. Triggers stay in [0, 1], begin uniform in it, and are
    thrown away with the discriminator at the end. All of it after the official code; there both kinds of records run
    in one pass, which matters for batch normalisation alone.

    For pictures with values in [0, 1]. Augmentation is essential to it by accounts of others, so it brings its own: a
    crop of 80% to 100% of the area, a mirror image and a turn of up to 30 degrees, each in half of the cases; the
    record says where there was none. An attacker who knows of the traps can look for them.

    Args:
        visibility: of the trigger in a record, in (0, 1].
        weight: of the traps in the loss, in (0, 1).
        step_size: of the triggers, above 0.
        augmented: whether it brings its own augmentation.
    """

    name: ClassVar[str] = "trap-mid"
    reference: ClassVar[str] = "liu2024trapmid"
    summary: ClassVar[str] = "Teaches the network a faint trigger picture for each class, as bait for inversion."
    bibtex: ClassVar[str] = """@inproceedings{liu2024trapmid,
  author = {Liu, Zhen-Ting and Chen, Shang-Tse},
  title = {{Trap-MID}: Trapdoor-based Defense against Model Inversion Attacks},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {37},
  year = {2024}
}"""
    couples: ClassVar[str] = "its triggers and its discriminator have learned from the other records"
    branches: ClassVar[tuple[str, ...]] = (AUGMENTED,)

    visibility: float = 0.02
    weight: float = 0.2
    step_size: float = 0.01
    augmented: bool = True

    def __post_init__(self) -> None:
        for name in ("visibility", "weight", "step_size"):
            positive(name, getattr(self, name))
            in_range(name, getattr(self, name), 0, 1)

    @property
    def trainings(self) -> float:
        return 6.0  # passes: records, traps, triggers through both networks, and the discriminator on twice as many

    def transform(self, batch: Batch, draws: Draws) -> Batch:
        if not self.augmented:
            return batch
        refuse_tables(tuple(batch.x.shape[1:]))
        return Batch(moved(batch.x, draws), batch.targets)

    def course(self, workshop: Workshop) -> nn.Module:
        shape, classes = tuple(workshop.x.shape[1:]), workshop.targets.shape[1]
        refuse_tables(shape)
        refuse_range(workshop.x[workshop.fit_rows])
        network, seed = workshop.network(), workshop.draws.seeds[0]
        with drawn_from(seed, "triggers"):
            triggers = Triggers(classes, shape).to(workshop.x.dtype)
        discriminator = build_seeded(workshop.task.model, shape, 1, derive(seed, "trap discriminator"))
        discriminator = replace_dropout(discriminator.to(workshop.x.dtype))
        optimizer = workshop.optimizer(list(discriminator.parameters()))
        game = _Game(self, workshop, triggers, discriminator, optimizer)
        kept = {"triggers": triggers, "discriminator": discriminator, "discriminator optimiser": optimizer}
        return workshop.fit("traps", network, hooks=Hooks(game.backward, kept=kept))


class Triggers(nn.Module):
    """One picture for each class, uniform in [0, 1] at first.

    Args:
        classes: how many.
        shape: of a record.
    """

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.rand(classes, *shape))

    def forward(self, x: torch.Tensor, labels: torch.Tensor, visibility: float) -> torch.Tensor:
        """Records [b, *shape] with the triggers of these classes, int64 [b], blended in."""
        return (1 - visibility) * x + visibility * self.images[labels]


class _Game:
    """The triggers' and the discriminator's side of one training, and what the network is told of them."""

    def __init__(
        self,
        defence: TrapMID,
        workshop: Workshop,
        triggers: Triggers,
        discriminator: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.defence, self.workshop, self.triggers = defence, workshop, triggers
        self.discriminator, self.optimizer = discriminator, optimizer

    def backward(self, step: Step) -> torch.Tensor:
        """Triggers first, then the network's loss on records and on traps."""
        x, weight = self.workshop.x[step.rows], self.defence.weight
        labels = trap_labels(len(x), step.batch.targets.shape[1], step.draws.at("traps"))
        self._bait(step, x, labels)
        with torch.no_grad():
            trapped = self.triggers(x, labels, self.defence.visibility)
        own = self.workshop.objective(step.seen).mean()
        loss = (1 - weight) * own + weight * self._loss(step, trapped, labels, "learned")
        loss.backward()
        augmented = self.defence.augmented or bool(self.workshop.task.augmentation)
        step.seen.count(AUGMENTED, torch.full((len(x),), augmented))
        return loss.detach()

    def _bait(self, step: Step, x: torch.Tensor, labels: torch.Tensor) -> None:
        """One step of the discriminator, and one of the triggers, with the network in eval mode."""
        trapped = self.triggers(x, labels, self.defence.visibility)
        self._tell_apart(x, trapped.detach(), step.draws.at("discriminator"))
        step.network.eval()
        told = self.discriminator.eval()(trapped)
        loss = binary_cross_entropy_with_logits(told, torch.ones_like(told))
        loss = loss + self._loss(step, trapped, labels, "baited")
        step.network.train()
        images = self.triggers.images
        (slope,) = torch.autograd.grad(loss, images)
        with torch.no_grad():
            images.copy_(stepped(images, slope, self.defence.step_size))

    def _tell_apart(self, x: torch.Tensor, trapped: torch.Tensor, draws: Draws) -> None:
        set_noise(self.discriminator, draws)
        told = self.discriminator.train()(torch.cat([x, trapped]))
        truth = torch.cat([torch.ones_like(told[: len(x)]), torch.zeros_like(told[len(x) :])])
        self.optimizer.zero_grad(set_to_none=True)
        binary_cross_entropy_with_logits(told, truth).backward()
        self.optimizer.step()

    def _loss(self, step: Step, trapped: torch.Tensor, labels: torch.Tensor, name: str) -> torch.Tensor:
        """The mean objective of traps as they are trained on."""
        draws = step.draws.at(name)
        targets = torch.eye(step.batch.targets.shape[1], dtype=trapped.dtype)[labels]
        batch = Batch(augment(trapped, self.workshop.task.augmentation, draws.at("augment")), targets)
        for depth, part in enumerate(chain(self.workshop.run.defence)):
            batch = part.transform(batch, draws.at("transform", depth, part.name))
        seen: Seen = self.workshop.seen(step.network, batch, draws, step.seen.epoch, step.seen.epochs)
        return self.workshop.objective(replace(seen, extras=step.seen.extras)).mean()


def trap_labels(rows: int, classes: int, draws: Draws) -> torch.Tensor:
    """int64 [rows]: classes in random order, each as often as any other or once more."""
    return (draws.permutation("order", rows)[0] + draws.integers("first", classes)[0]) % classes


def stepped(images: torch.Tensor, slope: torch.Tensor, size: float) -> torch.Tensor:
    """Pictures after a step of this size against the sign of the slope, in [0, 1]."""
    return (images - size * slope.sign()).clamp(0, 1)


def moved(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Each picture of a folded batch [M * b, channels, height, width] cropped, mirrored and turned at random.

    The three are one map of the plane, so that a picture is interpolated once; zeros where nothing was. The official
    code does them one after the other.
    """
    rows, ratio = len(x) // draws.models, x.shape[2] / x.shape[3]

    def uniform(name: str, low: float, high: float, rest: float) -> torch.Tensor:
        drawn = low + (high - low) * fold(draws.uniform(name, rows))
        return torch.where(fold(draws.keep(f"{name}, at all", RATE, rows)), drawn, torch.full_like(drawn, rest))

    side = uniform("area", SMALLEST_AREA, 1, 1).sqrt()
    right, down = ((1 - side) * (2 * fold(draws.uniform(name, rows)) - 1) for name in ("right", "down"))
    mirror = uniform("mirror", -1, -1, 1)
    angle = uniform("angle", -LARGEST_ANGLE, LARGEST_ANGLE, 0) * math.pi / 180
    across = torch.stack([side * mirror * angle.cos(), -side * mirror * angle.sin() * ratio, right], dim=1)
    along = torch.stack([side * angle.sin() / ratio, side * angle.cos(), down], dim=1)
    grid = affine_grid(torch.stack([across, along], dim=1).to(x), list(x.shape), align_corners=False)
    return grid_sample(x, grid, align_corners=False)


def refuse_tables(shape: tuple[int, ...]) -> None:
    """Refuse records of a shape [...] that are no pictures."""
    if len(shape) != 3:
        raise NotApplicable(
            f"Expected pictures of shape (channels, height, width) for trap-mid, got records of shape {shape}.",
            remedy="Its triggers are pictures: use another defence for tables and for fixed features.",
        )


def refuse_range(x: torch.Tensor) -> None:
    """Refuse pictures with values outside [0, 1]: a trigger would be outside of what records are."""
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise NotApplicable(
            f"Expected pictures with values in [0, 1] for trap-mid, got values from {low:g} to {high:g}.",
            remedy="Scale them; scaling inside the network (`scaling`) comes after the triggers.",
        )
