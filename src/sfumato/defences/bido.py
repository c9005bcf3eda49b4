"""BiDO: bilateral dependency optimisation."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.head import head_name, replace_layer
from sfumato.training.defence import Defence
from sfumato.training.hearing import Tap, told
from sfumato.training.seen import Objective, Seen
from sfumato.validate import at_least, one_of, positive

MEASURES = ("hsic", "coco")
ACTIVATIONS = "torch.nn.modules.activation"
NO_HIDDEN = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax)
RIDGE = 1e-5  # of the official code


@dataclass(frozen=True, kw_only=True)
class BiDO(Defence):
    """Hidden states that depend little on the input and much on the label (Peng et al., 2022).

    Minimises the objective + the sum over hidden states z_j of a1 * dep(x, z_j) - a2 * dep(z_j, y), where dep is the
    normalised HSIC of the batch, or COCO; kernels, constants and the formulas are those of the official code. It is
    very sensitive to a1 and a2: sweep them. Hidden states are the outputs of all activation layers, where the official
    code takes those of stages of VGG16; name layers to choose.

    Args:
        input_weight: a1, at least 0. With HSIC 0.05 on CelebA against GMI and KED-MI, 0.1 against VMI; 1 with COCO on
            MNIST, each in the official code.
        label_weight: a2, at least 0; 0.5, 2 and 50 there.
        measure: "hsic" or "coco".
        layers: "activations", or a regular expression that whole names of layers match.
        sigma: width of the Gaussian kernel on x and z: exp(-||u - v||^2 / (2 sigma^2 D)) for D numbers.
    """

    name: ClassVar[str] = "bido"
    reference: ClassVar[str] = "peng2022bilateral"
    summary: ClassVar[str] = "Makes hidden states depend little on the input and much on the label."
    bibtex: ClassVar[str] = """@inproceedings{peng2022bilateral,
  author = {Peng, Xiong and Liu, Feng and Zhang, Jingfeng and Lan, Long and Ye, Junjie and Liu, Tongliang and Han, Bo},
  title = {Bilateral Dependency Optimization: Defending Against Model-inversion Attacks},
  booktitle = {ACM SIGKDD Conference on Knowledge Discovery and Data Mining},
  pages = {1358--1367},
  year = {2022}
}"""
    couples: ClassVar[str] = "the dependence between two variables is that within a whole batch"

    input_weight: float = 0.05
    label_weight: float = 0.5
    measure: str = "hsic"
    layers: str = "activations"
    sigma: float = 5.0

    def __post_init__(self) -> None:
        at_least("input_weight", self.input_weight, 0)
        at_least("label_weight", self.label_weight, 0)
        one_of("measure", self.measure, MEASURES)
        positive("sigma", self.sigma)
        try:
            re.compile(self.layers)
        except re.error as error:
            raise UsageError(
                f'Expected "activations" or a regular expression for `layers`, got {self.layers!r} ({error}).',
                remedy=r'For instance "stages\\.\\d+".',
            ) from error

    @classmethod
    def grid(cls) -> dict[str, tuple[Any, ...]]:
        """Candidates for both weights, to be chosen from on a validation split; ours, around the published ones."""
        return {"input_weight": (0.01, 0.05, 0.1, 0.5), "label_weight": (0.1, 0.5, 1.0, 2.0, 5.0)}

    def prepare(self, model: nn.Module) -> nn.Module:
        names = self._named(model)
        if not names:
            kinds = ", ".join(dict.fromkeys(type(layer).__name__ for layer in model.modules()))
            raise UnsupportedModel(
                f"Expected hidden layers that match {self.layers!r} for {self.name}, got none among {kinds}.",
                remedy="Name layers by a regular expression (`layers`), or use a network with activation layers.",
            )
        for name in names:
            heard = nn.Sequential(model.get_submodule(name), Tap(f"{self.name}/{name}"))
            model = replace_layer(model, name, heard)
        return model

    def _named(self, model: nn.Module) -> list[str]:
        head = head_name(model)
        if self.layers == "activations":
            return [name for name, layer in model.named_modules() if is_activation(layer)]
        return [name for name, _ in model.named_modules() if name not in ("", head) and re.fullmatch(self.layers, name)]

    def objective(self, seen: Seen, inner: Objective) -> torch.Tensor:
        heard = told(seen, self.name)
        if seen.inputs is None:
            raise UsageError("Expected the inputs of the pass for bido, got none.", remedy="Give `Seen.inputs`.")
        form = FORMS[self.measure]
        x, y = (per_model(value, seen.models) for value in (seen.inputs, seen.targets))
        of_inputs, of_labels = form(gaussian_kernel(x, self.sigma)), form(y @ y.mT)
        total = torch.zeros(seen.models, dtype=seen.outputs.dtype, device=seen.outputs.device)
        for state in heard.values():
            own = form(gaussian_kernel(per_model(state, seen.models), self.sigma))
            total = total + self.input_weight * DEPENDENCIES[self.measure](own, of_inputs)
            total = total - self.label_weight * DEPENDENCIES[self.measure](own, of_labels)
        return inner(seen) + total.repeat_interleave(len(seen.outputs) // seen.models)


def is_activation(layer: nn.Module) -> bool:
    """Whether a layer is one of torch's activations whose output is a hidden state."""
    return type(layer).__module__ == ACTIVATIONS and not isinstance(layer, NO_HIDDEN)


def per_model(values: torch.Tensor, models: int) -> torch.Tensor:
    """Folded rows [M * m, ...] as [M, m, D]."""
    return values.reshape(models, len(values) // models, -1)


def gaussian_kernel(values: torch.Tensor, sigma: float) -> torch.Tensor:
    """exp(-||u - v||^2 / (2 sigma^2 D)) between the rows of [M, m, D]; [M, m, m]."""
    squares = values.square().sum(dim=2)
    distances = (squares[:, :, None] + squares[:, None] - 2 * values @ values.mT).clamp_min(0)
    return torch.exp(-distances / (2 * sigma**2 * values.shape[2]))


def centred(kernel: torch.Tensor) -> torch.Tensor:
    """H K H with H = I - 1 1^T / m, for kernels [M, m, m]."""
    kernel = kernel - kernel.mean(dim=1, keepdim=True)
    return kernel - kernel.mean(dim=2, keepdim=True)


def regularised(kernel: torch.Tensor) -> torch.Tensor:
    """R = Kc (Kc + 1e-5 m I)^-1 of kernels [M, m, m].

    The official code centres from one side only (K H); the trace of a product of two such R is the same.
    """
    own = centred(kernel)
    ridge = RIDGE * own.shape[1] * torch.eye(own.shape[1], dtype=own.dtype, device=own.device)
    return torch.linalg.solve(own + ridge, own)


def hsic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Normalised HSIC, trace(R_u R_v), [M], of what `regularised` gave, [M, m, m] each; in [0, m)."""
    return (first * second.mT).sum(dim=(1, 2))


def coco(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """sqrt(||K_u K_v||) / m with the Frobenius norm, [M], of what `centred` gave, [M, m, m] each."""
    norms = torch.linalg.matrix_norm(first @ second)
    return norms.clamp_min(torch.finfo(norms.dtype).tiny).sqrt() / first.shape[1]


FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"hsic": regularised, "coco": centred}
DEPENDENCIES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"hsic": hsic, "coco": coco}
