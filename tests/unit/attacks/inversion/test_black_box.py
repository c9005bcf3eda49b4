"""What attacks that see answers only have in common."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sfumato.attacks.evidence import ThreatModel
from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.black_box import AT_ONCE, FLOOR, BlackBoxInversion, Found, Search
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.generators.pca import PCA
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

BOX = Box(torch.full((2,), -1.0), torch.ones(2), torch.ones(2))
DRAWN = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32) / 4
PUBLIC = Population(DRAWN, "example", labels=np.arange(30) % 2)


class Wide(Generator):
    """Latents as records, wherever they are; remembers how many it made at a time."""

    latent = 2

    def __init__(self, conditional=False):
        self.conditional, self.made = conditional, []

    def __call__(self, z, labels=None):
        self.made.append(len(z))
        return z if labels is None else z + labels[:, None]


@dataclass(frozen=True, kw_only=True)
class Ends(BlackBoxInversion):
    """Answers with two latents for each class, the second one outside of the box."""

    name = "ends"
    threat_model = ThreatModel(access="scores", knowledge="")

    def search(self, search, evidence):
        z = torch.tensor([[0.1, 0.2], [40.0, -40.0]]).repeat(len(evidence.labels), 1, 1)
        search.scores(z[:, 0], torch.from_numpy(evidence.labels))
        return Found(z, np.tile([0.9, 0.1], (len(evidence.labels), 1)), {"fact": 1.0})


def oracle(predict=lambda x: x):
    return oracle_of(predict, Undefended(), (2,), 2, BOX, seed=0, name="m")


def test_records_are_made_in_parts_and_lie_in_the_box():
    generator = Wide()
    z = torch.linspace(-3, 3, 2 * (AT_ONCE + 5)).reshape(-1, 2)
    made = Search(oracle(), generator).records(z, torch.zeros(len(z), dtype=torch.int64))
    torch.testing.assert_close(made, z.clamp(-1, 1))
    assert generator.made == [AT_ONCE, 5]


def test_the_class_goes_to_generators_that_take_it():
    z, y = torch.zeros(2, 2), torch.tensor([0, 1])
    assert Search(oracle(), Wide()).records(z, y).tolist() == [[0, 0], [0, 0]]
    assert Search(oracle(), Wide(conditional=True)).records(z, y).tolist() == [[0, 0], [1, 1]]


def test_scores_are_those_of_the_classes_asked_about():
    search, z = Search(oracle(), Wide()), torch.tensor([[0.5, -0.5], [0.5, -0.5]])
    torch.testing.assert_close(search.scores(z, torch.tensor([0, 1])), z.log_softmax(dim=1).diagonal())
    assert search.answers(z, torch.tensor([0, 1])).tolist() == [0, 0]
    assert search.oracle.queries == 4


def test_a_score_of_nothing_is_a_number():
    hidden = oracle(lambda x: torch.where(x > 0, 0.0, -torch.inf))
    table = Search(hidden, Wide()).table(torch.tensor([[0.5, -0.5]]), torch.tensor([0]))
    assert table.tolist() == [[0.0, FLOOR]]


def test_guesses_are_records_in_the_box_with_their_facts_and_queries():
    evidence = ClassEvidence(oracle(), np.array([1, 0, 1]), PUBLIC, 0)
    attack = Ends(images=2, prior="pca")
    found = attack.reconstruct(evidence, [fit.run() for fit in attack.fits(evidence)])
    assert found.records.shape == (3, 2, 2)
    assert found.records.min() >= -1
    assert found.records.max() <= 1
    assert (found.queries, found.facts, found.confidence.shape) == (3, {"fact": 1.0}, (3, 2))


def test_auto_takes_what_suits_the_public_records():
    evidence = ClassEvidence(oracle(), np.array([0]), PUBLIC, 0)
    assert isinstance(Ends().kind(evidence), PCA)
    assert why_not(Ends(), evidence) == ()


def test_a_prior_for_pictures_is_refused_for_a_table():
    evidence = ClassEvidence(oracle(), np.array([0]), PUBLIC, 0)
    assert why_not(Ends(prior="wgan-gp"), evidence) == (
        "needs pictures for the prior wgan-gp, got records of shape (2,)",
    )
    without = ClassEvidence(oracle(), np.array([0]), None, 0)
    assert why_not(Ends(prior="wgan-gp"), without) == ("needs public records of other classes, got none",)


def test_an_unknown_prior_is_refused():
    with pytest.raises(UsageError, match="prior"):
        Ends(prior="pcb")
