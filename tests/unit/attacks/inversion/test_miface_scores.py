"""Climbing by gradients that are estimated from scores."""

import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.black_box import Search
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.miface_scores import ROOT_3, BoxGenerator, MIFaceScores, directions_in, slopes
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

WIDTH = 6
BOX = Box(torch.zeros(WIDTH), torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 4.0]), torch.ones(WIDTH))
W = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -0.2])
PUBLIC = Population(
    np.random.default_rng(0).random((50, WIDTH)).astype(np.float32), "example", labels=np.arange(50) % 2
)


class Stretched(Generator):
    """Latents times 2, as records."""

    latent = WIDTH

    def __call__(self, z, labels=None):
        return 2 * z


def logistic(x):
    score = 0.4 * (x @ W)
    return torch.stack([-score, score], dim=1)


def evidence(predict=logistic, labels=(0, 1), public=None, seed=0, box=BOX):
    oracle = oracle_of(predict, Undefended(), (WIDTH,), 2, box, seed=0, name="m").restricted_to("scores")
    return ClassEvidence(oracle, np.array(labels), public, seed)


def unstopped(**changes):
    return MIFaceScores(**({"images": 2, "budget": 1_500, "confidence": 1.0, "window": 10_000} | changes))


def test_latents_of_the_box_are_its_records():
    generator = BoxGenerator(BOX)
    z = generator.sample(4_000, torch.Generator().manual_seed(0))
    assert z.mean().abs() < 0.05
    assert abs(z.std().item() - 1) < 0.05
    x = generator(z)
    assert (x >= BOX.low).all()
    assert (x <= BOX.high).all()
    torch.testing.assert_close(generator.of(x), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(generator(torch.full((1, WIDTH), 99.0))[0], BOX.high)


def test_a_number_that_cannot_vary_stays():
    box = Box(torch.ones(2), torch.tensor([1.0, 3.0]), torch.ones(2))
    assert BoxGenerator(box).of(torch.tensor([[1.0, 3.0]])).tolist() == [[0.0, pytest.approx(ROOT_3)]]


def test_few_numbers_are_looked_along_one_by_one():
    assert torch.equal(directions_in(3, 3, 2, torch.Generator()), torch.eye(3).expand(2, -1, -1))
    assert directions_in(4, 3, 2, torch.Generator()).shape == (2, 3, 4)


def test_slopes_along_the_axes_are_exact_for_a_quadratic():
    z = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]])
    asked = []

    def value(points, owners):
        asked.append(owners)
        return (points.square() * torch.tensor([1.0, 2.0, 3.0])).sum(dim=1)

    found = slopes(value, z, torch.tensor([4, 7]), directions_in(3, 3, 2, torch.Generator()), 0.1)
    torch.testing.assert_close(found, 2 * z * torch.tensor([1.0, 2.0, 3.0]), atol=1e-3, rtol=1e-3)
    assert torch.cat(asked).bincount()[[4, 7]].tolist() == [6, 6]


def test_slopes_along_random_directions_are_right_on_average():
    slope = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0])
    ways = directions_in(5, 4, 8_000, torch.Generator().manual_seed(0))
    z = torch.zeros(8_000, 5)
    found = slopes(lambda points, owners: points @ slope, z, torch.arange(8_000), ways, 0.1).mean(dim=0)
    torch.testing.assert_close(found / found.norm(), slope / slope.norm(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("directions", [16, 4])
def test_on_a_logistic_model_it_reaches_the_corner_of_the_box(directions):
    given = evidence()
    found = unstopped(directions=directions, budget=4_000).reconstruct(given)
    corner = torch.where(W > 0, BOX.high, BOX.low).numpy()
    np.testing.assert_allclose(found.records[1, 0], corner, atol=0.02)
    np.testing.assert_allclose(found.records[0, 0], (BOX.high - torch.from_numpy(corner)).numpy(), atol=0.02)
    assert found.records.shape == (2, 2, WIDTH)


def test_queries_stay_within_the_budget_and_are_counted():
    given = evidence()
    found = unstopped(budget=100).reconstruct(given)
    steps = (100 - 1) // (2 * WIDTH + 1)
    assert found.queries == given.oracle.queries == 4 * (1 + steps * (2 * WIDTH + 1))
    assert found.queries <= 4 * 100
    assert found.facts == {"steps": 4.0 * steps, "coordinates": float(WIDTH)}


def test_a_climb_ends_at_the_confidence():
    found = unstopped(confidence=0.8).reconstruct(evidence())
    assert found.queries < unstopped().reconstruct(evidence()).queries
    assert (found.confidence >= 0.8).all()
    assert (found.confidence < 0.95).all()


def test_a_climb_ends_where_nothing_changes():
    found = unstopped(window=5).reconstruct(evidence(predict=lambda x: x[:, :2] * 0))
    assert found.facts["steps"] == 4.0 * 5
    assert np.isfinite(found.records).all()


def test_the_first_guess_starts_at_the_record_0():
    one = unstopped()
    starts = one.starts(BoxGenerator(BOX), 2, evidence()).reshape(2, 2, WIDTH)
    assert torch.equal(BoxGenerator(BOX)(starts[:, 0]), torch.zeros(2, WIDTH))
    assert not torch.equal(starts[0, 1], starts[1, 1])
    assert torch.equal(one.starts(Stretched(), 2, evidence()).reshape(2, 2, WIDTH)[:, 0], torch.zeros(2, WIDTH))


def test_it_climbs_in_the_latents_of_a_generator():
    wide = Box(torch.full((WIDTH,), -9.0), torch.full((WIDTH,), 9.0), torch.ones(WIDTH))
    given = evidence(predict=lambda x: logistic(x / 9), public=PUBLIC, box=wide)
    found = unstopped(budget=3_000).search(Search(given.oracle, Stretched()), given)
    torch.testing.assert_close(found.z[1, 0], 3.0 * W.sign(), atol=0.05, rtol=0.05)


def test_public_records_choose_the_coordinates():
    one = MIFaceScores()
    assert one.named(evidence()) == "none"
    assert one.named(evidence(public=PUBLIC)) == "pca"
    assert one.fits(evidence()) == ()
    assert why_not(one, evidence()) == ()
    assert why_not(MIFaceScores(prior="pca"), evidence()) == ("needs public records for the prior pca, got none",)


def test_the_same_evidence_gives_the_same_guesses():
    first, again, other = (unstopped(directions=3, budget=60).reconstruct(evidence(seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.records, again.records)
    assert not np.array_equal(first.records, other.records)


@pytest.mark.parametrize("wrong", [{"budget": 65}, {"lr": 0.0}, {"radius": 0.0}, {"confidence": 1.1}, {"images": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(UsageError):
        MIFaceScores(**wrong)
