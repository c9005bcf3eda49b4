"""LOMMA: an add-on to GMI and KED-MI that raises the logit, holds features to real ones, and asks students as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator, GeneratorKind
from sfumato.attacks.inversion.generators.catalogue import prior_named
from sfumato.attacks.inversion.gmi import Momentum, recover_points
from sfumato.attacks.inversion.ked_mi import Spread, recover_distributions
from sfumato.attacks.inversion.latent_descent import Found, Hunt, LatentDescent, RowLoss, several_starts
from sfumato.attacks.inversion.students import FeaturePrior, StudentsFit, features_prior, load_students
from sfumato.types import Floats
from sfumato.validate import at_least, one_of, positive

BASES = {"gmi": "wgan-gp", "ked-mi": "ked-gan"}


def negative_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-logit of the class, averaged over models: float [models, b, classes] and int64 [b] to float [b]."""
    return -logits[:, torch.arange(len(labels)), labels].mean(dim=0)


def feature_distance(features: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """|features - wanted|^2 / D, float [b], for penultimate features float [b, D] of the target.

    The division is ours, so that one weight suits networks of every width.
    """
    return (features - wanted).square().mean(dim=1)


def wanted_features(prior: FeaturePrior, noise: torch.Tensor, sampled: bool) -> torch.Tensor:
    """float [b, D]: what the features of each guess should be; the mean, or a draw made with noise float [b, D]."""
    return prior.mean + (prior.std * noise if sampled else torch.zeros_like(noise))


@dataclass(frozen=True, kw_only=True)
class LOMMA(LatentDescent):
    """Logit maximisation with feature regularisation, over the model and its students, in GMI's or KED-MI's search.

    Published: lambda 1, identity weight 100, 2400 steps at rate 0.02, features of 5000 public pictures, three students
    distilled for 20 epochs. The default has an eighth of the steps. The loss is that of the base with the cross-entropy
    replaced by minus the logit, averaged over the models, plus lambda times the squared distance of the target's
    features to those wanted. The published code draws these from a normal distribution and then overwrites them by its
    mean, so the mean is the default; `sampled` draws them, once for each guess.

    Args:
        images: guesses for each class.
        base: "gmi" or "ked-mi": whose search and whose realism.
        prior: kind of the generator; "auto" for the one that belongs to the base.
        steps: of the search.
        learning_rate: of the search.
        weight: of the class and the features against realism.
        feature_weight: of the features against the logit.
        sampled: whether features to be reached are drawn instead of their mean.
        students: whether three students judge besides the target.
        restarts: starts for each class under "gmi", draws for each class in a step under "ked-mi".
    """

    name: ClassVar[str] = "lomma"
    reference: ClassVar[str] = "nguyen2023rethinking"
    bibtex: ClassVar[str] = """@inproceedings{nguyen2023rethinking,
  title = {Re-thinking Model Inversion Attacks Against Deep Neural Networks},
  author = {Nguyen, Ngoc-Bao and Chandrasegaran, Keshigeyan and Abdollahzadeh, Milad and Cheung, Ngai-Man},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  note = {arXiv:2304.01669},
  year = {2023}
}"""
    summary: ClassVar[str] = "GMI or KED-MI with the logit instead of its probability, held features, and students."
    threat_model: ClassVar[ThreatModel] = ThreatModel(
        access="weights", knowledge="Public records of other classes, and what the model answers on them."
    )

    reconstruction: ClassVar[str] = (
        "Whether students are held to features of their own is not known to us; here the target alone is."
    )

    base: str = "ked-mi"
    steps: int = 300
    learning_rate: float = 0.02
    weight: float = 100.0
    feature_weight: float = 1.0
    sampled: bool = False
    students: bool = True
    restarts: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("base", self.base, BASES)
        at_least("steps", self.steps, 1)
        at_least("restarts", self.restarts, self.images if self.base == "gmi" else 1)
        for name in ("weight", "feature_weight"):
            at_least(name, getattr(self, name), 0.0)
        positive("learning_rate", self.learning_rate)

    @classmethod
    def example(cls) -> LOMMA:
        return cls(images=2, steps=20, learning_rate=0.1, restarts=2)

    def kind(self, evidence: ClassEvidence) -> GeneratorKind:
        return prior_named(BASES[self.base] if self.prior == "auto" else self.prior)

    def fits(self, evidence: ClassEvidence) -> tuple[Fit, ...]:
        if not self.students:
            return super().fits(evidence)
        students = StudentsFit(public=evidence.public_records, oracle=evidence.oracle, tell=evidence.tell)
        return (*super().fits(evidence), students)

    def starts(self, generator: Generator, evidence: ClassEvidence) -> torch.Tensor:
        return several_starts(generator, evidence, self.restarts, self.method)

    def search(self, hunt: Hunt, evidence: ClassEvidence, fitted: Sequence[dict[str, Floats]]) -> Found:
        models = load_students(fitted[-1], evidence) if self.students else []
        shape, prior = hunt.starts.shape[:2], features_prior(evidence)
        noise = hunt.streams(self.method, "features").normal(shape[1], len(prior.mean)).flatten(0, 1)
        wanted = wanted_features(prior, noise, self.sampled)

        def loss(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            target = hunt.oracle.passed(x)
            logits = torch.stack([target.logits, *(model(x) for model in models)])
            held = feature_distance(target.features, wanted)
            identity = negative_logits(logits, labels) + self.feature_weight * held
            return -hunt.generator.realism(x) + self.weight * identity

        return self._searched(hunt, loss)

    def _searched(self, hunt: Hunt, loss: RowLoss) -> Found:
        if self.base == "gmi":
            momentum = Momentum(steps=self.steps, learning_rate=self.learning_rate, momentum=0.9, clip=1.0)
            return recover_points(hunt, loss, momentum)
        spread = Spread(steps=self.steps, learning_rate=self.learning_rate, draws=self.restarts, images=self.images)
        return recover_distributions(hunt, loss, spread)
