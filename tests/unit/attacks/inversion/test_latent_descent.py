from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.attacks.catalogue import inversions
from sfumato.attacks.inversion.base import why_not
from sfumato.attacks.inversion.gmi import GMI
from sfumato.attacks.inversion.if_gmi import IFGMI, keep_near
from sfumato.attacks.inversion.ked_mi import KEDMI
from sfumato.attacks.inversion.latent_descent import ClassStreams, LatentDescent, judged, minimise, ranked
from sfumato.attacks.inversion.lomma import LOMMA
from sfumato.attacks.inversion.plg_mi import PLGMI
from sfumato.attacks.inversion.ppa import PPA, preselected
from sfumato.data.population import Population
from sfumato.errors import NotApplicable, UsageError

KINDS = [kind for kind in inversions().values() if issubclass(kind, LatentDescent)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def quick(kind):
    """An example that makes no students first."""
    return replace(kind.example(), students=False) if kind is LOMMA else kind.example()


class Given:
    """A kind of generator that is there already."""

    def __init__(self, generator):
        self.generator = generator

    def fit(self, evidence):
        return None

    def load(self, arrays, evidence):
        return self.generator


@pytest.fixture(scope="module")
def trained():
    """Results of fits by their key, so that LOMMA's students are made once for each model."""
    return {}


@pytest.fixture
def invert(monkeypatch, inversion_evidence, trained):
    """(attack, evidence) to guesses under a generator that can make all digits."""

    def inverted(attack, evidence, **generator):
        suited = {"blocks": 3 if attack.name == "if-gmi" else 1, "conditional": attack.name == "plg-mi"} | generator
        given = Given(inversion_evidence.LinearGenerator(**suited))
        for owner in (LatentDescent, LOMMA):
            monkeypatch.setattr(owner, "kind", lambda self, evidence: given)
        fits = attack.fits(evidence)
        trained.update({fit.key: fit.run() for fit in fits if fit.key not in trained})
        fitted = [trained[fit.key] for fit in fits]
        return attack.reconstruct(evidence, fitted)

    return inverted


def test_all_six_are_here():
    assert {kind.name for kind in KINDS} == {"gmi", "ked-mi", "plg-mi", "lomma", "ppa", "if-gmi"}


@every_kind
def test_an_attack_raises_the_confidence_and_comes_nearer_to_the_class_than_to_others(kind, invert, inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    found = invert(quick(kind), evidence)
    x = torch.from_numpy(found.records[:, 0])
    reached = evidence.oracle.logits(x).softmax(dim=1).diagonal()
    assert reached.min() > 0.8
    z = torch.randn(200, 16, generator=torch.Generator().manual_seed(9))
    drawn = evidence.oracle.logits(inversion_evidence.LinearGenerator()(z)).softmax(dim=1).mean(dim=0)
    assert drawn.max() < 0.5
    assert inversion_evidence.nearer_to_own(found.records, evidence.labels).min() > 0.2


@every_kind
def test_a_guess_does_not_depend_on_which_other_classes_are_asked_about(kind, invert, inversion_evidence):
    attack = quick(kind)
    everything = invert(attack, inversion_evidence.class_evidence())
    one = invert(attack, inversion_evidence.class_evidence(labels=(3,)))
    np.testing.assert_allclose(one.confidence[0], everything.confidence[3], atol=1e-3)
    np.testing.assert_allclose(one.records[0], everything.records[3], atol=1e-2)


@every_kind
def test_many_classes_are_moved_in_groups_and_each_row_keeps_its_label(kind, invert, inversion_evidence, monkeypatch):
    monkeypatch.setattr("sfumato.attacks.inversion.latent_descent.ROWS", 4)
    told = []
    evidence = replace(inversion_evidence.class_evidence(labels=(4, 2, 0)), tell=told.append)
    found = invert(quick(kind), evidence)
    assert evidence.oracle.logits(torch.from_numpy(found.records[:, 0])).argmax(dim=1).tolist() == [4, 2, 0]
    progress = [line for line in told if line.startswith(kind.name + ":")]
    assert progress[-1] == f"{kind.name}: 3 of 3 classes"
    assert len(progress) >= 2


@every_kind
def test_public_records_of_another_shape_are_a_reason(kind, inversion_evidence):
    public = Population(np.zeros((3, 1, 9, 9), dtype=np.float32), "example", labels=np.arange(3), kind="image")
    reasons = why_not(kind(), inversion_evidence.class_evidence(public=public))
    assert reasons == ("needs public records of the model's shape (1, 8, 8), got (1, 9, 9)",)


def test_what_a_walk_does_not_touch_stays():
    moved, still = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = torch.optim.Adam([moved, still], lr=0.1)
    minimise([moved, still], optimizer, lambda: moved.square(), 3)
    assert (moved < 1).all()
    assert still.tolist() == [1.0, 1.0]


def test_streams_belong_to_classes():
    labels = torch.tensor([5, 2])
    both, one = ClassStreams(0, labels, "name").normal(3), ClassStreams(0, labels[1:], "name").normal(3)
    assert torch.equal(both[1:], one)
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both, ClassStreams(1, labels, "name").normal(3))


def test_ranking_keeps_the_surest_guesses_of_each_class(inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    x, y = inversion_evidence.digits()
    records = x.reshape(5, inversion_evidence.EACH, 1, 8, 8)
    found = judged(evidence.oracle, records, torch.arange(5))
    best = ranked(found, 3, 0)
    own = evidence.oracle.logits(x).double().log_softmax(dim=1)[torch.arange(len(y)), y].reshape(5, -1).detach()
    np.testing.assert_allclose(best.confidence, own.sort(dim=1, descending=True).values[:, :3], atol=1e-9)
    rows = own.argsort(dim=1, descending=True, stable=True)[:, :3]
    np.testing.assert_array_equal(best.records, torch.stack([records[i, rows[i]] for i in range(5)]))


@pytest.mark.parametrize("conditional", [False, True])
def test_preselection_takes_the_surest_latents_over_picture_and_mirror_none_twice(conditional, inversion_evidence):
    oracle = inversion_evidence.class_evidence().oracle
    generator = inversion_evidence.LinearGenerator(conditional=conditional)
    z = torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 1])
    chosen = preselected(oracle, generator, labels, z, 4, mirror=True)
    for i, label in enumerate(labels):
        x = generator(z, label.expand(30) if conditional else None)
        sure = (oracle.logits(x).softmax(1)[:, label] + oracle.logits(x.flip(3)).softmax(1)[:, label]) / 2
        best = sure.argsort(descending=True)[:4]
        assert torch.equal(chosen[i], z[best])
        assert len(chosen[i].unique(dim=0)) == 4
    plain = preselected(oracle, generator, labels, z, 4, mirror=False)
    assert not torch.equal(plain, chosen)


def test_latents_of_gmi_stay_within_the_clip(invert, inversion_evidence, monkeypatch):
    seen = []
    usual = inversion_evidence.LinearGenerator.__call__

    def noting(self, z, labels=None):
        seen.append(float(z.detach().abs().max()))
        return usual(self, z, labels)

    monkeypatch.setattr(inversion_evidence.LinearGenerator, "__call__", noting)
    invert(GMI(steps=10, restarts=5, clip=0.4), inversion_evidence.class_evidence())
    assert max(seen) == pytest.approx(0.4)


def test_ked_mi_draws_its_guesses_from_what_it_learned(invert, inversion_evidence):
    found = invert(KEDMI(steps=60, learning_rate=0.1, images=4), inversion_evidence.class_evidence())
    assert len(np.unique(found.records[0].reshape(4, -1), axis=0)) == 4
    assert (np.exp(found.confidence) > 0.5).mean() > 0.8


@pytest.mark.parametrize("base", ["gmi", "ked-mi"])
@pytest.mark.parametrize("students", [False, True])
def test_lomma_works_on_both_bases_with_and_without_students(base, students, invert, inversion_evidence):
    attack = LOMMA(base=base, students=students, images=2, steps=20, learning_rate=0.05, restarts=2)
    evidence = inversion_evidence.class_evidence(labels=(1, 4))
    assert len(attack.fits(evidence)) == 1 + students
    assert attack.kind(evidence).name == {"gmi": "wgan-gp", "ked-mi": "ked-gan"}[base]
    found = invert(attack, evidence)
    assert evidence.oracle.logits(torch.from_numpy(found.records[:, 0])).argmax(dim=1).tolist() == [1, 4]


def test_lomma_with_sampled_features_wants_others(invert, inversion_evidence):
    attack = replace(LOMMA.example(), students=False)
    evidence = inversion_evidence.class_evidence(labels=(1,))
    mean, drawn = (invert(replace(attack, sampled=sampled), evidence) for sampled in (False, True))
    assert not np.array_equal(mean.records, drawn.records)


def test_plg_mi_needs_a_generator_that_takes_the_class(invert, inversion_evidence):
    with pytest.raises(NotApplicable, match="takes the class"):
        invert(PLGMI.example(), inversion_evidence.class_evidence(), conditional=False)


def test_if_gmi_needs_blocks_and_moves_inside_them(invert, inversion_evidence):
    evidence = inversion_evidence.class_evidence()
    with pytest.raises(NotApplicable, match="blocks to enter"):
        invert(IFGMI.example(), evidence, blocks=1)
    inside = invert(IFGMI.example(), evidence, blocks=3)
    bound = invert(replace(IFGMI.example(), radius=1e-6), evidence, blocks=3)
    assert inside.confidence.mean() > bound.confidence.mean() + 0.01


def test_feature_maps_of_if_gmi_stay_in_their_ball():
    start = torch.zeros(3, 2, 5)
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)) * 4
    keep_near(x, start, 0.5)
    np.testing.assert_allclose(x.flatten(1).abs().sum(dim=1), 0.5 * 10, rtol=1e-5)


def test_a_prior_of_public_records_alone_is_shared_by_all_models(inversion_evidence):
    one, other = (
        inversion_evidence.class_evidence(),
        inversion_evidence.class_evidence(inversion_evidence.digits_network(seed=1)),
    )
    other = replace(other, oracle=replace(other.oracle, name="another model"))
    for attack, shared in ((GMI(), True), (PPA(), True), (KEDMI(), False), (PLGMI(), False)):
        (mine,), (theirs,) = attack.fits(one), attack.fits(other)
        assert (mine.key == theirs.key) == shared


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (GMI, {"images": 26}),
        (GMI, {"momentum": 1.0}),
        (GMI, {"clip": 0.0}),
        (KEDMI, {"draws": 0}),
        (PLGMI, {"area": 0.0}),
        (PLGMI, {"restarts": 4}),
        (LOMMA, {"base": "plg-mi"}),
        (PPA, {"samples": 10}),
        (PPA, {"candidates": 4}),
        (IFGMI, {"radius": 0.0}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value.name,
)
def test_bad_options_are_refused(kind, wrong):
    with pytest.raises(UsageError):
        kind(**wrong)
