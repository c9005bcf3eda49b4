"""TL-DMI: early layers come from public data and never see a private record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from sfumato.defences.pretrained import Pretrained
from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.head import head_name, replace_layer
from sfumato.training.defence import Defence
from sfumato.training.stacking.layers import StackedLayer, rule
from sfumato.training.weights import file_digest
from sfumato.validate import in_range, positive


@dataclass(frozen=True, kw_only=True)
class TLDMI(Defence):
    """Takes weights of public data, freezes the early layers and tunes the last ones (Ho et al., 2024).

    Frozen layers learn nothing of the private records, the statistics of batch normalisation included: they stay those
    of the public data. The official code freezes by the position of a layer in VGG16, IR152 and FaceNet64; here as many
    whole layers from the front freeze as hold at most `share` of all parameters, or those that you name.

    Args:
        weights: path of a .safetensors file that was trained on public records, which is your declaration: they must
            fill every layer that freezes.
        share: of the parameters that freeze at most, in (0, 1); for `layers` left out.
        layers: regular expression that whole names of the layers that freeze match.
        sha256: of the file. Taken from it when left out, so that what is trained is what was named.

    Raises:
        UsageError: without weights.
    """

    name: ClassVar[str] = "tl-dmi"
    reference: ClassVar[str] = "ho2024model"
    summary: ClassVar[str] = "Freezes early layers with weights of public data and tunes the last ones."
    bibtex: ClassVar[str] = """@inproceedings{ho2024model,
  author = {Ho, Sy-Tuyen and Hao, Koh Jun and Chandrasegaran, Keshigeyan and Nguyen, Ngoc-Bao and Cheung, Ngai-Man},
  title = {Model Inversion Robustness: Can Transfer Learning Help?},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {12183--12193},
  year = {2024}
}"""

    weights: str = ""
    share: float = 0.5
    layers: str = ""
    sha256: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.weights:
            raise UsageError(
                f"Expected `weights` of public data for {self.name}, got none: freezing fresh layers would keep noise.",
                remedy="Train the same network on public records (`sfumato train PUBLIC --out public`), and name the "
                "file that it writes.",
            )
        positive("share", self.share)
        in_range("share", self.share, 0, 1)
        try:
            re.compile(self.layers)
        except re.error as error:
            raise UsageError(
                f"Expected a regular expression for `layers`, got {self.layers!r} ({error}).",
                remedy=r'For instance "[0-3]\\..*".',
            ) from error
        if not self.sha256 and Path(self.weights).expanduser().is_file():
            object.__setattr__(self, "sha256", file_digest(Path(self.weights)))

    @classmethod
    def example(cls) -> TLDMI:
        return cls(weights="weights.safetensors")

    def spec(self) -> dict[str, Any]:
        """What names this defence: the content of the weights and the file's name, never the folder.

        Raises:
            UsageError: if there is no such file.
        """
        given = self.given.spec()
        own = {"class": f"{type(self).__module__}.{type(self).__qualname__}", "inner": self.inner}
        return own | {
            "weights": given["weights"],
            "share": self.share,
            "layers": self.layers,
            "sha256": given["sha256"],
        }

    @property
    def given(self) -> Pretrained:
        """What brings the weights."""
        return Pretrained(weights=self.weights, data="public", sha256=self.sha256)

    def prepare(self, model: nn.Module) -> nn.Module:
        fresh = set(self.given.fit(model).fresh)
        model = self.given.prepare(model)
        for name in self.frozen(model):
            layer = model.get_submodule(name)
            tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
            unfilled = [f"{name}.{own}" for own, _ in tensors if f"{name}.{own}" in fresh]
            if unfilled:
                raise UsageError(
                    f"Expected public weights for every layer that freezes, got none for {', '.join(unfilled)}.",
                    remedy="Freeze fewer layers, or name weights of this network.",
                )
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)
            if isinstance(layer, _BatchNorm):
                model = replace_layer(model, name, StillNorm(layer))
        return model

    def frozen(self, model: nn.Module) -> list[str]:
        """Names of the layers that freeze, in the order of registration; the last linear layer is never among them.

        Raises:
            UnsupportedModel: if there is none, or none is left to be trained.
        """
        own, head = own_layers(model), head_name(model)
        if self.layers:
            names = [name for name in own if name != head and re.fullmatch(self.layers, name)]
        else:
            names = from_the_front([name for name in own if name != head], own, self.share)
        if not names or set(own) <= {*names}:
            sizes = ", ".join(f"{name} ({size})" for name, size in own.items())
            raise UnsupportedModel(
                f"Expected some layers to freeze and some to train, got {', '.join(names) or 'none'} to freeze for "
                f"{f'layers={self.layers!r}' if self.layers else f'share={self.share}'}.",
                remedy=f"Layers and their numbers of parameters: {sizes}.",
            )
        return names


def own_layers(model: nn.Module) -> dict[str, int]:
    """Every layer that learns by itself and how many parameters it has, in the order of registration."""
    found = {name: layer for name, layer in model.named_modules() if name}
    sizes = {name: sum(p.numel() for p in layer.parameters(recurse=False)) for name, layer in found.items()}
    return {name: size for name, size in sizes.items() if size or isinstance(found[name], _BatchNorm)}


def from_the_front(names: Sequence[str], sizes: dict[str, int], share: float) -> list[str]:
    """As many of the first layers as hold at most this share of all parameters."""
    taken, total, most = [], 0, share * sum(sizes.values())
    for name in names:
        total += sizes[name]
        if total > most:
            break
        taken.append(name)
    return taken


class StillNorm(nn.Module):
    """Batch normalisation with the statistics that it has, in training mode, too. Its state keeps its names.

    Args:
        norm: with running statistics.
    """

    TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        if norm.running_mean is None:
            raise UnsupportedModel(
                "Expected batch normalisation with running statistics in a layer that freezes, got one without.",
                remedy="Use `track_running_stats=True`, or group normalisation.",
            )
        for name in self.TENSORS:
            value = getattr(norm, name)
            self.register_buffer(name, None if value is None else value.detach())
        self.eps = norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, channels, ...] to the same."""
        mean, var, weight, bias = (self._buffers[name] for name in ("running_mean", "running_var", "weight", "bias"))
        return batch_norm(x, mean, var, weight, bias, False, 0.0, self.eps)


@rule(StillNorm)
class StackedStillNorm(StackedLayer):
    """M of them, each with its own statistics."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[M * batch, channels, ...] to the same."""
        rows = x.reshape(self.models, -1, *x.shape[1:]).unbind(0)
        states = [{name: v[m] for name, v in self._buffers.items() if v is not None} for m in range(self.models)]
        return torch.cat(
            [
                batch_norm(
                    own,
                    s["running_mean"],
                    s["running_var"],
                    s.get("weight"),
                    s.get("bias"),
                    False,
                    0.0,
                    self.config.eps,
                )
                for own, s in zip(rows, states, strict=True)
            ]
        )
