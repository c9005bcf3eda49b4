"""A genetic search in latents."""

import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.black_box import FLOOR, Search
from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.attacks.inversion.mirror import Bounds, Generation, Mirror, bounds_of, crossed, mutated
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

LATENT = 6
BOX = Box(torch.full((LATENT,), -9.0), torch.full((LATENT,), 9.0), torch.ones(LATENT))
PEAKS = torch.tensor([[0.6, -0.6, 0.3, 0.0, 0.5, -0.2], [-0.5, 0.2, 0.1, 0.7, -0.4, 0.6]])


class Same(Generator):
    """Latents as records."""

    latent = LATENT

    def __call__(self, z, labels=None):
        return z.clone()


class OfClass(Same):
    """Moved by the class."""

    conditional = True

    def __call__(self, z, labels=None):
        return z + 0.1 * labels[:, None]


def smooth(x):
    """Logits that are the largest at the peak of each class; the third class takes what is far from both."""
    far = torch.stack([(x - peak).square().sum(dim=1) for peak in PEAKS], dim=1)
    return torch.cat([4 - 8 * far, torch.zeros(len(x), 1)], dim=1)


def evidence(seed=0, predict=smooth, labels=(0, 1)):
    oracle = oracle_of(predict, Undefended(), (LATENT,), 3, BOX, seed=0, name="m").restricted_to("scores")
    return ClassEvidence(oracle, np.array(labels), None, seed)


def attack(**changes):
    return Mirror(**({"images": 3, "samples": 300, "population": 40, "generations": 60, "confidence": 1.0} | changes))


def generator():
    return torch.Generator().manual_seed(0)


def test_bounds_are_mean_and_deviations():
    z = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    bounds = bounds_of(z, 1.5)
    assert (bounds.low.tolist(), bounds.high.tolist(), bounds.spread.tolist()) == ([-0.5, 1.0], [2.5, 1.0], [1.0, 0.0])


def test_a_child_takes_more_of_the_better_parent():
    first, second = torch.zeros(1, 20_000), torch.ones(1, 20_000)
    child = crossed(first, second, torch.tensor([[-1.0, -3.0]]), generator())
    assert set(child.unique().tolist()) == {0.0, 1.0}
    share = 1 / (1 + np.exp(-2))  # the plain share of log-probabilities would be 1/4, in favour of the worse parent
    assert abs((child == 0).float().mean().item() - share) < 0.02


def test_mutations_are_as_frequent_and_as_strong_as_they_should_be_and_stay_in_bounds():
    bounds = Bounds(torch.full((20_000,), -0.05), torch.full((20_000,), 9.0), torch.full((20_000,), 2.0))
    moved = mutated(torch.zeros(1, 20_000), bounds, 0.3, 0.1, generator())
    assert abs((moved != 0).float().mean().item() - 0.3) < 0.02
    assert moved.min() == torch.tensor(-0.05)
    assert 0.19 < moved.max() < 0.2


def test_it_finds_the_peaks_of_a_smooth_model():
    given = evidence()
    found = attack().search(Search(given.oracle, Same()), given)
    best = found.z[:, 0]
    first = attack(generations=0).search(Search(given.oracle, Same()), given).z[:, 0]
    assert (best - PEAKS).norm(dim=1).max() < 0.25
    assert ((best - PEAKS).norm(dim=1) < (first - PEAKS).norm(dim=1)).all()
    torch.testing.assert_close(torch.from_numpy(found.confidence[:, 0]).float(), smooth(best).softmax(1).diagonal())
    assert (np.diff(found.confidence, axis=1) <= 0).all()


def test_the_elite_lives_on():
    given = evidence()
    search, one = Search(given.oracle, Same()), attack(mutation=1.0, strength=5.0)
    before = one.first(search, Same().sample(300, generator()).clamp(-1, 1), torch.tensor([0, 1]))
    after = one.bred(search, before, torch.tensor([0, 1]), bounds_of(before.z.flatten(0, 1), 1.0), generator())
    assert (after.fitness[:, 0] >= before.fitness[:, 0]).all()
    assert after.z.shape == before.z.shape


def test_parents_are_drawn_by_the_softmax_of_their_fitness():
    given, one = evidence(labels=(0,)), attack(population=4_000, samples=4_000, strength=1e-9)
    z = torch.zeros(1, 4_000, LATENT)
    z[0, 2_000:] = 0.5  # half of the latents, each three times as fit
    fitness = torch.cat([torch.zeros(1, 2_000), torch.full((1, 2_000), np.log(3.0))], dim=1)
    bounds = Bounds(torch.full((LATENT,), -1.0), torch.ones(LATENT), torch.ones(LATENT))
    then = one.bred(
        Search(given.oracle, Same()), Generation(z, fitness.float()), torch.tensor([0]), bounds, generator()
    )
    fitter = (then.z[0] > 0.25).float().mean().item()
    drawn, won = 3 / 4, 3 / 4  # a parent of the fitter half; its number against one of the other half
    assert abs(fitter - (drawn**2 + 2 * drawn * (1 - drawn) * won)) < 0.02


def test_queries_are_samples_and_children():
    given = evidence()
    found = attack(generations=5).search(Search(given.oracle, Same()), given)
    assert given.oracle.queries == 300 + 5 * 2 * 39
    assert found.facts == {"generations": 5.0}


def test_a_class_that_is_probable_enough_is_left_alone():
    given = evidence()
    attack(confidence=1e-9).search(Search(given.oracle, Same()), given)
    assert given.oracle.queries == 300


def test_a_generator_that_takes_the_class_is_asked_for_each():
    given = evidence()
    found = attack(generations=0).search(Search(given.oracle, OfClass()), given)
    assert given.oracle.queries == 600
    shown = OfClass()(found.z[1], torch.ones(3, dtype=torch.int64))
    torch.testing.assert_close(torch.from_numpy(found.confidence[1]).float(), smooth(shown).softmax(dim=1)[:, 1])


def test_scores_of_nothing_are_numbers():
    given = evidence(predict=lambda x: torch.stack([x[:, 0] * 0, x[:, 0] * 0 - torch.inf, x[:, 0] * 0], dim=1))
    found = attack(generations=2).search(Search(given.oracle, Same()), given)
    assert np.isfinite(found.confidence).all()
    assert found.confidence[1, 0] == pytest.approx(np.exp(FLOOR))


def test_the_same_evidence_gives_the_same_guesses():
    first, again, other = (attack().search(Search(e.oracle, Same()), e) for e in map(evidence, (0, 0, 1)))
    assert torch.equal(first.z, again.z)
    assert not torch.equal(first.z, other.z)


@pytest.mark.parametrize("wrong", [{"population": 1}, {"samples": 10}, {"confidence": 1.5}, {"images": 200}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(UsageError):
        Mirror(**wrong)
