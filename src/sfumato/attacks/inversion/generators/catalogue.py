"""Kinds of generators by name, and which one suits the public records at hand."""

from __future__ import annotations

from typing import NamedTuple

from sfumato import registry
from sfumato.attacks.inversion import generators as package
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import GeneratorKind
from sfumato.attacks.inversion.generators.dc_networks import SMALLEST
from sfumato.attacks.inversion.generators.pca import PCA
from sfumato.attacks.inversion.generators.user_file import FileGenerator, file_generator
from sfumato.attacks.inversion.generators.vae import VAE
from sfumato.attacks.inversion.generators.wgan_gp import WganGp
from sfumato.errors import UsageError

FEWEST_FOR_VAE = 100  # public pictures; below, components of their covariance
FEWEST_FOR_GAN = 500


class Suited(NamedTuple):
    """A kind of generator, and why it."""

    kind: GeneratorKind
    reason: str


def generators() -> dict[str, type[GeneratorKind]]:
    """Every kind of generator by its name, sorted."""
    return registry.discover(package, GeneratorKind)


def prior_named(name: str) -> GeneratorKind:
    """The kind called `name` with its own numbers.

    The user's own is named with its file: `user-generator:FILE.py:FUNCTION`, and `:WEIGHTS.safetensors` where needed.

    Raises:
        UsageError: if there is none of that name.
    """
    kind, _, file = name.partition(":")
    if file and kind == FileGenerator.name:
        return file_generator(file)
    if ".py" in name:
        raise UsageError(
            f"Expected a prior by its name, got the file {name!r}.",
            remedy=f"Say that it is a generator of your own: prior={FileGenerator.name}:{name}.",
        )
    return registry.lookup(generators(), "prior", name)()


def suitable(evidence: ClassEvidence) -> Suited:
    """What an attack takes that is told "auto". None of these asks the target, so all targets share what is made."""
    public = evidence.public_records
    shape, count = public.records.shape, len(public)
    if len(shape) != 3 or min(shape[1:]) < SMALLEST:
        return Suited(PCA(), f"records of shape {shape} are no pictures of {SMALLEST} pixels a side or more")
    if count < FEWEST_FOR_VAE:
        return Suited(PCA(), f"{count} public pictures are too few to train a network on")
    if count < FEWEST_FOR_GAN:
        return Suited(VAE(), f"{count} public pictures are too few for a GAN")
    return Suited(WganGp(), f"{count} public pictures are enough for a GAN")
