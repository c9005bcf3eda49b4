"""Away from the boundary, with labels only."""

import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.black_box import Search
from sfumato.attacks.inversion.brep_mi import BREPMI, GROWTH, LARGEST, grows, repelled, repulsion
from sfumato.attacks.inversion.evidence import ClassEvidence, silent
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import oracle_of

LATENT = 3
BOX = Box(torch.full((LATENT,), -9.0), torch.full((LATENT,), 9.0), torch.ones(LATENT))
CENTRES = torch.tensor([[1.2, 0.0, 0.0], [-0.6, 1.0, 0.0], [-0.6, -1.0, 0.0]])  # of a linear softmax model


class Same(Generator):
    """Latents as records."""

    latent = LATENT

    def __call__(self, z, labels=None):
        assert labels is None
        return z.clone()


class OfClass(Generator):
    """Every latent of class y is the same record, so that only the class makes a difference."""

    latent, conditional = LATENT, True

    def __call__(self, z, labels=None):
        return CENTRES[labels]


def linear(x):
    return x @ CENTRES.T


def evidence(labels=(0, 1, 2), predict=linear, classes=3, seed=0):
    oracle = oracle_of(predict, Undefended(), (LATENT,), classes, BOX, seed=0, name="m").restricted_to("labels")
    return ClassEvidence(oracle, np.array(labels), None, seed)


def attack(**changes):
    return BREPMI(**({"images": 2, "draws": 200, "patience": 8, "most": 60} | changes))


def test_only_points_outside_repel_and_all_points_share_the_mean():
    units = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]])
    inside = torch.tensor([[False, True, True, False]])
    torch.testing.assert_close(repulsion(inside, units), torch.tensor([[-0.25, 0.25]]))
    assert repulsion(torch.ones(1, 4, dtype=torch.bool), units).abs().sum() == 0


@pytest.mark.parametrize(("inside", "enough"), [(28, False), (29, True), (32, True), (0, False)])
def test_a_sphere_grows_if_votes_sum_to_more_than_three_quarters(inside, enough):
    assert grows(torch.arange(32)[None] < inside).item() is enough  # 28 inside and 4 outside sum to 24 of 32


def test_walks_leave_the_boundary_and_get_nearer_to_the_heart_of_the_class():
    def margin(z):
        top = linear(z).topk(2, dim=1).values
        return top[:, 0] - top[:, 1]

    z = torch.randn(400, LATENT, generator=torch.Generator().manual_seed(1)).clamp(-1.5, 1.5)
    z = z[(linear(z).argmax(dim=1) == 0) & (margin(z) < 0.5)][:12]
    ended = repelled(
        lambda points, walks: linear(points).argmax(dim=1) == 0,
        z,
        attack(patience=30, most=120, radius=0.2),
        torch.Generator().manual_seed(0),
        silent,
    )
    assert len(z) == 12
    assert ended.grew.all()
    assert (ended.radius > 0.2).all()
    assert (margin(ended.z) > margin(z) + 0.5).all()
    assert (linear(ended.z).argmax(dim=1) == 0).all()
    assert ended.z.abs().max() <= 1.5


def test_a_walk_never_leaves_its_class_and_stops_without_growth():
    asked = []

    def only_here(points, walks):
        asked.append(len(points))
        return torch.zeros(len(points), dtype=torch.bool)

    start = torch.tensor([[0.5, 0.0, 0.0]])
    ended = repelled(only_here, start, attack(patience=4), torch.Generator().manual_seed(0), silent)
    assert torch.equal(ended.z, start)
    assert (ended.iterations.item(), ended.grew.item(), ended.radius.item()) == (4, False, 2.0)
    assert asked == [32, 1] * 4


def test_where_all_is_inside_the_sphere_grows_up_to_a_limit():
    ended = repelled(
        lambda points, walks: torch.ones(len(points), dtype=torch.bool),
        torch.zeros(1, LATENT),
        attack(patience=3, most=500),
        torch.Generator().manual_seed(0),
        silent,
    )
    assert LARGEST <= ended.radius.item() < LARGEST * GROWTH
    assert ended.iterations.item() == 3 + round(np.log(ended.radius.item() / 2.0) / np.log(GROWTH))


def test_it_asks_labels_only_and_counts_them():
    given = evidence()
    found = attack().search(Search(given.oracle, Same()), given)
    assert found.z.shape == (3, 2, LATENT)
    assert np.array_equal(given.oracle.labels(found.z.flatten(0, 1)), [0, 0, 1, 1, 2, 2])
    assert (np.diff(found.confidence, axis=1) <= 0).all()
    assert found.facts["classes_without_start"] == 0
    walked = 33 * found.facts["iterations"]
    assert given.oracle.queries == walked + found.facts["latents_drawn"] + 6


def test_the_same_evidence_gives_the_same_guesses_and_another_seed_others():
    first, again = (attack().search(Search(e.oracle, Same()), e) for e in (evidence(), evidence()))
    assert torch.equal(first.z, again.z)
    other = evidence(seed=1)
    assert not torch.equal(first.z, attack().search(Search(other.oracle, Same()), other).z)


def test_a_class_without_a_start_is_told_of_and_gets_draws_without_confidence():
    given = evidence(labels=(1, 3), predict=lambda x: torch.cat([linear(x), x[:, :1] * 0 - 99], dim=1), classes=4)
    found = attack(draws=64).search(Search(given.oracle, Same()), given)
    assert found.facts["classes_without_start"] == 1
    assert found.facts["latents_drawn"] == 64
    assert (found.confidence[1] == 0).all()
    assert (found.confidence[0] > 0).all()
    assert not torch.equal(found.z[1, 0], found.z[1, 1])


def test_a_rare_class_is_walked_from_again():
    def rare(x):
        return torch.stack([x[:, 0] * 0, 50 * (x[:, 0] - 1.45)], dim=1)

    given = evidence(labels=(1,), predict=rare, classes=2)
    starts = attack(images=40, draws=100).starts(Search(given.oracle, Same()), given)
    own = torch.unique(starts.z[0], dim=0)
    assert 1 <= len(own) < 40
    assert starts.found.all()
    assert (given.oracle.labels(own) == 1).all()


def test_a_conditional_generator_is_given_the_class():
    given = evidence(labels=(2, 1))
    found = attack().search(Search(given.oracle, OfClass()), given)
    assert found.facts["classes_without_start"] == 0
    assert found.facts["latents_drawn"] == 200


def test_starts_under_a_conditional_generator_have_the_label_and_not_the_place_of_the_class():
    given = evidence(labels=(2,), predict=lambda x: linear(x) - 99 * torch.tensor([1.0, 0.0, 0.0]))  # never class 0
    assert attack().starts(Search(given.oracle, OfClass()), given).found.all()


@pytest.mark.parametrize("wrong", [{"points": 0}, {"radius": 0.0}, {"patience": 0}, {"draws": 0}, {"images": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(UsageError):
        BREPMI(**wrong)
