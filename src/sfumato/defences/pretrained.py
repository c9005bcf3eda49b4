"""Starting from weights that were trained before, on public data or on private ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn

from sfumato.accounting.history import Event, History
from sfumato.errors import StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.head import head_name
from sfumato.training.defence import Defence
from sfumato.training.weights import Weights, file_digest, read_weights
from sfumato.validate import one_of

DATA = ("public", "private")
PREFIXES = ("", "0.", "1.", "2.")  # layers in front of a network (scaling of inputs) push its names down by one or two
UNSEEN = "training elsewhere on private records, which was not seen"


class Fit(NamedTuple):
    """Names of a network's parameters and buffers: those that the weights gave, and those they left fresh."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pretrained(Defence):
    """Starts from given weights, and trains all of the network or a part of it.

    With public data and few private layers, DP-SGD costs much less accuracy (Tramer and Boneh, 2021; De et al., 2022).

    Args:
        weights: path of a .safetensors file, of sfumato or of others. Taken where names and shapes agree; the rest of
            the network stays fresh (a head for other classes).
        data: "public" or "private": whose records the weights were trained on. "public" is your declaration, and stands
            in the record. The history of "private" weights comes before that of the training; weights without one give
            no guarantee.
        trainable: "all"; "head" for the last linear layer; or a regular expression that whole parameter names match.

        sha256: of the file. Taken from it when left out, so that what is trained is what was named.

    Raises:
        UsageError: for an expression that is none.
    """

    name: ClassVar[str] = "pretrained"
    family: ClassVar[str] = "empirical"
    reference: ClassVar[str] = "de2022unlocking"
    summary: ClassVar[str] = "Starts from given weights; all layers, the last, or named ones are trained further."
    bibtex: ClassVar[str] = """@article{de2022unlocking,
  author = {De, Soham and Berrada, Leonard and Hayes, Jamie and Smith, Samuel L. and Balle, Borja},
  title = {Unlocking High-Accuracy Differentially Private Image Classification through Scale},
  journal = {arXiv preprint arXiv:2204.13650},
  year = {2022}
}"""

    weights: str
    data: Literal["public", "private"]
    trainable: str = "all"
    sha256: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        one_of("data", self.data, DATA)
        try:
            re.compile(self.trainable)
        except re.error as error:
            raise UsageError(
                f'Expected "all", "head" or a regular expression for `trainable`, got {self.trainable!r} ({error}).',
                remedy=r'For instance "head", or "blocks\\.3\\..*|head\\..*".',
            ) from error
        if not self.sha256 and Path(self.weights).expanduser().is_file():
            object.__setattr__(self, "sha256", file_digest(Path(self.weights)))

    @classmethod
    def example(cls) -> Pretrained:
        return cls(weights="weights.safetensors", data="private")

    def spec(self) -> dict[str, Any]:
        """What names this defence: the content of the weights and the file's name, never the folder.

        Raises:
            UsageError: if there is no such file.
        """
        own = {"data": self.data, "trainable": self.trainable, "inner": self.inner}
        digest = self.sha256 or file_digest(Path(self.weights))
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"class": kind, "weights": Path(self.weights).name, "sha256": digest, **own}

    def earlier(self) -> History:
        if self.data == "public":
            return History()
        known = self._read().history
        return known if known is not None and known.events else History((Event("pre-training", UNSEEN, 0),))

    def prepare(self, model: nn.Module) -> nn.Module:
        given, fit = self._read().state, self.fit(model)
        prefix = _prefix(given, model)
        model.load_state_dict({name: given[prefix + name] for name in fit.loaded}, strict=False)
        return frozen(model, self.trainable)

    def fit(self, model: nn.Module) -> Fit:
        """Which parts of a network the weights give, and which they leave fresh.

        Raises:
            UsageError: if no name and shape agrees.
        """
        given = self._read().state
        prefix, own = _prefix(given, model), model.state_dict()
        loaded = tuple(name for name in own if _agrees(given.get(prefix + name), own[name]))
        if not loaded:
            raise UsageError(
                f"Expected weights of {type(model).__name__} in {Path(self.weights).name} ({_some(own)}), got "
                f"{_some(given)}: no name and shape agrees.",
                remedy="Name the recipe (`--recipe`, `--set`) that the weights belong to.",
            )
        return Fit(loaded, tuple(name for name in own if name not in loaded))

    def _read(self) -> Weights:
        found = read_weights(Path(self.weights))
        if self.sha256 and found.sha256 != self.sha256:
            raise StoreMismatch(
                f"Expected {Path(self.weights).name} as it was when the run was set up, got other content.",
                remedy="Start the run again.",
            )
        return found


def frozen(model: nn.Module, trainable: str) -> nn.Module:
    """`model` with only the named parameters trained.

    Args:
        model: changed in place.
        trainable: as `Pretrained` takes it.

    Raises:
        UnsupportedModel: if no parameter is left to be trained.
    """
    if trainable == "all":
        return model
    head = f"{head_name(model)}." if trainable == "head" else ""
    for name, parameter in model.named_parameters():
        chosen = name.startswith(head) if trainable == "head" else re.fullmatch(trainable, name) is not None
        parameter.requires_grad_(chosen and parameter.requires_grad)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        names = ", ".join(name for name, _ in model.named_parameters())
        raise UnsupportedModel(
            f"Expected `trainable` to name parameters, got {trainable!r}, which matches none of {names}.",
            remedy="Whole names must match; end the expression in `.*`.",
        )
    return model


def _prefix(given: dict[str, torch.Tensor], model: nn.Module) -> str:
    """What stands in front of the network's names in the file: the prefix under which most of them agree."""
    own = model.state_dict()
    return max(PREFIXES, key=lambda prefix: sum(_agrees(given.get(prefix + name), own[name]) for name in own))


def _agrees(given: torch.Tensor | None, own: torch.Tensor) -> bool:
    return given is not None and given.shape == own.shape


def _some(state: dict[str, torch.Tensor]) -> str:
    shown = [f"{name} {tuple(value.shape)}" for name, value in list(state.items())[:3]]
    return ", ".join(shown) + (", ..." if len(state) > 3 else "")
