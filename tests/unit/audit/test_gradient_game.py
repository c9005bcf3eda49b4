"""The gradient game: what a step shares, against naive twins; which records stand beside it; what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sfumato.attacks.inversion.analytic_linear import AnalyticLinear
from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.dlg import CLIPPED, DLG
from sfumato.attacks.inversion.geiping import Geiping
from sfumato.attacks.inversion.matching import copy_of
from sfumato.audit.inversion.gradient_game import drawn_rounds, gradient_rounds
from sfumato.canonical import content_hash
from sfumato.data.population import Population, Unit
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.mist import MIST
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotApplicable, UsageError
from sfumato.models.mlp import MLP
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

PRIVATE = {
    "sample_rate": 0.1, "expected_batch_size": 4, "steps": 5, "delta": 1e-5, "adjacency": "ADD_OR_REMOVE_ONE",
    "input_mean": 0.2, "input_std": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    records = np.float32(x[:300] / 16).reshape(-1, 1, 8, 8)
    return Population(records, Unit("example"), labels=y[:300].astype(np.int64), kind="image")


@pytest.fixture(scope="module")
def owned(digits):
    unit = Unit("owner", np.arange(300) % 60)
    return Population(digits.records, unit, labels=digits.labels, kind="image")


def recipe(defence=None, **changes):
    task = Task(model=MLP(hidden=(16,), activation="tanh"), epochs=2, batch_size=32, **changes)
    return Recipe(task, defence or Undefended())


def rounds_of(population, defence=None, sizes=(1, 4), steps=2, seed=3, trained=None, **more):
    return gradient_rounds(recipe(defence), trained, population, np.arange(200), sizes, steps, seed, **more)


def naive(rounds, place, smoothing=0.0):
    """The gradient of the mean cross-entropy of a batch, by hand."""
    evidence = rounds.evidence
    size = evidence.sizes[place]
    x, y = torch.from_numpy(rounds.truth[place, :size]), torch.from_numpy(rounds.true_labels[place, :size])
    loss = nn.functional.cross_entropy(evidence.network(x), y, label_smoothing=smoothing)
    parameters = {name: p for name, p in evidence.network.named_parameters() if p.requires_grad}
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def test_an_undefended_step_shares_the_gradient_of_the_mean_loss(digits):
    rounds = rounds_of(digits)
    assert rounds.evidence.sizes.tolist() == [1, 1, 4, 4]
    assert rounds.evidence.network.training
    assert not rounds.evidence.private
    for place in range(4):
        for name, gradient in naive(rounds, place).items():
            assert torch.allclose(rounds.evidence.updates[place][name], gradient, atol=1e-6)


def test_the_objective_of_the_defence_counts_and_the_attacker_knows_it(digits):
    rounds = rounds_of(digits, LabelSmoothing(smoothing=0.3))
    for name, gradient in naive(rounds, 2, smoothing=0.3).items():
        assert torch.allclose(rounds.evidence.updates[2][name], gradient, atol=1e-6)
    assert rounds.evidence.loss.spec()["objective"] == LabelSmoothing(smoothing=0.3)


def test_a_private_step_is_clipped_and_divided_as_the_session_does_it(digits):
    """With next to no noise: the sum of clipped gradients over the expected batch size."""
    rounds = rounds_of(digits, DPSGD(**PRIVATE, noise_multiplier=1e-6, max_grad_norm=0.3))
    assert rounds.evidence.private
    alone = [single(rounds, 2, place) for place in range(4)]
    for name, shared in rounds.evidence.updates[2].items():
        expected = sum(g[name] * min(1.0, 0.3 / norm(g)) for g in alone) / 4
        assert torch.allclose(shared, expected, atol=1e-5)


def single(rounds, place, record):
    x = torch.from_numpy(rounds.truth[place, [record]])
    loss = nn.functional.cross_entropy(rounds.evidence.network(x), torch.tensor([rounds.true_labels[place, record]]))
    parameters = dict(rounds.evidence.network.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def norm(gradient):
    return float(torch.stack([g.square().sum() for g in gradient.values()]).sum().sqrt())


def test_a_private_step_has_the_noise_of_its_plan_from_the_seed(digits):
    loud = DPSGD(**PRIVATE, noise_multiplier=8.0, max_grad_norm=0.3)
    first, again, other = (rounds_of(digits, loud, sizes=(1,), seed=seed).evidence for seed in (3, 3, 4))
    noise = torch.cat([g.flatten() for g in first.updates[0].values()])
    assert float(noise.std()) == pytest.approx(8.0 * 0.3 / 4, rel=0.15)
    name = next(iter(first.updates[0]))
    assert torch.equal(first.updates[0][name], again.updates[0][name])
    assert not torch.equal(first.updates[0][name], other.updates[0][name])
    assert not torch.equal(first.updates[0][name], first.updates[1][name])


def test_a_step_that_protects_owners_clips_all_records_of_one_together(owned):
    defence = DPSGD(**PRIVATE, noise_multiplier=1e-6, max_grad_norm=0.3, max_records_per_unit=5)
    rounds = rounds_of(owned, defence, sizes=(2,), steps=1, level="unit")
    size = int(rounds.evidence.sizes[0])
    units = owned.unit_of[rows_of(owned, rounds.truth[0, :size])]
    expected = {}
    for unit in np.unique(units):
        parts = [single(rounds, 0, place) for place in np.flatnonzero(units == unit)]
        mean = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        for name, gradient in mean.items():
            expected[name] = expected.get(name, 0) + gradient * min(1.0, 0.3 / norm(mean)) / 4
    for name, shared in rounds.evidence.updates[0].items():
        assert torch.allclose(shared, expected[name], atol=1e-5)


def rows_of(population, records):
    everything = population.tensor(np.arange(len(population))).numpy()
    return np.array([int(np.flatnonzero((everything == record).all(axis=(1, 2, 3)))[0]) for record in records])


def test_steps_that_protect_owners_are_no_game_about_single_records(owned):
    defence = DPSGD(**PRIVATE, noise_multiplier=1.0, max_records_per_unit=5)
    with pytest.raises(NotApplicable, match="all records of one owner"):
        rounds_of(owned, defence)


def test_a_batch_at_unit_level_is_all_training_records_of_its_units(owned):
    (first, second) = drawn_rounds(owned, np.arange(200), (2,), 2, seed=0, level="unit")
    for batch in (first, second):
        units = np.unique(owned.unit_of[batch])
        assert len(units) == 2
        assert sorted(batch) == np.flatnonzero(np.isin(owned.unit_of[:200], units)).tolist()
    assert not set(owned.unit_of[first]) & set(owned.unit_of[second])


@pytest.mark.parametrize("level", ["record", "unit"])
def test_others_are_training_records_of_the_same_classes_in_no_batch(owned, level):
    rounds = rounds_of(owned, sizes=(2,), steps=3, level=level, others=3)
    batches = [rows_of(owned, truth[~np.isnan(truth).any(axis=(1, 2, 3))]) for truth in rounds.truth]
    drawn = np.concatenate(batches)
    for batch, others, labels in zip(batches, rounds.others, rounds.other_labels, strict=True):
        beside = rows_of(owned, others[labels >= 0])
        assert len(np.unique(beside)) == len(beside) == 3 * len(np.unique(owned.label_array[batch]))
        assert beside.max() < 200
        assert not set(beside) & set(drawn)
        assert (np.unique(owned.label_array[beside], return_counts=True)[1] == 3).all()
        assert set(owned.label_array[beside]) == set(owned.label_array[batch])
        assert (owned.label_array[beside] == labels[labels >= 0]).all()
        if level == "unit":
            assert not set(owned.unit_of[beside]) & set(owned.unit_of[drawn])


def test_trained_weights_are_those_at_which_the_step_is_taken(digits):
    private = recipe(DPSGD(**PRIVATE, noise_multiplier=1.0))
    (trained,) = private.fit(digits, [Assignment(np.arange(200), 5)], LoopOptions())
    evidence = gradient_rounds(private, trained, digits, np.arange(200), (1,), 1, 0).evidence
    for name, value in trained.state.items():
        assert torch.equal(evidence.network.state_dict()[name], value)


def test_fresh_weights_stand_behind_the_scaling_that_the_training_would_fit(digits):
    scaled = gradient_rounds(recipe(standardise=True), None, digits, np.arange(200), (1,), 1, 0).evidence.network
    x = digits.tensor(np.arange(200))
    assert float(scaled[0](x).mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(scaled[0](x).std()) == pytest.approx(1.0, abs=1e-3)


def test_labels_are_only_known_where_they_are_said_to_be(digits):
    assert rounds_of(digits).evidence.labels is None
    known = rounds_of(digits, labels_known=True)
    assert np.array_equal(known.evidence.labels, known.true_labels)
    assert known.true_labels[0].tolist()[1:] == [-1, -1, -1]
    assert np.isnan(known.truth[0, 1:]).all()


def test_what_a_step_alone_does_not_show_is_refused_with_the_reason(digits):
    with pytest.raises(NotApplicable, match="course"):
        rounds_of(digits, MIST())
    own = Recipe.from_function(lambda x, y, seed: None, name="own", defence=Undefended())
    with pytest.raises(NotApplicable, match="a function that trains"):
        gradient_rounds(own, None, digits, np.arange(200), (1,), 1, 0)


@pytest.mark.parametrize("sizes", [(200,), (50, 60)])
def test_more_batches_than_there_are_records_are_refused(digits, sizes):
    with pytest.raises(UsageError, match="batches"):
        rounds_of(digits, sizes=sizes)


def test_the_evidence_can_be_named_and_names_what_matters(digits):
    first, same, other = (content_hash(rounds_of(digits, seed=seed).evidence) for seed in (3, 3, 4))
    assert first == same != other


@pytest.mark.parametrize("attack", [AnalyticLinear(), Geiping(iterations=60, restarts=1)])
def test_attacks_find_the_record_in_an_undefended_step_and_not_in_a_private_one(digits, attack):
    """The same seed gives both the same batch. The control: the nearest of others that were in no batch."""
    plain = rounds_of(digits, sizes=(1,), steps=2)
    private = rounds_of(digits, DPSGD(**PRIVATE, noise_multiplier=2.0), sizes=(1,), steps=2)
    assert np.array_equal(plain.truth, private.truth)
    assert why_not(attack, plain.evidence) == ()
    assert gap(attack, plain) < 0.1 < gap(attack, private)


def test_what_stops_matching_is_the_noise_not_the_clipping(digits):
    """Next to no noise, a tight clip and a large divisor, both public: the attacker's copy does the same."""
    plan = {**PRIVATE, "expected_batch_size": 500, "max_grad_norm": 0.3}
    quiet = rounds_of(digits, DPSGD(**plan, noise_multiplier=1e-6), (1,), 2)
    assert gap(Geiping(iterations=100, restarts=1), quiet) < 0.1
    assert why_not(DLG(), quiet.evidence) == (CLIPPED,)


def test_the_copy_clips_all_records_of_an_owner_together_as_the_session_does(owned):
    plan = {**PRIVATE, "expected_batch_size": 500, "noise_multiplier": 1e-6, "max_grad_norm": 0.3}
    rounds = rounds_of(owned, DPSGD(**plan, max_records_per_unit=5), (1,), 2, level="unit")
    assert rounds.evidence.private.together
    there = rounds.true_labels[0] >= 0
    x, y = torch.from_numpy(rounds.truth[0][there]).double(), torch.from_numpy(rounds.true_labels[0][there])
    network = copy_of(rounds.evidence, torch.float64)
    mine = network.gradients(x, torch.eye(10, dtype=torch.float64)[y])
    assert alike(mine, network.shared(rounds.evidence.updates[0], len(x)))


def alike(mine, shared):
    gaps = torch.stack([(a - b).detach().abs().max() for a, b in zip(mine, shared, strict=True)])
    return float(gaps.max()) < 2e-4


def test_the_copy_clips_each_record_of_a_batch_as_the_session_does(digits):
    plan = {**PRIVATE, "expected_batch_size": 50, "noise_multiplier": 1e-6, "max_grad_norm": 0.3}
    evidence = (rounds := rounds_of(digits, DPSGD(**plan), sizes=(4,), steps=1)).evidence
    x, y = torch.from_numpy(rounds.truth[0]).double(), torch.from_numpy(rounds.true_labels[0])
    network = copy_of(evidence, torch.float64)
    shared = network.shared(evidence.updates[0], 4)
    assert alike(network.gradients(x, torch.eye(10, dtype=torch.float64)[y]), shared)
    plain = copy_of(replace(evidence, private=None), torch.float64)
    assert not alike(plain.gradients(x, torch.eye(10, dtype=torch.float64)[y]), shared)


def test_how_a_step_was_clipped_is_part_of_what_determines_an_attack(digits):
    evidence = rounds_of(digits, DPSGD(**PRIVATE, noise_multiplier=1.0), sizes=(1,)).evidence
    assert content_hash(evidence) != content_hash(replace(evidence, private=None))


def gap(attack, rounds):
    """Mean squared error of the guess, over that of the mean of the others."""
    guesses = attack.reconstruct(rounds.evidence).records
    control = np.nanmean(rounds.others, axis=1, keepdims=True)
    return float(((guesses - rounds.truth) ** 2).mean() / ((control - rounds.truth) ** 2).mean())
