"""What every kind of generator promises, found by discovery."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.attacks.inversion.evidence import ClassEvidence
from sfumato.attacks.inversion.generators.base import GeneratorKind
from sfumato.attacks.inversion.generators.catalogue import generators
from sfumato.attacks.inversion.generators.user_file import FileGenerator
from sfumato.canonical import canonical_json
from sfumato.data.population import Population
from sfumato.defences.undefended import Undefended
from sfumato.models.build import drawn_from
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import image_box, oracle_of

KINDS = generators()
CLASSES = 3
OWN = """
import math
from torch import nn

def make(shape):
    network = nn.Sequential(nn.Linear(6, math.prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape))
    network.latent = 6
    return network
"""


def never(x):
    raise AssertionError("the target was asked")


@pytest.fixture(params=KINDS)
def kind(request, tmp_path: Path) -> GeneratorKind:
    if KINDS[request.param] is FileGenerator:
        (tmp_path / "own.py").write_text(OWN)
        return FileGenerator(path=str(tmp_path / "own.py"))
    return KINDS[request.param].example()


def evidence_of(shape, target=0, records=40):
    rng = np.random.default_rng(0)
    with drawn_from(target, "target"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), CLASSES)).eval()
    box = image_box(shape)
    if len(shape) == 1:
        box = Box(*(torch.full(shape, value) for value in (0.2, 0.7, 1.0)))
    oracle = oracle_of(network, Undefended(), shape, CLASSES, box, seed=target, name=f"target-{target}")
    x = rng.uniform(0.2, 0.7, size=(records, *shape)).astype("f4")
    public = Population(x, "example", labels=np.arange(records) % 2, kind="image" if len(shape) == 3 else "table")
    return ClassEvidence(oracle, np.arange(CLASSES), public, seed=target)


def arrays_for(kind, evidence):
    fit = kind.fit(evidence)
    return {} if fit is None else fit.run()


def shapes(kind):
    return [(1, 8, 8), (3, 12, 9)] if kind.images_only else [(1, 8, 8), (3, 12, 9), (5,)]


def labels_for(generator, count):
    return torch.arange(count) % CLASSES if generator.conditional else None


def cases(kind):
    for shape in shapes(kind):
        if isinstance(kind, FileGenerator) and len(shape) == 1:
            continue  # its sigmoid is for pictures
        evidence = evidence_of(shape)
        yield evidence, kind.load(arrays_for(kind, evidence), evidence)


def test_the_kinds_of_the_first_release_are_found():
    assert set(KINDS) >= {"pca", "vae", "wgan-gp", "ked-gan", "plg-gan", "user-generator"}


def test_it_is_a_frozen_value_with_a_name_and_a_citation(kind):
    assert kind.name
    assert kind.summary
    assert not kind.reference or f"{{{kind.reference}," in kind.bibtex
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind.name = "other"
    assert canonical_json(dataclasses.replace(kind)) == canonical_json(kind)


def test_records_have_their_shape_and_lie_in_the_box(kind):
    for evidence, generator in cases(kind):
        z = 20 * generator.sample(7, torch.Generator().manual_seed(0))
        assert z.shape == (7, generator.latent)
        x = generator(z, labels_for(generator, 7))
        assert x.shape == (7, *evidence.oracle.shape)
        assert (x >= evidence.box.low).all()
        assert (x <= evidence.box.high).all()


def test_a_gradient_reaches_every_latent(kind):
    for _, generator in cases(kind):
        z = generator.sample(5, torch.Generator().manual_seed(0)).requires_grad_()
        generator(z, labels_for(generator, 5)).square().sum().backward()
        assert z.grad is not None
        assert torch.isfinite(z.grad).all()
        assert (z.grad.abs().sum(dim=1) > 0).all()


def test_records_are_made_one_by_one(kind):
    for _, generator in cases(kind):
        z, labels = generator.sample(6, torch.Generator().manual_seed(0)), labels_for(generator, 6)
        one = generator(z[2:3], None if labels is None else labels[2:3])
        torch.testing.assert_close(generator(z, labels)[2:3], one, atol=1e-5, rtol=1e-4)


def test_entering_at_a_block_gives_the_same_record(kind):
    for _, generator in cases(kind):
        z, labels = generator.sample(4, torch.Generator().manual_seed(0)), labels_for(generator, 4)
        x = generator(z, labels)
        assert torch.equal(generator.hidden(0, z, labels), z)
        for stage in range(1, generator.stages):
            hidden = generator.hidden(stage, z, labels)
            torch.testing.assert_close(generator.enter(stage, hidden, z, labels), x)
            if stage < generator.stages - 1:
                further = generator.onward(stage, hidden, z, labels)
                torch.testing.assert_close(further, generator.hidden(stage + 1, z, labels))


def test_the_same_job_leaves_the_same_arrays_whatever_was_drawn_before(kind):
    evidence = evidence_of((1, 8, 8))
    first = arrays_for(kind, evidence)
    torch.randn(3)
    again = arrays_for(kind, evidence)
    assert first.keys() == again.keys()
    for name, array in first.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again[name])


def test_targets_share_what_is_made_without_them(kind):
    fits = [kind.fit(evidence_of((1, 8, 8), target)) for target in (0, 1)]
    if fits[0] is None:
        return
    assert (fits[0].key != fits[1].key) == kind.needs_target
    assert fits[0].key != kind.fit(evidence_of((1, 8, 8), records=39)).key
    if not kind.needs_target:
        evidence = evidence_of((1, 8, 8))
        unasked = dataclasses.replace(evidence, oracle=dataclasses.replace(evidence.oracle, predict=never))
        kind.fit(unasked).run()


def test_making_it_draws_nothing_from_the_global_generator_and_leaves_the_target_alone(kind):
    evidence = evidence_of((1, 8, 8))
    before, weights = torch.get_rng_state(), [p.clone() for p in evidence.oracle.network.parameters()]
    generator = kind.load(arrays_for(kind, evidence), evidence)
    generator.sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
    for parameter, weight in zip(evidence.oracle.network.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
        assert parameter.grad is None
