"""LoRA: the network's own weights stay as they are, and low-rank additions are trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.head import head_name
from sfumato.models.low_rank import adapt, can_be_adapted
from sfumato.training.defence import Defence
from sfumato.validate import at_least, positive


@dataclass(frozen=True, kw_only=True)
class LoRA(Defence):
    """Splits the network: frozen weights that no private record moves, and few private numbers beside them.

    Put it around `Pretrained`, which brings the public weights, and that around `DPSGD`. Noise and clipping then see
    the factors and the head only (Yu et al., ICLR 2022, arXiv 2110.06500). By itself it gives no guarantee.

    Args:
        rank: of the additions, 1 or more.
        alpha: the additions are multiplied by alpha / rank.
        layers: "all" for every plain linear layer and every plain convolution of one group; or a regular expression
            that whole layer names match. All others stay frozen, normalisation included.
        train_head: whether the last linear layer is trained as a whole, as a fresh one must be, rather than adapted.
    """

    name: ClassVar[str] = "lora"
    family: ClassVar[str] = "empirical"
    reference: ClassVar[str] = "hu2022lora"
    summary: ClassVar[str] = "Freezes the network and trains low-rank additions to its layers, and the head."
    bibtex: ClassVar[str] = """@inproceedings{hu2022lora,
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean
            and Wang, Lu and Chen, Weizhu},
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}"""

    rank: int = 4
    alpha: float = 4.0
    layers: str = "all"
    train_head: bool = True

    def __post_init__(self) -> None:
        at_least("rank", self.rank, 1)
        positive("alpha", self.alpha)
        try:
            re.compile(self.layers)
        except re.error as error:
            raise UsageError(
                f'Expected "all" or a regular expression for `layers`, got {self.layers!r} ({error}).',
                remedy=r'For instance "blocks\\.\\d+\\.linear".',
            ) from error

    def prepare(self, model: nn.Module) -> nn.Module:
        head = head_name(model) if self.train_head else None
        names = [name for name in self._named(model) if name != head]
        if not names:
            found = ", ".join(f"{n} ({type(layer).__name__})" for n, layer in _layers(model) if n != head)
            raise UnsupportedModel(
                f"Expected layers to adapt that match {self.layers!r}, got none among {found or 'none'}.",
                remedy="Whole names must match. For the head alone, use `Pretrained(trainable='head')`.",
            )
        trained = [] if head is None else list(model.get_submodule(head).parameters())
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        return adapt(model, names, self.rank, self.alpha / self.rank)

    def _named(self, model: nn.Module) -> list[str]:
        if self.layers == "all":
            return [name for name, layer in _layers(model) if can_be_adapted(layer)]
        return [name for name, _ in _layers(model) if re.fullmatch(self.layers, name)]


def _layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every layer that has parameters of its own, under each of its names."""
    named = model.named_modules(remove_duplicate=False)
    return [(name, layer) for name, layer in named if any(True for _ in layer.parameters(recurse=False))]
