"""MemGuard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, relu, softmax

from sfumato.errors import UsageError
from sfumato.seeding import derive
from sfumato.training.defence import Behind, ReferenceDefence
from sfumato.training.draws import Draws
from sfumato.training.losses import log_probabilities, two_column
from sfumato.training.task import Optimizer
from sfumato.validate import at_least, in_range, positive

if TYPE_CHECKING:  # a workshop is made of trainings, which are made of defences
    from sfumato.training.workshop import Workshop

State = Mapping[str, torch.Tensor]

STEP = 0.1  # of the official code, like the next two
LABEL_WEIGHT = 10.0
DISTANCE_WEIGHTS = tuple(10.0**power for power in range(-1, 6))
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class MemGuard(ReferenceDefence):
    """Adds noise to answers that misleads an attack of the defender's own (Jia et al., 2019).

    After the training an attack network learns to tell answers on training records from answers on reference records.
    When asked, the scores of a record are changed until that network changes its mind (phase I, with the constants of
    the official code), and the change is used with the probability that brings the attack as close to a coin toss as
    the mean L1 distance allows (phase II). We know phase II from descriptions, not from the authors' code; how long
    the attack network learns is our choice.

    The label never changes, so attacks on labels see what they saw before, and the training leaks as it did. The attack
    network learns from what the network says, without guards further inside. The coin is tossed once for each model and
    answer, so that asking again gives the same noise and nothing to average.

    Args:
        distortion_budget: bound on the mean L1 distance between the scores given and the model's own, in [0, 2].
        max_steps: gradient steps of phase I for each weight of the distance.
        hidden: widths of the attack network.
        attack_epochs: passes of the attack network over the records that it learns from.
        attack_lr: its learning rate (Adam).
    """

    name: ClassVar[str] = "memguard"
    reference: ClassVar[str] = "jia2019memguard"
    summary: ClassVar[str] = "Adds noise to scores that misleads an attack network, and keeps the label."
    bibtex: ClassVar[str] = """@inproceedings{jia2019memguard,
  author = {Jia, Jinyuan and Salem, Ahmed and Backes, Michael and Zhang, Yang and Gong, Neil Zhenqiang},
  title = {{MemGuard}: Defending against Black-Box Membership Inference Attacks via Adversarial Examples},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  pages = {259--274},
  year = {2019}
}"""
    keeps_labels: ClassVar[bool] = True
    adaptive: ClassVar[tuple[str, ...]] = ("augmentation-bits", "gap", "label-noise")

    distortion_budget: float = 0.5
    max_steps: int = 300
    hidden: tuple[int, ...] = (256, 128, 64)
    attack_epochs: int = 30
    attack_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("distortion_budget", self.distortion_budget, 0, 2)
        at_least("max_steps", self.max_steps, 1)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for width in self.hidden:
            at_least("hidden", width, 1)
        at_least("attack_epochs", self.attack_epochs, 1)
        positive("attack_lr", self.attack_lr)

    @property
    def random_answers(self) -> bool:
        return False

    def fit_guard(self, workshop: Workshop, network: nn.Module) -> dict[str, torch.Tensor]:
        members, others = (
            sorted_scores(workshop.outputs(network, rows).float())
            for rows in (workshop.fit_rows, workshop.reference_rows)
        )
        draws = workshop.draws.at(self.name)
        state = drawn_attack((members.shape[1], *self.hidden, 1), draws)
        optimizer = workshop.optimizer(list(state.values()), Optimizer(name="adam", lr=self.attack_lr))
        for epoch in range(self.attack_epochs):
            learn_to_tell(state, members, others, optimizer, draws.at("epoch", epoch))
        return {name: value.detach() for name, value in state.items()}

    def guard(self, logits: torch.Tensor, draws: Draws, behind: Behind) -> torch.Tensor:
        if not behind.state:
            raise UsageError(
                "Expected the attack network that memguard was fitted with, got none.",
                remedy="Train with this defence by a `Recipe`, and keep `Trained.guards` with the weights.",
            )
        plain = two_column(logits, "binary" if logits.shape[1] == 1 else "multiclass").float()
        changed = misleading(plain, behind.state, self.max_steps)
        used = coins(plain, draws.seeds[0]) < noise_probability(
            membership(behind.state, plain), membership(behind.state, changed), distance(plain, changed),
            self.distortion_budget,
        )  # fmt: skip
        answers = log_probabilities(torch.where(used[:, None], changed, plain))
        return keeping_label(answers, plain.argmax(dim=1)).to(logits.dtype)


def sorted_scores(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of each row, largest first; [rows, classes]."""
    return softmax(logits, dim=1).sort(dim=1, descending=True).values


def drawn_attack(widths: tuple[int, ...], draws: Draws) -> dict[str, nn.Parameter]:
    """Random weights of linear layers between these widths, "weight.0", "bias.0" and so on, ready to learn."""
    state = {}
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        for kind, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            drawn = draws.uniform(f"{kind} {layer}", *shape)[0]
            state[f"{kind}.{layer}"] = nn.Parameter(((2 * drawn - 1) / math.sqrt(inputs)).float())
    return state


def attack_logit(state: State, scores: torch.Tensor) -> torch.Tensor:
    """The attack network's log-odds that a record was trained on, [rows], from `sorted_scores`."""
    h, layers = scores, len(state) // 2
    for layer in range(layers):
        h = linear(h, state[f"weight.{layer}"], state[f"bias.{layer}"])
        h = relu(h) if layer + 1 < layers else h
    return h[:, 0]


def membership(state: State, logits: torch.Tensor) -> torch.Tensor:
    """The attack network's probability that a record was trained on, [rows], from logits [rows, classes]."""
    return attack_logit(state, sorted_scores(logits)).sigmoid()


def learn_to_tell(
    state: State, members: torch.Tensor, others: torch.Tensor, optimizer: torch.optim.Optimizer, draws: Draws
) -> None:
    """One epoch of the attack network, in place. Members and others weigh the same, however many there are.

    Args:
        state: of the network.
        members: [k, classes], `sorted_scores` of training records.
        others: [r, classes], of reference records.
        optimizer: of the tensors in `state`.
        draws: of this epoch.
    """
    scores = torch.cat([members, others])
    truth = torch.cat([torch.ones(len(members)), torch.zeros(len(others))])
    weight = torch.where(truth > 0, 0.5 / len(members), 0.5 / len(others)) * len(scores)
    for rows in draws.permutation("order", len(scores))[0].split(BATCH):
        optimizer.zero_grad(set_to_none=True)
        told = attack_logit(state, scores[rows])
        binary_cross_entropy_with_logits(told, truth[rows], weight[rows]).backward()
        optimizer.step()


def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """L1 distance between the scores of logits [rows, classes], [rows], in [0, 2]."""
    return (softmax(first, dim=1) - softmax(second, dim=1)).abs().sum(dim=1)


def coins(logits: torch.Tensor, seed: int) -> torch.Tensor:
    """A number in [0, 1) for each row, [rows], that looks random: the same for equal scores and seeds.

    Scores are compared to three digits, so that rounding in the network seldom matters.
    """
    digits = (softmax(logits, dim=1) * 1000).round().to(torch.int16).cpu().numpy()
    drawn = [derive(seed, "memguard coin", row.tobytes().hex()) / 2**63 for row in digits]
    return torch.tensor(drawn, dtype=logits.dtype, device=logits.device)


def noise_probability(
    before: torch.Tensor, after: torch.Tensor, distortion: torch.Tensor, budget: float
) -> torch.Tensor:
    """Phase II: how often to use the noise, [rows]; the solution of a linear programme with one variable.

    It minimises (1 - p) |before - 0.5| + p |after - 0.5| where p * distortion is at most the budget.

    Args:
        before: the attack network's probability without noise, [rows].
        after: the same with noise.
        distortion: L1 distance between the two answers, [rows].
        budget: bound on its mean over the toss.
    """
    free = distortion <= budget  # also where both are 0
    allowed = torch.where(free, 1.0, budget / distortion.masked_fill(free, 1.0))
    return torch.where((after - 0.5).abs() < (before - 0.5).abs(), allowed, 0.0)


def misleading(logits: torch.Tensor, state: State, max_steps: int) -> torch.Tensor:
    """Phase I: logits [rows, classes] of the same label for which the attack network changes its mind.

    The weight of the distance is raised tenfold as long as the search succeeds; the last success counts. Rows for which
    there is none stay as they are.
    """
    best, alive = logits.clone(), torch.arange(len(logits))
    for weight in DISTANCE_WEIGHTS:
        if len(alive):
            found = _search(logits[alive], state, weight, max_steps)
            alive = alive[found.succeeded]
            best[alive] = found.logits[found.succeeded]
    return best


class _Searched(NamedTuple):
    """Logits [rows, classes], and whether the search succeeded, bool [rows]."""

    logits: torch.Tensor
    succeeded: torch.Tensor


def _search(start: torch.Tensor, state: State, weight: float, max_steps: int) -> _Searched:
    z, label, scores = start.clone(), start.argmax(dim=1), softmax(start, dim=1)
    side = attack_logit(state, sorted_scores(start)) > 0
    searching = torch.arange(len(start))
    for _ in range(max_steps + 1):  # the last round only judges
        here = _judged(z[searching], state, label[searching], scores[searching], weight)
        going = ((here.told > 0) == side[searching]) | (z[searching].argmax(dim=1) != label[searching])
        searching = searching[going]
        if not len(searching):
            break
        z = z.index_add(0, searching, here.slope[going], alpha=-STEP)
    succeeded = torch.ones(len(start), dtype=torch.bool)
    succeeded[searching] = False
    return _Searched(z, succeeded)


class _Judged(NamedTuple):
    """The attack network's log-odds [rows], and the direction in which the loss rises, of length 1 (or 0)."""

    told: torch.Tensor
    slope: torch.Tensor


def _judged(z: torch.Tensor, state: State, label: torch.Tensor, scores: torch.Tensor, weight: float) -> _Judged:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        told = attack_logit(state, sorted_scores(z))
        (slope,) = torch.autograd.grad(search_loss(told, z, label, scores, weight).sum(), z)
    return _Judged(told.detach(), slope / slope.norm(dim=1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny))


def search_loss(
    told: torch.Tensor, z: torch.Tensor, label: torch.Tensor, scores: torch.Tensor, weight: float
) -> torch.Tensor:
    """What phase I minimises, [rows].

    Args:
        told: the attack network's log-odds for `z`, [rows].
        z: logits, [rows, classes].
        label: int64 [rows], to be kept.
        scores: without noise, [rows, classes].
        weight: of the L1 distance to them.
    """
    own = z.gather(1, label[:, None])[:, 0]
    other = z.scatter(1, label[:, None], -math.inf).amax(dim=1)
    far = (softmax(z, dim=1) - scores).abs().sum(dim=1)
    return told.abs() + LABEL_WEIGHT * relu(other - own) + weight * far


def keeping_label(answers: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The answers, with the label's raised by the least step above the largest where rounding has lost it.

    Args:
        answers: [rows, classes].
        label: int64 [rows], which `argmax` is to give.
    """
    lost = answers.argmax(dim=1) != label
    top = answers.amax(dim=1)
    raised = torch.nextafter(top, torch.full_like(top, math.inf))
    return torch.where(lost[:, None], answers.scatter(1, label[:, None], raised[:, None]), answers)
