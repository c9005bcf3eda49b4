import numpy as np
import pytest

from sfumato.audit.inversion.looks import SIDE, Looks


def pictures(shape, n=3):
    return np.random.default_rng(0).random((n, *shape)).astype(np.float32)


SHAPES = {(1, 28, 28): 14 * 14, (1, 64, 64): 256, (3, 32, 32): 3 * 256, (1, 8, 8): 64, (1, 112, 92): 16 * 14}


@pytest.mark.parametrize(("shape", "size"), SHAPES.items())
def test_pictures_are_shrunk(shape, size):
    x = pictures(shape)
    found = Looks.of(x)(x)
    assert found.shape == (3, size)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-4)
    assert max(shape[1:]) // -(-max(shape[1:]) // SIDE) <= SIDE


def test_brightness_and_contrast_do_not_count():
    x = pictures((1, 28, 28))
    looks = Looks.of(x)
    assert looks(0.3 + 0.2 * x) == pytest.approx(looks(x), abs=1e-4)


def test_speckles_count_for_less_than_shapes():
    x = pictures((1, 28, 28), n=1) * 0
    shape, speckles = x.copy(), x.copy()
    shape[..., 8:20, 8:20] = 1
    speckles[..., ::2, ::2] = 1
    speckles[..., 1::2, 1::2] = 1
    looks = Looks.of(x)
    mixed = shape + 0.5 * speckles
    assert ((looks(mixed) - looks(shape)) ** 2).sum() < 0.01


def test_an_even_picture_has_no_looks():
    x = np.full((2, 1, 28, 28), 0.7, np.float32)
    assert not Looks.of(x)(x).any()


def test_columns_of_a_table_count_alike():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 0] + [0, 5, 2]
    found = Looks.of(x)(x)
    assert found.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert found.std(axis=0) == pytest.approx([1, 1, 0], abs=1e-5)
    assert Looks.of(x).described != Looks.of(pictures((1, 28, 28))).described
