"""Every attack on classes finds them in a network that knows its pictures by heart, and finds nobody who is not there.

Digits 5 to 9 are private, 0 to 4 public; there is no defence. Gains are distances: see `nearer_to_own`.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.attacks.catalogue import inversions
from sfumato.attacks.inversion.base import ClassInversion
from sfumato.attacks.inversion.generators.pca import PCA

KINDS = {name: kind for name, kind in inversions().items() if issubclass(kind, ClassInversion)}
WITH_PRIOR = [name for name in KINDS if name != "miface"]
SHIFTS = (1, 2, 3, 4)
LONGER = {
    "brep-mi": {"draws": 2048, "patience": 20, "most": 150},
    "lomma": {"students": False},
    "miface": {"images": 3},
    "miface-scores": {"budget": 800, "prior": "pca"},
    "mirror": {"samples": 1000, "population": 40, "generations": 30},
}


def quick(name):
    return replace(KINDS[name].example(), **LONGER.get(name, {}))


class Given:
    """A kind of generator that is there already."""

    name, images_only = "given", False

    def __init__(self, generator):
        self.generator = generator

    def fit(self, evidence):
        return None

    def load(self, arrays, evidence):
        return self.generator


def small(kind):
    return kind if isinstance(kind, PCA) else replace(type(kind)(), latent=16, width=16, steps=80)


def with_kind(patch, change):
    """Each attack takes `change` of the kind of generator that it would take."""
    for owner in {owner for kind in KINDS.values() for owner in kind.__mro__ if "kind" in vars(owner)}:
        usual = vars(owner)["kind"]
        patch.setattr(owner, "kind", lambda self, evidence, usual=usual: change(usual(self, evidence)))


@pytest.fixture(scope="module")
def fitted():
    """Results of fits by their key: what needs no target is made once."""
    return {}


@pytest.fixture
def guess(inversion_evidence, fitted):
    """(attack, shift) to its guesses; with a shift, others' pictures filled the classes."""

    def guessed(attack, shift=0):
        network = inversion_evidence.shifted_network(shift) if shift else None
        evidence = inversion_evidence.class_evidence(network, name=f"shift {shift}")
        evidence = evidence.restricted_to(attack.threat_model.access, attack.needs_public or attack.uses_public)
        fits = attack.fits(evidence)
        fitted.update({fit.key: fit.run() for fit in fits if fit.key not in fitted})
        return attack.reconstruct(evidence, [fitted[fit.key] for fit in fits])

    return guessed


@pytest.fixture
def able(monkeypatch, inversion_evidence):
    """A name to its attack, under a generator that can make all digits."""

    def prepared(name):
        suited = {"blocks": 3 if name == "if-gmi" else 1, "conditional": name == "plg-mi"}
        given = Given(inversion_evidence.LinearGenerator(**suited))
        with_kind(monkeypatch, lambda usual: given)
        return quick(name)

    return prepared


@pytest.fixture
def own_kind(monkeypatch):
    """A name to its attack, under a small generator of its own kind that never saw a private digit."""
    with_kind(monkeypatch, small)
    return quick


def assert_found(records, gain, least, tools):
    """A class that is told of is reached, and comes nearer than the control by `least` on average."""
    x = torch.from_numpy(records[:, 0])
    assert tools.digits_network()(x).softmax(dim=1).diagonal().min() > 0.5
    assert (gain > 0).all()
    assert gain.mean() > least


def null_gain(guess, attack, tools):
    """Mean gain for the one who is not in the class, over all ways to fill classes with another's pictures.

    Over all ways each pair of the two occurs once, so likeness between digits cancels: what depends on the pictures
    in the class alone has an expectation of exactly 0.
    """
    labels, gains = np.arange(tools.CLASSES), []
    for shift in SHIFTS:
        records = guess(attack, shift).records
        gains.append(tools.nearer_to_own(records, labels, (labels + shift) % tools.CLASSES))
    return np.mean(gains)


def test_all_ten_attacks_are_held_to_it():
    assert set(KINDS) == {
        "miface", "miface-scores", "gmi", "ked-mi", "plg-mi", "lomma", "brep-mi", "mirror", "ppa", "if-gmi"
    }  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_it_beats_the_control_where_the_network_overfits(name, able, guess, inversion_evidence):
    found = guess(able(name))
    gain = inversion_evidence.nearer_to_own(found.records, np.arange(5))
    assert_found(found.records, gain, 0.2, inversion_evidence)


@pytest.mark.parametrize("name", KINDS)
def test_where_anothers_pictures_fill_the_class_nobody_else_is_nearer_than_the_control(
    name, able, guess, inversion_evidence
):
    attack = able(name)
    assert abs(null_gain(guess, attack, inversion_evidence)) < 0.1
    there = inversion_evidence.nearer_to_own(guess(attack, 1).records, (np.arange(5) + 1) % 5)
    assert there.mean() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PRIOR)
def test_it_beats_the_control_under_its_own_kind_of_generator(name, own_kind, guess, inversion_evidence):
    found = guess(own_kind(name))
    gain = inversion_evidence.nearer_to_own(found.records, np.arange(5))
    assert_found(found.records, gain, 0.1, inversion_evidence)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_PRIOR)
def test_under_its_own_kind_of_generator_nobody_else_is_nearer_than_the_control(
    name, own_kind, guess, inversion_evidence
):
    assert abs(null_gain(guess, own_kind(name), inversion_evidence)) < 0.08
