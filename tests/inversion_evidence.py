"""Tiny trained models for tests of inversion: what each game's attacks are given, and what the truth is."""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from sfumato.attacks.inversion.evidence import AttributeEvidence, ClassEvidence, GradientEvidence, LabelEvidence
from sfumato.attacks.inversion.generators.base import Generator
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.models.build import drawn_from
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import image_box, oracle_of

SHAPE = (1, 8, 8)
CLASSES = 5  # digits 5 to 9 are private and called 0 to 4; digits 0 to 4 are public
EACH = 20  # private records of a class


class Digits(NamedTuple):
    """Pictures float32 [n, 1, 8, 8] and their classes int64 [n]."""

    x: torch.Tensor
    y: torch.Tensor


@cache
def digits():
    """Private pictures, `EACH` of a class, classes in order."""
    images, labels = _all_digits()
    rows = np.concatenate([np.flatnonzero(labels == digit)[:EACH] for digit in range(5, 10)])
    return Digits(images[rows], torch.from_numpy(labels[rows] - 5).long())


@cache
def public_digits():
    """Public pictures: 60 of each of the digits 0 to 4."""
    images, labels = _all_digits()
    rows = np.concatenate([np.flatnonzero(labels == digit)[:60] for digit in range(5)])
    return Population(images[rows].numpy(), "example", labels=labels[rows], name="digits 0-4", kind="image")


@cache
def _all_digits():
    found = load_digits()
    return torch.from_numpy(found.images[:, None] / 16).float(), found.target.astype(np.int64)


def fitted_network(x, y, outputs, *, hidden=(32,), steps=120, seed=0, rate=0.01):
    """A multi-layer perceptron that knows its records by heart, in eval mode."""
    with drawn_from(seed, "tests", "network"):
        widths = (x[0].numel(), *hidden)
        layers = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    network.zero_grad()
    return network.eval()


@cache
def digits_network(seed=0):
    return fitted_network(*digits(), CLASSES, hidden=(48,), seed=seed)


@cache
def shifted_network(shift):
    """Another class's pictures fill each class: those of class c carry the label c - `shift`."""
    x, y = digits()
    return fitted_network(x, (y - shift) % CLASSES, CLASSES)


def oracle_for(network, shape, classes, box=None, *, seed=0, name="a model for tests"):
    box = image_box(shape) if box is None else box
    return oracle_of(network, Undefended(), shape, classes, box, seed=seed, name=name)


def class_evidence(network=None, *, labels=tuple(range(CLASSES)), public=None, seed=0, name="digits"):
    """All classes of a network that was fitted to private digits."""
    oracle = oracle_for(digits_network() if network is None else network, SHAPE, CLASSES, seed=seed, name=name)
    public = public_digits() if public is None else public
    return ClassEvidence(oracle, np.array(labels, dtype=np.int64), public, seed)


class Rows(NamedTuple):
    """A table float32 [n, 4] whose class int64 [n] follows from columns 0 and 1; column 1 takes one of `values`."""

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray


def table(rows, seed):
    rng = np.random.default_rng(seed)
    values = np.array([0.0, 1.0, 2.0], dtype=np.float32)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    x[:, 1] = values[rng.integers(0, 3, rows)]
    return Rows(x, ((x[:, 0] + 1.5 * x[:, 1]) > 1.5).astype(np.int64), values)


@cache
def table_network():
    train = table(60, seed=1)
    return fitted_network(torch.from_numpy(train.x), torch.from_numpy(train.y), 2, hidden=(24,), steps=150)


def table_box():
    low, high = torch.tensor([-3.0, 0.0, -3.0, -3.0]), torch.tensor([3.0, 2.0, 3.0, 3.0])
    return Box(low, high, torch.ones(4))


def attribute_evidence(*, records=40, seed=0):
    """Rows that a model was trained on, with column 1 hidden."""
    train, known = table(60, seed=1), table(80, seed=2)
    hidden = train.x[:records].copy()
    hidden[:, 1] = np.nan
    public = Population(known.x, "example", labels=known.y, name="rows")
    return AttributeEvidence(
        oracle=oracle_for(table_network(), (4,), 2, table_box(), seed=seed),
        records=hidden,
        labels=train.y[:records],
        column=1,
        values=train.values,
        public=public,
        public_values=np.searchsorted(train.values, known.x[:, 1]).astype(np.int64),
        seed=seed,
    )


def table_evidence(*, seed=0):
    """Both classes of the model of a table."""
    known = table(80, seed=2)
    oracle = oracle_for(table_network(), (4,), 2, table_box(), seed=seed)
    public = Population(known.x, "example", labels=known.y, name="rows")
    return ClassEvidence(oracle, np.array([0, 1]), public, seed)


class Planted(NamedTuple):
    """Evidence and the labels int64 [q] that were planted."""

    evidence: LabelEvidence
    planted: np.ndarray


@cache
def planted_labels(seed=0):
    """A network that learned 20 digits with a wrong label, drawn at random."""
    x, y = digits()
    rows = np.arange(0, len(x), 5)
    wrong = (y.numpy()[rows] + np.random.default_rng(seed).integers(1, CLASSES, len(rows))) % CLASSES
    told = y.clone()
    told[rows] = torch.from_numpy(wrong)
    network = fitted_network(x, told, CLASSES, hidden=(64,), steps=200)
    oracle = oracle_for(network, SHAPE, CLASSES, seed=seed)
    return Planted(LabelEvidence(oracle, x[rows].numpy(), y.numpy()[rows], seed), wrong)


def gradient_evidence(sizes=(1, 2), *, seed=0):
    """Updates of a fresh network on batches of private digits, one of each size; labels are not known."""
    with drawn_from(seed, "tests", "fresh"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Sigmoid(), nn.Linear(16, CLASSES)).eval()
    x, y = digits()
    updates = []
    for step, size in enumerate(sizes):
        rows = (torch.arange(size) * EACH + step) % len(x)
        loss = F.cross_entropy(network(x[rows]), y[rows])
        found = torch.autograd.grad(loss, list(network.parameters()))
        updates.append(dict(zip([name for name, _ in network.named_parameters()], found, strict=True)))
    return GradientEvidence(
        network=network,
        updates=tuple(updates),
        sizes=np.array(sizes, dtype=np.int64),
        shape=SHAPE,
        classes=CLASSES,
        box=image_box(SHAPE),
        labels=None,
        public=public_digits(),
        seed=seed,
    )


def evidence_for(game):
    """Evidence of one of the four games."""
    made = {
        "class": class_evidence,
        "gradient": gradient_evidence,
        "attribute": attribute_evidence,
        "label": lambda: planted_labels().evidence,
    }
    return made[game]()


class LinearGenerator(Generator):
    """Digits as a mean plus principal directions of all digits, private ones included: a generator that can do it.

    It has a critic (minus the squared distance to the mean) and `blocks` linear blocks to enter.
    """

    def __init__(self, latent=16, blocks=1, conditional=False):
        images = _all_digits()[0].flatten(1)
        self.mean = images.mean(dim=0)
        _, deviations, directions = torch.linalg.svd(images - self.mean, full_matrices=False)
        self.directions = (deviations[:latent, None] * directions[:latent]) / len(images) ** 0.5
        self.latent, self.stages, self.conditional = latent, blocks, conditional

    def __call__(self, z, labels=None):
        assert (labels is not None) == self.conditional
        return (self.mean + z @ self.directions).reshape(-1, *SHAPE).clamp(0, 1)

    def realism(self, x):
        return -(x.flatten(1) - self.mean).square().sum(dim=1)

    def hidden(self, stage, z, labels=None):
        return z if stage == 0 else z * 2.0**stage

    def onward(self, stage, hidden, z, labels=None):
        return hidden * 2.0

    def enter(self, stage, hidden, z, labels=None):
        return self(hidden / 2.0**stage, labels)


def nearest(guesses, records):
    """float64: the mean over guesses of the L2 distance to the nearest of the records."""
    flat = torch.as_tensor(guesses).flatten(1).double()
    return float(torch.cdist(flat, torch.as_tensor(records).flatten(1).double()).min(dim=1).values.mean())


def nearer_to_own(records, labels, filled=None):
    """float64 [q]: how much nearer the guesses [q, k, ...] of a class come to its records than to other classes'.

    The mean distance to the nearest record of each other class (the control), minus the distance to the nearest of its
    own. Where others' pictures filled the classes, `filled` [q] names whose, and the control leaves these out.
    """
    x, y = digits()
    gains = []
    for guesses, label, there in zip(records, labels, labels if filled is None else filled, strict=True):
        others = [nearest(guesses, x[y == other]) for other in range(CLASSES) if other not in (label, there)]
        gains.append(np.mean(others) - nearest(guesses, x[y == label]))
    return np.array(gains)
