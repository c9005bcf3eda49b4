"""MID: a variational information bottleneck before the last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.functional import softplus

from sfumato.errors import UnsupportedModel
from sfumato.models.head import head_name, replace_layer
from sfumato.sde.streams import StreamLayer, normals
from sfumato.training.defence import Defence
from sfumato.training.hearing import Tap, told
from sfumato.training.seen import Objective, Seen
from sfumato.validate import at_least

SHIFT = 5.0  # of the official code


@dataclass(frozen=True, kw_only=True)
class MID(Defence):
    """Limits what the last layer is told of a record: it sees a sample of N(mu, std^2) (Wang, Zhang and Jia, 2021).

    The last linear layer becomes three: one that gives mu and s, the sample with std = softplus(s - 5), and the new
    last layer. The mean over records of the objective + beta * KL(N(mu, std^2) || N(0, I)) is minimised, the divergence
    in nats and summed over the features, as in the official code.

    While training, samples come from the model's own streams. When asked, the network answers from the mean, always
    the same; the official code draws a sample there, too, which `noise_at_test` brings back. Whoever has the weights
    turns that noise off.

    In the literature on inversion, differential privacy next to this defence had a noise multiplier of 0.01 and no
    accountant; compare it with `dpsgd` here.

    Args:
        beta: of the divergence, at least 0; 0.003 in the official code for VGG16 on CelebA.
        width: features of the bottleneck; None for half of those of the last layer, at least 1, as in the official
            code.
        noise_at_test: whether answers are drawn.
    """

    name: ClassVar[str] = "mid"
    reference: ClassVar[str] = "wang2021improving"
    summary: ClassVar[str] = "Feeds the last layer a noisy sample, and penalises what it tells of the input."
    bibtex: ClassVar[str] = """@inproceedings{wang2021improving,
  author = {Wang, Tianhao and Zhang, Yuheng and Jia, Ruoxi},
  title = {Improving Robustness to Model Inversion Attacks via Mutual Information Regularization},
  booktitle = {AAAI Conference on Artificial Intelligence},
  volume = {35},
  number = {13},
  pages = {11666--11673},
  year = {2021}
}"""

    beta: float = 0.003
    width: int | None = None
    noise_at_test: bool = False

    def __post_init__(self) -> None:
        at_least("beta", self.beta, 0)
        if self.width is not None:
            at_least("width", self.width, 1)

    def prepare(self, model: nn.Module) -> nn.Module:
        name = head_name(model)
        head = model.get_submodule(name)
        if type(head) is not nn.Linear:
            raise UnsupportedModel(
                f"Expected a plain linear layer at the end for {self.name}, got {type(head).__name__} at `{name}`.",
                remedy=f"Put {self.name} inside of what changes the last layer.",
            )
        width = max(1, head.in_features // 2) if self.width is None else self.width
        bottleneck = Bottleneck(self.name, noise_at_test=self.noise_at_test)
        told_by = nn.Linear(head.in_features, 2 * width)
        return replace_layer(model, name, nn.Sequential(told_by, bottleneck, nn.Linear(width, head.out_features)))

    def objective(self, seen: Seen, inner: Objective) -> torch.Tensor:
        (statistics,) = told(seen, self.name).values()
        return inner(seen) + self.beta * divergence(*law(statistics))


class Law(NamedTuple):
    """Means and standard deviations of independent normals, [rows, D] each."""

    mean: torch.Tensor
    std: torch.Tensor


class Bottleneck(StreamLayer):
    """A sample of the law that `law` reads from its input, or the law's mean.

    Args:
        part: name of the defence, under which the input is heard.
        noise_at_test: whether it draws in eval mode, too.
    """

    def __init__(self, part: str, *, noise_at_test: bool) -> None:
        super().__init__()
        self.tap = Tap(f"{part}/statistics")
        self.answers_at_random = noise_at_test

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        """[rows, 2 D] to [rows, D]."""
        found = law(self.tap(statistics))
        if not (self.training or self.answers_at_random) or self.noise == "off":
            return found.mean
        return found.mean + found.std * normals(self, self.next_call(), 0, found.mean)


def law(statistics: torch.Tensor) -> Law:
    """mu and std = softplus(s - 5) from mu and s side by side, [rows, 2 D]."""
    mean, spread = statistics.chunk(2, dim=1)
    return Law(mean, softplus(spread - SHIFT))


def divergence(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, std^2) || N(0, I)) in nats, [rows], for [rows, D] each."""
    return 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).sum(dim=1)
