import numpy as np
import pytest

from sfumato.attacks.inversion.generators.catalogue import generators, prior_named, suitable
from sfumato.attacks.inversion.generators.user_file import FileGenerator
from sfumato.errors import NotApplicable, UsageError


def test_kinds_are_found_by_name():
    assert set(generators()) >= {"pca", "vae", "wgan-gp", "ked-gan", "plg-gan", "user-generator"}
    assert prior_named("pca") == generators()["pca"]()
    with pytest.raises(UsageError, match="Did you mean 'wgan-gp'"):
        prior_named("wgan")
    with pytest.raises(UsageError, match="path of a Python file"):
        prior_named("user-generator")


def test_the_users_own_is_named_with_its_file(tmp_path):
    (tmp_path / "own.py").write_text("def build(shape): ...")
    assert prior_named(f"user-generator:{tmp_path}/own.py:build") == FileGenerator(
        path=str(tmp_path / "own.py"), function="build"
    )


@pytest.mark.parametrize(
    ("count", "shape", "name", "why"),
    [
        (900, (7,), "pca", "no pictures"),
        (900, (1, 4, 30), "pca", "no pictures"),
        (40, (1, 8, 8), "pca", "too few"),
        (300, (1, 8, 8), "vae", "too few for a GAN"),
        (600, (1, 8, 8), "wgan-gp", "enough"),
    ],
)
def test_what_suits_depends_on_the_public_records(evidence, count, shape, name, why):
    found = suitable(evidence(np.random.default_rng(0).random((count, *shape), dtype="f4")))
    assert found.kind.name == name
    assert why in found.reason


def test_public_records_of_another_shape_are_refused(digits, evidence):
    import dataclasses

    given = evidence(digits)
    other = dataclasses.replace(given, public=evidence(digits.reshape(-1, 64)).public)
    with pytest.raises(NotApplicable, match=r"shape \(1, 8, 8\), got \(64,\)"):
        prior_named("pca").fit(other)
    with pytest.raises(NotApplicable, match="public records"):
        prior_named("pca").fit(dataclasses.replace(given, public=None))
