"""Principal components of the public records: the prior for tables, and for pictures where there are few."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh

from sfumato.attacks.inversion.evidence import ClassEvidence, Tell
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.generators.boxed import into_box
from sfumato.attacks.inversion.generators.fits import FromPublic
from sfumato.attacks.inversion.generators.training import all_records
from sfumato.data.population import Population
from sfumato.errors import NotApplicable
from sfumato.seeding import stream
from sfumato.targets.boundary import Box
from sfumato.types import Floats
from sfumato.validate import at_least

FAINTEST = 1e-4  # of the largest standard deviation; fainter components are rounding


class Components(NamedTuple):
    """Mean float64 [d], and components float64 [k, d] of the length of their standard deviation, largest first."""

    mean: Floats
    components: Floats


def principal_components(x: Floats, most: int) -> Components:
    """Of records float64 [n, d]: at most `most` directions of largest variance (divisor n - 1).

    Raises:
        NotApplicable: if all records are the same.
    """
    mean = x.mean(axis=0)
    centred = x - mean
    narrow = len(x) < x.shape[1]
    product = (centred @ centred.T if narrow else centred.T @ centred) / max(1, len(x) - 1)
    size = len(product)
    variance, vectors = eigh(product, subset_by_index=(max(0, size - most), size - 1))
    variance, vectors = variance[::-1].clip(min=0), vectors[:, ::-1]
    kept = variance > FAINTEST**2 * variance.max()
    if not kept.any():
        raise NotApplicable("needs public records that differ, got one record again and again")
    variance, vectors = variance[kept], vectors[:, kept]
    if narrow:  # eigenvectors of the products between records; those of the covariance follow from them
        return Components(mean, (centred.T @ vectors).T / np.sqrt(max(1, len(x) - 1)))
    return Components(mean, np.sqrt(variance)[:, None] * vectors.T)


@dataclass(frozen=True, eq=False, kw_only=True)
class PCAGenerator(Generator):
    """mean + z @ components, moved into the box.

    Args:
        latent: k.
        mean: float32 [d].
        components: float32 [k, d].
        shape: of one record; d numbers.
        box: where records lie.
    """

    latent: int
    mean: torch.Tensor
    components: torch.Tensor
    shape: tuple[int, ...]
    box: Box

    def __call__(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        flat = self.mean.to(z) + z @ self.components.to(z)
        return into_box(flat.reshape(-1, *self.shape), self.box)


@dataclass(frozen=True, kw_only=True)
class PCA(FromPublic):
    """Records as their mean plus a weighted sum of principal components; the latents are the whitened weights.

    So latents of public records have mean 0 and variance 1 in each direction, and standard normal ones give records
    with the mean and the covariance of the public ones. With as many components as the records have dimensions, each
    public record is in reach exactly. Columns of a table are scaled to one variance before, as their units differ.

    Args:
        latent: most components.
        records: most records; of more, so many are drawn at random.
        seed: of that draw.
    """

    name: ClassVar[str] = "pca"
    reference: ClassVar[str] = "pearson1901lines"
    bibtex: ClassVar[str] = """@article{pearson1901lines,
  author = {Pearson, Karl},
  title = {On Lines and Planes of Closest Fit to Systems of Points in Space},
  journal = {The London, Edinburgh, and Dublin Philosophical Magazine and Journal of Science},
  volume = {2},
  number = {11},
  pages = {559--572},
  year = {1901}
}"""
    summary: ClassVar[str] = "Principal components of the public records, whitened."
    images_only: ClassVar[bool] = False

    latent: int = 64
    records: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("latent", self.latent, 1)
        at_least("records", self.records, 2)

    @classmethod
    def example(cls) -> PCA:
        return cls(latent=8)

    def made(self, public: Population, tell: Tell) -> dict[str, Floats]:
        x = all_records(public).flatten(1).double().numpy()
        if len(x) > self.records:
            x = x[np.sort(stream(self.seed, "pca").permutation(len(x))[: self.records])]
        deviation = x.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0) if len(public.records.shape) == 1 else np.ones(x.shape[1])
        found = principal_components(x / scale, self.latent)
        tell(f"pca: {len(found.components)} components of {len(x)} public records")
        return {
            "mean": (found.mean * scale).astype(np.float32),
            "components": (found.components * scale).astype(np.float32),
        }

    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> PCAGenerator:
        components = torch.from_numpy(np.array(arrays["components"]))
        return PCAGenerator(
            latent=len(components),
            mean=torch.from_numpy(np.array(arrays["mean"])),
            components=components,
            shape=tuple(evidence.oracle.shape),
            box=evidence.box,
        )
