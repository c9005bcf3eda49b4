"""Attacks on the gradient of a training step: known answers, refusals, and what noise leaves of them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sfumato.attacks.inversion.analytic_linear import AnalyticLinear, distinct
from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.dlg import DLG, squared_distance
from sfumato.attacks.inversion.evidence import GradientEvidence
from sfumato.attacks.inversion.geiping import Geiping, cosine_distance, total_variation
from sfumato.attacks.inversion.matching import copy_of
from sfumato.models.standardise import Standardise
from sfumato.targets.oracle import image_box

SHAPE = (1, 8, 8)


def network_of(*layers, seed=0, spread=None):
    network = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            limit = spread or p.shape[-1] ** -0.5
            p.copy_((torch.rand(p.shape, generator=generator) - 0.5) * 2 * limit)
    return network


def mlp(activation=nn.ReLU):
    return network_of(nn.Flatten(), nn.Linear(64, 32), activation(), nn.Linear(32, 10))


def sigmoid_cnn():
    """Two convolutions of stride 2 with sigmoids, weights from U(-0.5, 0.5), as DLG's own network has them."""
    return network_of(
        nn.Conv2d(1, 6, 3, padding=1, stride=2), nn.Sigmoid(), nn.Conv2d(6, 6, 3, padding=1), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(96, 10), spread=0.5,
    )  # fmt: skip


def small_cnn():
    return network_of(
        nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.Tanh(),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def digits(size, start=0):
    """`size` digits of different classes, as far as there are so many."""
    x, y = load_digits(return_X_y=True)
    rows = np.arange(start, start + size)
    return torch.from_numpy(x[rows] / 16).float().reshape(-1, *SHAPE), torch.from_numpy(y[rows]).long()


def evidence_of(network, *batches, known=False, noise=0.0, seed=0, loss=None):
    updates, generator = [], torch.Generator().manual_seed(5)
    for x, y in batches:
        mean = nn.functional.cross_entropy(network(x), y)
        found = torch.autograd.grad(mean, list(network.parameters()))
        named = zip(dict(network.named_parameters()), found, strict=True)
        updates.append({name: g + noise * torch.randn(g.shape, generator=generator) for name, g in named})
    sizes = np.array([len(x) for x, _ in batches])
    labels = np.full((len(batches), sizes.max()), -1)
    for step, (_, y) in enumerate(batches):
        labels[step, : len(y)] = y.numpy()
    return GradientEvidence(
        network, tuple(updates), sizes, SHAPE, 10, image_box(SHAPE), labels if known else None, None, seed,
        loss=loss,
    )  # fmt: skip


def error(guesses, truth):
    """Mean over the true records of the root mean square distance to the nearest guess."""
    flat, true = torch.from_numpy(guesses).flatten(1), truth.flatten(1)
    return float(torch.cdist(true, flat).min(dim=1).values.mean()) / 8


def control(truth, size):
    """The same for other digits of the same classes, drawn blindly: what whoever knows the labels alone would give."""
    x, y = load_digits(return_X_y=True)
    picked = [np.flatnonzero(y == label)[50 + place] for place, label in enumerate(truth[1].tolist())]
    return error(np.float32(x[picked[:size]] / 16).reshape(-1, *SHAPE), truth[0])


def test_the_first_linear_layer_gives_one_record_away_exactly():
    batch = digits(1)
    found = AnalyticLinear().reconstruct(evidence_of(mlp(), batch))
    assert found.records.shape == (1, 1, *SHAPE)
    assert np.abs(found.records[0] - batch[0].numpy()).max() < 1e-5
    assert found.labels.tolist() == [[0]]


def test_scaling_in_front_of_the_first_linear_layer_is_undone():
    network = nn.Sequential(Standardise(torch.tensor([0.3]), torch.tensor([0.7])), mlp())
    batch = digits(1)
    found = AnalyticLinear().reconstruct(evidence_of(network, batch))
    assert np.abs(found.records[0] - batch[0].numpy()).max() < 1e-5


def test_a_batch_gives_mixtures_of_which_the_strongest_different_ones_are_kept():
    batch = digits(4)
    found = AnalyticLinear().reconstruct(evidence_of(mlp(), batch))
    assert found.records.shape == (1, 4, *SHAPE)
    flat = found.records[0].reshape(4, -1)
    gaps = [np.sqrt(np.mean((flat[i] - flat[j]) ** 2)) for i in range(4) for j in range(i)]
    assert min(gaps) > 0.02
    assert np.all(np.diff(found.confidence[0]) <= 0)


def test_candidates_that_are_alike_count_once():
    x = torch.tensor([[0.0, 0.0], [0.001, 0.0], [5.0, 1.0], [1.0, 1.0], [0.0, 1.0]]).double()
    assert distinct(x, image_box((2,)), 0.02, 3).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (sigmoid_cnn(), "linear with a bias, got Conv2d"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), "without a bias"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(dim=1), nn.Linear(64, 10)), "but for scaling"),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)), "but for scaling"),
    ],
)
def test_a_network_whose_first_layer_does_not_give_records_away_is_refused_with_the_reason(network, reason):
    (found,) = why_not(AnalyticLinear(), evidence_of(network, digits(1)))
    assert reason in found


def test_dlg_recovers_one_digit_from_a_network_of_sigmoids():
    batch = digits(1, start=3)
    found = DLG(iterations=10).reconstruct(evidence_of(sigmoid_cnn(), batch))
    assert found.facts["loss reached"] < 1e-8
    assert error(found.records[0], batch[0]) < 0.01
    assert found.labels.tolist() == [batch[1].tolist()]
    assert found.queries > 0


def test_dlg_without_the_label_rule_optimises_the_label_too():
    batch = digits(1, start=3)
    found = DLG(iterations=10, restarts=2, read_labels=False).reconstruct(evidence_of(sigmoid_cnn(), batch))
    assert found.labels.tolist() == [batch[1].tolist()]
    assert error(found.records[0], batch[0]) < 0.05


def test_dlg_runs_on_relu_too():
    found = DLG.example().reconstruct(evidence_of(mlp(), digits(2)))
    assert np.isfinite(found.records).all()


@pytest.mark.parametrize("size", [1, 4])
def test_geiping_beats_the_control(size):
    batch = digits(size)
    found = Geiping(iterations=120, restarts=1).reconstruct(evidence_of(small_cnn(), batch, known=True))
    assert error(found.records[0], batch[0]) < 0.5 * control(batch, size)
    assert found.labels is None  # the attacker knew them


def test_labels_that_are_not_known_are_recovered():
    found = Geiping.example().reconstruct(evidence_of(small_cnn(), digits(1, 7), digits(3, 2)))
    assert found.labels.tolist() == [[7, -1, -1], [2, 3, 4]]
    assert np.isnan(found.records[0, 1:]).all()
    assert np.isfinite(found.records[1]).all()
    assert (np.diff(found.confidence, axis=1) <= 0).all()  # no place beyond a batch is surer than what is in it


@pytest.mark.parametrize(
    ("attack", "network"),
    [
        (AnalyticLinear(), mlp()),
        (DLG(iterations=20), sigmoid_cnn()),
        (Geiping(iterations=60, restarts=1), small_cnn()),
    ],
)
def test_noise_far_above_the_gradient_leaves_nothing(attack, network):
    """Noise of 10 on each entry: all attacks do worse than another record of the class would."""
    batch = digits(1)
    found = attack.reconstruct(evidence_of(network, batch, noise=10.0))
    assert error(found.records[0], batch[0]) > control(batch, 1)
    assert found.records.min() >= 0
    assert found.records.max() <= 1


@pytest.mark.parametrize("attack", [AnalyticLinear(), DLG.example(), Geiping.example()])
def test_equal_evidence_gives_equal_guesses_and_leaves_the_network_alone(attack):
    network = mlp(nn.Sigmoid)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    first = attack.reconstruct(evidence_of(network, digits(2)))
    torch.manual_seed(2)
    second = attack.reconstruct(evidence_of(network, digits(2)))
    assert np.array_equal(first.records, second.records)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())


def test_the_loss_of_the_training_is_the_one_that_is_matched():
    def doubled(network, x, targets):
        return 2 * nn.functional.cross_entropy(network(x), targets, reduction="none")

    (x, y), network = digits(2), mlp(nn.Sigmoid)
    evidence = evidence_of(network, (x, y))
    own, twice = copy_of(evidence), copy_of(evidence_of(network, (x, y), loss=doubled))
    targets = torch.eye(10)[y]
    assert squared_distance(own.gradients(x, targets), own.shared(evidence.updates[0], len(x))).item() < 1e-10
    for a, b in zip(own.gradients(x, targets), twice.gradients(x, targets), strict=True):
        assert torch.allclose(2 * a, b, atol=1e-6)


def test_geiping_refuses_a_network_without_a_readable_head_unless_labels_are_known():
    network = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    assert "labels" in why_not(Geiping(), evidence_of(network, digits(1)))[0]
    assert not why_not(Geiping(), evidence_of(network, digits(1), known=True))


def test_distances_by_hand():
    assert float(cosine_distance([torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 2.0])])) == pytest.approx(1.0)
    assert float(cosine_distance([torch.tensor([1.0])], [torch.tensor([-3.0])])) == pytest.approx(2.0)
    assert float(total_variation(torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]]))) == pytest.approx(2.0)
    assert float(total_variation(torch.ones(2, 5))) == 0.0


@pytest.mark.parametrize(
    ("attack", "ends"),
    [
        (DLG(iterations=1, restarts=4), [3.0, 1.0, 2.0, 5.0]),
        (Geiping(iterations=1, restarts=4), [3.0, 1.0, 2.0, 5.0]),
    ],
)
def test_of_all_starts_the_one_that_matches_best_is_the_guess(attack, ends, monkeypatch):
    left, usual = list(ends), type(attack)._descended

    def ended(self, *given):
        loss = left.pop(0)
        return usual(self, *given)._replace(loss=loss, x=torch.full((1, *SHAPE), loss / 10))

    monkeypatch.setattr(type(attack), "_descended", ended)
    found = attack.reconstruct(evidence_of(mlp(nn.Sigmoid), digits(1)))
    assert found.facts["loss reached"] == 1.0
    np.testing.assert_allclose(found.records, 0.1, atol=1e-6)
    assert found.confidence.tolist() == [[-1.0]]


def test_steps_of_geiping_are_a_tenth_as_long_after_three_five_and_seven_eighths(monkeypatch):
    rates, usual = [], torch.optim.Adam.step

    def noting(self, *given):
        rates.append(self.param_groups[0]["lr"])
        return usual(self, *given)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    Geiping(iterations=8, restarts=1, lr=0.2).reconstruct(evidence_of(mlp(nn.Sigmoid), digits(1)))
    np.testing.assert_allclose(rates, [0.2] * 3 + [0.02] * 2 + [0.002] * 2 + [0.0002])


def test_the_gradient_of_one_record_shows_no_other_of_its_class():
    """The null: the update comes from another record of the class, and the guess is no nearer than that record is."""
    x, y = load_digits(return_X_y=True)
    first, other = (np.flatnonzero(y == 3)[place] for place in (0, 50))
    batch = torch.from_numpy(x[[other]] / 16).float().reshape(-1, *SHAPE), torch.tensor([3])
    truth = torch.from_numpy(x[[first]] / 16).float().reshape(-1, *SHAPE)
    for attack, network in (
        (AnalyticLinear(), mlp()),
        (DLG(iterations=10), sigmoid_cnn()),
        (Geiping(iterations=120, restarts=1), small_cnn()),
    ):
        found = attack.reconstruct(evidence_of(network, batch, known=True)).records[0]
        assert error(found, batch[0]) < 0.5 * error(batch[0].numpy(), truth)
        assert error(found, truth) > 0.9 * error(batch[0].numpy(), truth)
