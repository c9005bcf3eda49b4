import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.generators.pca import PCA, principal_components
from sfumato.errors import NotApplicable


def made(kind, evidence):
    return kind.load(kind.fit(evidence).run(), evidence)


def latents_of(generator, x):
    basis = generator.components.double()
    return torch.linalg.lstsq(basis.T, (torch.from_numpy(x).double().flatten(1) - generator.mean).T).solution.T.float()


def test_with_full_rank_each_public_picture_is_in_reach(digits, evidence):
    generator = made(PCA(latent=64), evidence(digits))
    torch.testing.assert_close(generator(latents_of(generator, digits)), torch.from_numpy(digits), atol=1e-4, rtol=0)


def test_with_full_rank_each_public_row_is_in_reach_whatever_its_units(table, evidence):
    x, box = table
    generator = made(PCA(), evidence(x, box=box))
    assert generator.latent == 5
    torch.testing.assert_close(generator(latents_of(generator, x)), torch.from_numpy(x), atol=1e-5, rtol=1e-4)


def test_latents_of_public_records_are_white(table, evidence):
    x, box = table
    z = latents_of(made(PCA(), evidence(x, box=box)), x).double()
    torch.testing.assert_close(z.T @ z / (len(x) - 1), torch.eye(5).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("n", "d"), [(40, 7), (7, 40)])
def test_components_are_those_of_the_singular_value_decomposition(n, d):
    x = np.random.default_rng(3).normal(size=(n, d)) * np.linspace(1, 3, d)
    found = principal_components(x, 4)
    _, values, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
    naive = values[:4, None] / np.sqrt(n - 1) * directions[:4]
    signs = np.sign((found.components * naive).sum(1, keepdims=True))
    np.testing.assert_allclose(found.components * signs, naive, atol=1e-9)
    np.testing.assert_allclose(found.mean, x.mean(0))


def test_there_are_no_more_components_than_the_records_span():
    x = np.random.default_rng(0).normal(size=(6, 30))
    assert len(principal_components(x, 20).components) == 5


def test_equal_records_are_refused(evidence):
    with pytest.raises(NotApplicable, match="records that differ"):
        made(PCA(), evidence(np.ones((4, 3), dtype="f4")))


def test_of_many_records_some_are_drawn(digits, evidence):
    few, all_of_them = (PCA(records=n).fit(evidence(digits)).run()["mean"] for n in (50, 5000))
    assert not np.allclose(few, all_of_them)
    np.testing.assert_allclose(all_of_them, digits.reshape(len(digits), -1).mean(0), atol=1e-5)
