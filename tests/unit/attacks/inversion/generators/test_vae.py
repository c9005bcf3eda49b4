import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.generators.vae import VAE, vae_loss


def naive_loss(x, rebuilt, mean, log_variance):
    """-log N(x; rebuilt, s) + KL with s the variance that makes the batch likeliest, without constants."""
    variance = np.mean((x - rebuilt) ** 2)
    d = x[0].size
    total = 0.0
    for i in range(len(x)):
        squares = ((x[i] - rebuilt[i]) ** 2).sum()
        total += 0.5 * d * np.log(variance) + 0.5 * squares / variance - 0.5 * d
        for m, v in zip(mean[i], np.exp(log_variance[i])):
            total += 0.5 * (m**2 + v - 1 - np.log(v))
    return total / len(x)


def test_the_loss_is_the_negative_evidence_lower_bound():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=s) for s in ((5, 3, 2), (5, 3, 2), (5, 4), (5, 4))]
    found = vae_loss(*(torch.from_numpy(part) for part in parts))
    # sum over the batch of squares/variance is b * d, so the last two terms of the naive twin cancel on average
    assert float(found) == pytest.approx(naive_loss(*parts), rel=1e-9)


def test_training_moves_towards_the_digits(digits, evidence):
    distances = []
    for steps in (1, 120):
        kind = VAE(latent=8, width=8, steps=steps)
        given = evidence(digits)
        generator = kind.load(kind.fit(given).run(), given)
        x = generator(generator.sample(200, torch.Generator().manual_seed(0)))
        distances.append(torch.cdist(x.flatten(1), torch.from_numpy(digits).flatten(1)).amin(dim=1).mean())
    assert distances[1] < 0.85 * distances[0]


def test_rows_of_a_table_come_in_their_units(table, evidence):
    x, box = table
    kind, given = VAE(latent=5, width=8, steps=200), evidence(x, box=box)
    generator = kind.load(kind.fit(given).run(), given)
    rows = generator(generator.sample(500, torch.Generator().manual_seed(0))).numpy()
    off = np.abs(rows.mean(0) - x.mean(0)) / x.std(0)
    assert (off < 0.3).all()
    assert (rows.std(0) > 0.4 * x.std(0)).all()
