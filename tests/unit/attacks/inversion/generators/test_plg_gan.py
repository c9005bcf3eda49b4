import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.generators.plg_gan import PlgGan, hinge_loss, max_margin, pseudo_labels
from sfumato.errors import NotApplicable, UsageError


class Brightest(nn.Module):
    """Which third of the rows is the brightest."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return torch.stack([part.mean(dim=(1, 2, 3)) for part in x.tensor_split(3, dim=2)], dim=1) * self.factor


def test_margin_and_hinge_are_those_of_loops():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 4)), rng.integers(4, size=7)
    margins = [max(row[j] for j in range(4) if j != y) - row[y] for row, y in zip(logits, labels)]
    assert max_margin(torch.from_numpy(logits), torch.from_numpy(labels)).mean().item() == pytest.approx(
        np.mean(margins)
    )
    real, fake = rng.normal(size=(2, 6))
    naive = np.mean([max(0, 1 - r) for r in real]) + np.mean([max(0, 1 + f) for f in fake])
    assert hinge_loss(torch.from_numpy(real), torch.from_numpy(fake)).item() == pytest.approx(naive)


def test_the_pictures_given_most_to_a_class_stand_for_it():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    found = pseudo_labels(p, 2)
    assert found.rows.tolist() == [0, 2, 1, 3]
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert len(pseudo_labels(p, 9).rows) == 8


def test_the_class_is_needed_and_matters(digits, evidence):
    kind, given = PlgGan(top=20, latent=8, width=4, steps=5, batch=16), evidence(digits)
    generator = kind.load(kind.fit(given).run(), given)
    z = generator.sample(3, torch.Generator().manual_seed(0))
    assert not torch.allclose(generator(z, torch.zeros(3).long()), generator(z, torch.full((3,), 2)))
    with pytest.raises(UsageError, match="classes"):
        generator(z)
    with pytest.raises(NotApplicable, match="critic"):
        generator.realism(generator(z, torch.zeros(3).long()))


def test_the_target_teaches_the_generator_its_classes(digits, evidence):
    given, margins = evidence(digits, network=Brightest()), []
    labels = torch.arange(150) % 3
    for margin in (0.0, 10.0):
        kind = PlgGan(top=60, latent=8, width=4, steps=25, critic_steps=1, batch=32, lr=4e-3, margin=margin)
        generator = kind.load(kind.fit(given).run(), given)
        x = generator(generator.sample(150, torch.Generator().manual_seed(0)), labels)
        margins.append(max_margin(given.oracle.logits(x), labels).mean().item())
    assert margins[1] < min(0.0, margins[0] - 0.3)


def test_each_step_of_the_generator_asks_the_target(digits, evidence):
    arrays = PlgGan(top=20, latent=4, width=4, steps=3, batch=16).fit(evidence(digits)).run()
    assert arrays["queries"].tolist() == [len(digits) + 3 * 16]


def test_the_targets_weights_get_no_gradient(digits, evidence):
    given = evidence(digits)
    PlgGan(top=20, latent=4, width=4, steps=2, batch=16).fit(given).run()
    assert all(parameter.grad is None for parameter in given.oracle.network.parameters())
