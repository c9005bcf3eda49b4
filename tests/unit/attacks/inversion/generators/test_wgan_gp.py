import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.generators.wgan_gp import WganGp, diversity, gradient_penalty
from sfumato.errors import NotApplicable


def test_the_penalty_is_that_of_finite_differences():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake, mix = torch.rand(4, 1, 2, 3).double(), torch.rand(4, 1, 2, 3).double(), torch.rand(4).double()
    total = 0.0
    for i in range(4):
        point = (real[i] + mix[i] * (fake[i] - real[i])).flatten()
        slopes = []
        for j in range(6):
            step = torch.zeros(6).double()
            step[j] = 1e-5
            up, down = (critic((point + s * step).reshape(1, 1, 2, 3)).item() for s in (1, -1))
            slopes.append((up - down) / 2e-5)
        total += (np.linalg.norm(slopes) - 1) ** 2
    assert gradient_penalty(critic, real, fake, mix).item() == pytest.approx(total / 4, rel=1e-6)


def test_the_penalty_reaches_the_critic_alone():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    fake = torch.rand(3, 4, requires_grad=True)
    gradient_penalty(critic, torch.rand(3, 4), fake, torch.rand(3)).backward()
    assert critic[1].weight.grad.abs().sum() > 0
    assert fake.grad is None


def test_diversity_is_a_ratio_of_distances_of_pairs():
    features, z = torch.tensor([[1.0, 2], [0, 0], [4, 2], [1, 1]]), torch.tensor([[0.0], [1], [2], [3]])
    naive = np.mean([(3 + 0) / 2 / 2, (1 + 1) / 2 / 2])  # rows 0 and 2, rows 1 and 3
    assert diversity(features, z).item() == pytest.approx(naive)


def test_the_diversity_term_changes_what_comes_out(digits, evidence):
    plain, diverse = (
        WganGp(latent=8, width=4, steps=2, batch=16, diversity=w).fit(evidence(digits)).run() for w in (0.0, 5.0)
    )
    assert any(not np.allclose(plain[name], diverse[name]) for name in plain)


def test_training_moves_towards_the_digits(digits, evidence):
    distances = []
    for steps in (1, 40):
        kind, given = WganGp(latent=16, width=8, steps=steps, batch=32, lr=4e-3), evidence(digits)
        generator = kind.load(kind.fit(given).run(), given)
        x = generator(generator.sample(200, torch.Generator().manual_seed(0)))
        distances.append(torch.cdist(x.flatten(1), torch.from_numpy(digits).flatten(1)).amin(dim=1).mean())
    assert distances[1] < 0.8 * distances[0]


def test_realism_is_higher_for_pictures_than_for_noise(digits, evidence):
    kind, given = WganGp(latent=16, width=8, steps=15, lr=4e-3), evidence(digits)
    generator = kind.load(kind.fit(given).run(), given)
    noise = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert generator.realism(torch.from_numpy(digits[:200])).mean() > generator.realism(noise).mean() + 0.1


def test_a_training_that_diverges_says_so(digits, evidence):
    with pytest.raises(NotApplicable, match=r"critic of `wgan-gp`, step \d+ was nan"):
        WganGp(latent=4, width=4, steps=5, batch=16, lr=1e30).fit(evidence(digits)).run()


def test_progress_is_told_and_is_no_part_of_the_key(digits, evidence):
    import dataclasses

    given, lines = evidence(digits), []
    kind = WganGp(latent=4, width=4, steps=4, batch=16)
    telling = kind.fit(dataclasses.replace(given, tell=lines.append))
    assert telling.key == kind.fit(given).key
    telling.run()
    assert len(lines) == 4
    assert lines[-1].startswith("wgan-gp: step 4 of 4, loss ")
