import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.generators.ked_gan import KedGan, discriminator_loss, generator_loss, log_realness


def realness(logits):
    total = np.exp(logits).sum()
    return total / (1 + total)


def test_losses_are_those_written_down():
    rng = np.random.default_rng(0)
    labelled, unlabelled, fake = rng.normal(size=(3, 4, 5))
    soft = rng.dirichlet(np.ones(5), size=4)
    cross = np.mean([-(p * np.log(np.exp(row) / np.exp(row).sum())).sum() for p, row in zip(soft, labelled)])
    real = np.mean([np.log(realness(row)) for row in unlabelled])
    made = np.mean([np.log(1 - realness(row)) for row in fake])
    found = discriminator_loss(*(torch.from_numpy(v) for v in (labelled, soft, unlabelled, fake)))
    assert found.item() == pytest.approx(cross + 0.5 * (-real - made))
    np.testing.assert_allclose(log_realness(torch.from_numpy(fake)).numpy(), [np.log(realness(row)) for row in fake])


def test_the_generator_is_held_to_mean_features_and_to_few_bits():
    rng = np.random.default_rng(1)
    features, real, logits = rng.normal(size=(6, 3)), rng.normal(size=(4, 3)), rng.normal(size=(6, 5))
    distance = np.abs(features.mean(0) - real.mean(0)).mean()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = sum(-(row * np.log(row)).sum() for row in p)
    found = generator_loss(*(torch.from_numpy(v) for v in (features, real, logits)), entropy=0.01)
    assert found.item() == pytest.approx(distance + 0.01 * entropy)


def test_the_target_is_asked_once_for_each_public_record(digits, evidence):
    given = evidence(digits)
    arrays = KedGan(latent=4, width=4, steps=3, batch=16).fit(given).run()
    assert arrays["queries"].tolist() == [len(digits)]
    assert given.oracle.queries == 0


def test_scores_are_enough(digits, evidence):
    by_weights, by_scores = (
        KedGan(latent=4, width=4, steps=3, batch=16).fit(evidence(digits, access=access)).run()
        for access in ("weights", "scores")
    )
    for name, array in by_weights.items():
        np.testing.assert_allclose(by_scores[name], array, atol=1e-3, rtol=0, err_msg=name)


def test_training_moves_towards_the_digits(digits, evidence):
    given = evidence(digits, target=3)
    noise, distances = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for steps in (1, 40):
        kind = KedGan(latent=8, width=8, steps=steps, batch=32, lr=4e-3)
        generator = kind.load(kind.fit(given).run(), given)
        x = generator(generator.sample(100, torch.Generator().manual_seed(0)))
        distances.append((x.mean(0) - torch.from_numpy(digits).mean(0)).abs().mean())
    assert generator.realism(torch.from_numpy(digits)).mean() > generator.realism(noise).mean()
    assert distances[1] < 0.7 * distances[0]
