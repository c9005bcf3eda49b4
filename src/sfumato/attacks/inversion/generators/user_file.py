"""A generator that the user brings, from a Python file of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator, GeneratorKind
from sfumato.attacks.inversion.generators.staged import Block, StagedGenerator
from sfumato.errors import SfumatoError, StoreMismatch, UnsupportedModel, UsageError
from sfumato.models.build import drawn_from
from sfumato.seeding import torch_stream
from sfumato.training.user_function import FileFunction
from sfumato.training.weights import file_digest, read_weights
from sfumato.types import Floats
from sfumato.validate import at_least

PROBES = 4
SLACK = 0.05  # of the width of the box, by which a made record may leave it before it is taken for other units
AGREEMENT = 1e-4


@dataclass(frozen=True, eq=False, kw_only=True)
class UserGenerator(StagedGenerator):
    """The user's network, with what it offers besides.

    Args:
        drawn: `sample(count, generator)` of the network, or None for the standard normal.
    """

    drawn: Callable[[int, torch.Generator], torch.Tensor] | None = None

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return super().sample(count, generator) if self.drawn is None else self.drawn(count, generator)


@dataclass(frozen=True, kw_only=True)
class FileGenerator(GeneratorKind):
    """A network from the user's own Python file, which is run: use only files you trust.

    The value is pinned to the text of the file, of the user's own modules that it imports, and of the weights, as they
    are when the value is made; `load` refuses if they have changed since.

    `function(shape)` returns an `nn.Module` from latents [b, latent] to records [b, *shape] in the box. The module may
    have `latent` (length of a latent vector), `sample(count, generator)` (latents, where they are not standard
    normal), `realism(x)` (float [b], higher for records that look real) and `blocks` (an `nn.ModuleList`; each is
    called as `block(hidden, z)`, the first with `z` for both, and chained they must give what the module gives), so
    that an attack can move inside.

    Args:
        path: of the Python file; not part of the generator's name.
        function: called as `function(shape)`.
        weights: path of a .safetensors file with the module's whole state; "" where the function loads its own.
        latent: length of a latent vector; 0 to ask the module.
        seed: of weights that the function draws.

    Attributes:
        source: the function, pinned.
        weights_sha256: of the weights, or "".

    Raises:
        UsageError: if a file is missing.
    """

    name: ClassVar[str] = "user-generator"
    summary: ClassVar[str] = "A generator from a Python file of the user's, for instance a StyleGAN."
    images_only: ClassVar[bool] = False

    path: str = field(default="", repr=False)
    function: str = "make"
    weights: str = field(default="", repr=False)
    latent: int = 0
    seed: int = 0
    source: FileFunction = field(init=False)
    weights_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        at_least("latent", self.latent, 0)
        if not self.path:
            raise UsageError(
                f"Expected the path of a Python file with a function `{self.function}`, got none.",
                remedy="Name it: `user-generator:generator.py:make`.",
            )
        object.__setattr__(self, "source", FileFunction(self.path, self.function))
        object.__setattr__(self, "weights_sha256", file_digest(Path(self.weights)) if self.weights else "")

    def spec(self) -> dict[str, Any]:
        """What names this generator: the content of the files, never where they lie."""
        named = {"latent": self.latent, "seed": self.seed, "weights": self.weights_sha256}
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", **self.source.spec(), **named}

    def fit(self, evidence: ClassEvidence) -> None:
        return None

    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> Generator:
        module = self._module(tuple(evidence.oracle.shape))
        latent = self.latent or _own_latent(module, self.function)
        blocks = getattr(module, "blocks", None)
        generator = UserGenerator(
            blocks=(_whole(module),) if blocks is None else tuple(map(_own_block, blocks)),
            latent=latent,
            box=evidence.box,
            critic=getattr(module, "realism", None),
            drawn=getattr(module, "sample", None),
        )
        _assert_fits(module, generator, tuple(evidence.oracle.shape))
        return generator

    def _module(self, shape: tuple[int, ...]) -> nn.Module:
        try:
            with drawn_from(self.seed, "generator", self.name):
                module = self.source(shape)
        except SfumatoError:
            raise
        except Exception as error:
            raise UsageError(
                f"Expected `{self.function}` in `{Path(self.path).name}` to run, got {type(error).__name__}: {error}.",
                remedy="Run it by itself to see where it fails.",
            ) from error
        if not isinstance(module, nn.Module):
            raise UnsupportedModel(
                f"Expected `{self.function}` to return an nn.Module, got {type(module).__name__}.",
                remedy=f"Return the generator from `{self.function}`.",
            )
        self._filled(module)
        return module.eval().requires_grad_(False)

    def _filled(self, module: nn.Module) -> None:
        """Load the weights into the module, where there are any."""
        if not self.weights:
            return
        weights = read_weights(Path(self.weights))
        if weights.sha256 != self.weights_sha256:
            raise StoreMismatch(
                f"Expected the weights `{Path(self.weights).name}` as they were when the run was set up, got others.",
                remedy="Start the run again.",
            )
        try:
            module.load_state_dict(weights.state)
        except RuntimeError as error:
            raise UsageError(
                f"Expected weights of the network that `{self.function}` makes, got others: "
                f"{str(error).splitlines()[-1].strip()}",
                remedy="Save `state_dict()` of that very network with safetensors.",
            ) from error


def file_generator(text: str) -> FileGenerator:
    """The generator named by `FILE.py`, `FILE.py:FUNCTION` or `FILE.py:FUNCTION:WEIGHTS.safetensors`.

    Raises:
        UsageError: if the text is of another form, or a file is missing.
    """
    path, ending, rest = text.partition(".py")
    function, _, weights = rest.removeprefix(":").partition(":")
    if not ending or (rest and not rest.startswith(":")):
        raise UsageError(f"Expected FILE.py:FUNCTION, got {text!r}.", remedy="Name a Python file and a function in it.")
    return FileGenerator(path=path + ending, function=function or FileGenerator.function, weights=weights)


def _own_latent(module: nn.Module, function: str) -> int:
    latent = getattr(module, "latent", None)
    if isinstance(latent, int) and latent >= 1:
        return latent
    raise UsageError(
        f"Expected the length of a latent vector, got a network of `{function}` without an attribute `latent`.",
        remedy="Set `self.latent = 512` in the module, or give the field `latent`.",
    )


def _whole(module: nn.Module) -> Block:
    def block(hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return module(hidden)

    return block


def _own_block(module: nn.Module) -> Block:
    def block(hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return module(hidden, z)

    return block


def _assert_fits(module: nn.Module, generator: UserGenerator, shape: tuple[int, ...]) -> None:
    """Refuse records of another shape or in other units, and blocks that are not the network."""
    z = generator.sample(PROBES, torch_stream(0, "probe"))
    try:
        with torch.no_grad():
            x = module(z)
            chained = z
            for block in generator.blocks:
                chained = block(chained, z, None)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"Expected a generator that takes latents {tuple(z.shape)}, got {type(error).__name__}: {error}.",
            remedy="Check `latent` and, where there are any, `blocks`: each is called as `block(hidden, z)`.",
        ) from error
    if tuple(x.shape) != (PROBES, *shape):
        raise UnsupportedModel(
            f"Expected records of shape {(PROBES, *shape)} from the generator, got {tuple(x.shape)}.",
            remedy="Resize inside the module; `function(shape)` is told the shape of a record.",
        )
    if not torch.allclose(x, chained, atol=AGREEMENT, rtol=AGREEMENT):
        raise UnsupportedModel(
            "Expected blocks that give what the generator gives when they are chained, got other records.",
            remedy="Let `forward` be nothing but its `blocks` in order, or leave `blocks` away.",
        )
    _assert_in_box(x, generator)


def _assert_in_box(x: torch.Tensor, generator: UserGenerator) -> None:
    low, high = generator.box.low, generator.box.high
    outside = torch.maximum(low - x, x - high) > SLACK * (high - low)
    if bool(outside.any()) or not bool(torch.isfinite(x).all()):
        raise UnsupportedModel(
            f"Expected records in the box ({float(low.min()):g} to {float(high.max()):g}), got values from "
            f"{float(x.min()):.3g} to {float(x.max()):.3g}.",
            remedy="Rescale inside the module; for pictures in -1..1 return (x + 1) / 2.",
        )
