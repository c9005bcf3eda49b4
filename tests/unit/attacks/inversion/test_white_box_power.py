"""Power with the attacks' own kinds of generators: digits 5 to 9 are private, 0 to 4 public; there is no defence."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.catalogue import inversions
from sfumato.attacks.inversion.latent_descent import LatentDescent
from sfumato.attacks.inversion.lomma import LOMMA

NAMES = ("gmi", "if-gmi", "ked-mi", "lomma", "plg-mi", "ppa")


@pytest.fixture
def invert(monkeypatch):
    """(name, evidence) to two guesses of each class, under a small generator of the attack's own kind."""
    for owner in (LatentDescent, LOMMA):
        usual = vars(owner)["kind"]
        monkeypatch.setattr(owner, "kind", lambda self, evidence, usual=usual: small(usual(self, evidence)))

    def inverted(name, evidence):
        attack = inversions()[name].example()
        return attack.reconstruct(evidence, [fit.run() for fit in attack.fits(evidence)])

    return inverted


def small(kind):
    return replace(type(kind)(), latent=16, width=16, steps=80)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_guesses_are_sure_and_nearer_to_the_class_than_to_others(name, invert, inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    found = invert(name, evidence)
    assert np.exp(found.confidence[:, 0]).mean() > 0.6
    gain = inversion_evidence.nearer_to_own(found.records, evidence.labels)
    assert gain.mean() > 0.05
    assert (gain > 0).sum() >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_was_filled_with_others_pictures_is_not_found(name, invert, inversion_evidence):
    x, y = inversion_evidence.digits()
    classes = inversion_evidence.CLASSES
    shifted = inversion_evidence.fitted_network(x, (y - 1) % classes, classes)
    evidence = inversion_evidence.class_evidence(shifted, name="shifted")
    found = invert(name, evidence)
    own = inversion_evidence.nearer_to_own(found.records, evidence.labels)
    assert own.mean() < 0.02


@pytest.mark.slow
def test_miface_with_its_own_numbers_comes_nearer_to_the_class(inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    attack = inversions()["miface"](images=3)
    found = attack.reconstruct(evidence)
    assert found.confidence.min() > 0.98
    assert inversion_evidence.nearer_to_own(found.records, evidence.labels).min() > 0
