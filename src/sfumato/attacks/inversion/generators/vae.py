"""A small variational autoencoder of the public records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from sfumato.attacks.inversion.evidence import ClassEvidence, Tell
from sfumato.attacks.inversion.generators.dc_networks import SMALLEST, ConvCritic, DCGenerator
from sfumato.attacks.inversion.generators.dense_networks import DenseGenerator, dense_encoder
from sfumato.attacks.inversion.generators.fits import FromPublic
from sfumato.attacks.inversion.generators.staged import Block, StagedGenerator
from sfumato.attacks.inversion.generators.training import all_records, arrays_of, batches, descend, report, restored
from sfumato.data.population import Population
from sfumato.models.build import drawn_from
from sfumato.seeding import torch_stream
from sfumato.types import Floats
from sfumato.validate import at_least, positive

LEAST_ERROR = 1e-6  # mean squared error below which a better fit counts no more


class Autoencoder(NamedTuple):
    """Records [b, *shape] to means and log-variances [b, 2 * latent], and latents to records."""

    encoder: nn.Module
    decoder: DCGenerator | DenseGenerator


def vae_loss(x: torch.Tensor, rebuilt: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Negative evidence lower bound of a batch, per record, up to a constant; scalar.

    The decoder is Gaussian with one variance for all numbers of all records, at its best value for the batch, which is
    the mean squared error: then -log p(x|z) is d/2 log(error) for d numbers a record, up to a constant.

    Args:
        x: records [b, *shape].
        rebuilt: [b, *shape].
        mean: of q(z|x), [b, latent].
        log_variance: of q(z|x), [b, latent].
    """
    error = (x - rebuilt).square().mean().clamp(min=LEAST_ERROR)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
    return 0.5 * x[0].numel() * error.log() + divergence


@dataclass(frozen=True, kw_only=True)
class VAE(FromPublic):
    """A decoder trained with an encoder (Kingma and Welling, 2014), without a critic; steadier than a GAN, blurrier.

    Convolutional for pictures of 8 pixels a side and more, of linear layers otherwise; those see standardised columns.
    The variance of the Gaussian decoder is fitted, not chosen, see `vae_loss`. The networks are ours.

    Args:
        latent: length of a latent vector.
        width: channels of the finest feature map; linear layers have eight times as many units.
        steps: of the optimiser (Adam).
        batch: records a step.
        lr: learning rate.
        seed: of weights, order and noise.
    """

    name: ClassVar[str] = "vae"
    reference: ClassVar[str] = "kingma2014auto"
    bibtex: ClassVar[str] = """@inproceedings{kingma2014auto,
  author = {Kingma, Diederik P. and Welling, Max},
  title = {Auto-Encoding Variational Bayes},
  booktitle = {International Conference on Learning Representations},
  year = {2014}
}"""
    summary: ClassVar[str] = "A small variational autoencoder of the public records."
    images_only: ClassVar[bool] = False

    latent: int = 32
    width: int = 32
    steps: int = 500
    batch: int = 64
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latent", "width", "steps"):
            at_least(name, getattr(self, name), 1)
        at_least("batch", self.batch, 2)
        positive("lr", self.lr)

    @classmethod
    def example(cls) -> VAE:
        return cls(latent=4, width=4, steps=4, batch=16)

    def made(self, public: Population, tell: Tell) -> dict[str, Floats]:
        x, shape = all_records(public), public.records.shape
        mean, scale = _standards(x, dense=not _convolutional(shape))
        networks = self._networks(shape)
        self._train(networks, (x - mean) / scale, tell)
        return arrays_of({"decoder": networks.decoder}) | {"mean": mean.numpy(), "scale": scale.numpy()}

    def load(self, arrays: Mapping[str, Floats], evidence: ClassEvidence) -> StagedGenerator:
        decoder = self._networks(tuple(evidence.oracle.shape)).decoder
        restored(decoder, arrays, "decoder")
        mean, scale = (torch.from_numpy(np.array(arrays[name])) for name in ("mean", "scale"))
        *first, last = decoder.blocks
        return StagedGenerator(blocks=(*first, _in_units(last, mean, scale)), latent=self.latent, box=evidence.box)

    def _networks(self, shape: tuple[int, ...]) -> Autoencoder:
        with drawn_from(self.seed, "generator", self.name):
            if _convolutional(shape):
                return Autoencoder(
                    ConvCritic(shape, 2 * self.latent, self.width), DCGenerator(shape, self.latent, self.width)
                )
            units = 8 * self.width
            return Autoencoder(dense_encoder(shape, 2 * self.latent, units), DenseGenerator(shape, self.latent, units))

    def _train(self, networks: Autoencoder, x: torch.Tensor, tell: Tell) -> None:
        parameters = [p for network in networks for p in network.parameters()]
        optimizer = torch.optim.Adam(parameters, self.lr)
        noise, order = torch_stream(self.seed, self.name, "noise"), batches(len(x), self.batch, self.seed, self.name)
        for step in range(self.steps):
            seen = x[next(order)]
            mean, log_variance = networks.encoder(seen).chunk(2, dim=1)
            drawn = torch.randn(mean.shape, generator=noise)
            rebuilt = networks.decoder(mean + (0.5 * log_variance).exp() * drawn)
            loss = vae_loss(seen, rebuilt, mean, log_variance)
            descend(optimizer, loss, f"`{self.name}` at step {step}")
            report(tell, self.name, step, self.steps, loss)


def _convolutional(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and min(shape[1:]) >= SMALLEST


def _standards(x: torch.Tensor, *, dense: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each number, float32 [*shape]; 0 and 1 for a convolutional network."""
    if not dense:
        return torch.zeros(x.shape[1:]), torch.ones(x.shape[1:])
    deviation = x.std(dim=0, correction=0)
    return x.mean(dim=0), torch.where(deviation > 0, deviation, 1.0)


def _in_units(block: nn.Module, mean: torch.Tensor, scale: torch.Tensor) -> Block:
    """The last block, followed by the way back from standardised numbers."""

    def scaled(hidden: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return mean + scale * block(hidden, z, labels)

    return scaled
