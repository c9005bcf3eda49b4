"""What every membership attack promises, found by discovery; options that change the code path are listed beside."""

import dataclasses
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.attacks.catalogue import attacks, default_attacks, inversions, listings
from sfumato.attacks.evidence import Evidence, ThreatModel
from sfumato.attacks.membership.attack_p import AttackP
from sfumato.attacks.membership.attack_r import AttackR
from sfumato.attacks.membership.augmentation_bits import AugmentationBits
from sfumato.attacks.membership.base_attack import Base
from sfumato.attacks.membership.bavaria import BaVarIA, BaVarIAOffline
from sfumato.attacks.membership.boundary_distance import BoundaryDistance
from sfumato.attacks.membership.calibration import Calibration
from sfumato.attacks.membership.confidence import Confidence
from sfumato.attacks.membership.entropy import Entropy
from sfumato.attacks.membership.gradient_norm import GradientNorm
from sfumato.attacks.membership.input_gradient_norm import InputGradientNorm
from sfumato.attacks.membership.label_noise import LabelNoise
from sfumato.attacks.membership.lira import LiRAOffline, LiRAOnline
from sfumato.attacks.membership.modified_entropy import ModifiedEntropy
from sfumato.attacks.membership.predictive_variance import PredictiveVariance
from sfumato.attacks.membership.quantile import Quantile
from sfumato.attacks.membership.rmia import RMIA
from sfumato.attacks.membership.shadow_classifier import ShadowClassifier
from sfumato.audit.statistics.units import RULES
from sfumato.canonical import canonical_json, content_hash
from sfumato.errors import NotApplicable, UsageError
from sfumato.targets.answers import STATISTICS, Answers
from sfumato.targets.queries import IMAGES_ONLY

OPTIONS = [
    Confidence(class_thresholds=True),
    Entropy(class_thresholds=True),
    ModifiedEntropy(class_thresholds=True),
    ShadowClassifier(features="top3"),
    Calibration(statistic="logit"),
    *(AttackP(smoothing=s) for s in ("linear", "empirical")),
    *(AttackR(smoothing=s) for s in ("linear", "empirical")),
    *(LiRAOnline(variance=v) for v in ("per-example", "pooled-residual", "pooled-raw")),
    LiRAOnline(center="median", statistic="hinge"),
    LiRAOffline(offline_score="pdf", variance="per-example"),
    BaVarIA(predictive="n"),
    BaVarIA(prior="global"),
    BaVarIAOffline(predictive="n", prior="global"),
    RMIA(form="counting"),
    RMIA(online=False),
    RMIA(online=False, a=0.3, softmax="taylor", trim=0.2, temperature=1),
    Base(online=False, temperature=1),
    Quantile(learner="network"),
    Quantile(head="pinball", levels=5),
    PredictiveVariance(calibrated=False),
    *(GradientNorm(calibration=c) for c in ("difficulty", "none")),
    *(InputGradientNorm(calibration=c) for c in ("difficulty", "likelihood")),
    AugmentationBits(calibration="none"),
    AugmentationBits(c=0.1),
    BoundaryDistance(calibration="likelihood"),
    LabelNoise(calibration="difficulty"),
]
FITTED = ("shadow-classifier", "quantile")
ALL = [attack() for attack in attacks().values()] + OPTIONS


def label(attack):
    default = {f.name: f.default for f in dataclasses.fields(attack)}
    changed = {k: getattr(attack, k) for k, v in default.items() if getattr(attack, k) != v}
    return attack.name + "".join(f"-{k}={v}" for k, v in changed.items())


every_attack = pytest.mark.parametrize("attack", ALL, ids=label)


def suited(attack, evidence):
    """The evidence on records that the attack is for."""
    return replace(evidence, kind="image") if attack.needs().queries.augmentation in IMAGES_ONLY else evidence


def play(attack, evidence):
    """The attack as an audit runs it: restricted evidence, fits, score."""
    evidence = suited(attack, evidence).restricted_to(attack.needs())
    assert attack.applies_to(evidence) == ()
    return attack.score(evidence, [fit.run() for fit in attack.fits(evidence)])


@pytest.fixture(scope="module")
def evidence(attack_evidence):
    return attack_evidence.synthetic(always=6)[0]


@every_attack
def test_scores_are_float64_one_per_record_and_finite_in_the_game(attack, evidence):
    scores = play(attack, evidence)
    assert scores.shape == (evidence.n,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores[evidence.game]).all()
    assert len(np.unique(scores[evidence.game])) > (1 if attack.name == "gap" else 3)


@every_attack
def test_higher_means_member(attack, attack_evidence):
    evidence, members = attack_evidence.synthetic(game=400, public=100, gap=5.0, references=8, seed=1)
    assert attack_evidence.auc(play(attack, evidence)[evidence.game], members[evidence.game]) > 0.6


@every_attack
def test_same_seed_same_scores_and_no_global_random_state(attack, evidence):
    np.random.seed(3)
    torch.manual_seed(3)
    random.seed(3)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate())
    first = play(attack, evidence)
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate())
    np.random.seed(99)
    torch.manual_seed(99)
    np.testing.assert_array_equal(first, play(attack, evidence))


@pytest.mark.parametrize("attack", [a for a in ALL if a.name not in FITTED], ids=label)
def test_permuting_records_permutes_scores(attack, evidence, attack_evidence):
    order = np.random.default_rng(0).permutation(evidence.n)

    def shuffled(answers):
        return attack_evidence.answered(answers.labels[order], answers.logits[:, order])

    permuted = replace(
        evidence,
        labels=evidence.labels[order],
        target=shuffled(evidence.target),
        references=shuffled(evidence.references),
        membership=evidence.membership[:, order],
        game=evidence.game[order],
        public=evidence.public[order],
        records=type(evidence.records)(evidence.records.array[order]),
    )
    mine, theirs = play(attack, evidence)[order], play(attack, permuted)
    np.testing.assert_allclose(mine[permuted.game], theirs[permuted.game], rtol=1e-7, atol=1e-7)


@every_attack
def test_only_declared_evidence_is_read(attack, evidence):
    read = set()

    class Spy(Evidence):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    fields = {f.name: getattr(evidence, f.name) for f in dataclasses.fields(Evidence)}
    spy, needs = Spy(**fields), attack.needs()
    attack.score(spy, [fit.run() for fit in attack.fits(spy)])
    declared = {"references", "membership"} if needs.references != "none" else set()
    declared |= {"public"} if needs.public or needs.uses_public else set()
    declared |= {"records"} if needs.records else set()
    assert read & {"references", "membership", "public", "records"} <= declared
    assert declared - {"public"} <= read or not declared


@pytest.mark.parametrize("attack", [a for a in ALL if a.needs().references == "out"], ids=label)
def test_offline_attacks_never_read_answers_of_models_trained_on_the_record(attack, evidence, attack_evidence):
    if getattr(attack, "a", 0.0) is None:
        attack = replace(attack, a=0.3)  # the choice of `a` plays the game on references, members included
    game = evidence.game
    logits = evidence.references.logits.copy()
    logits[evidence.membership] += 7 * np.random.default_rng(1).normal(size=logits[evidence.membership].shape)
    changed = replace(evidence, references=attack_evidence.answered(evidence.labels, logits))
    np.testing.assert_array_equal(play(attack, evidence)[game], play(attack, changed)[game])


@pytest.mark.parametrize("attack", [a for a in ALL if a.antisymmetric], ids=label)
def test_swapping_in_and_out_negates_the_score(attack, evidence):
    game = evidence.game
    swapped = replace(evidence, membership=~evidence.membership)
    np.testing.assert_allclose(play(attack, swapped)[game], -play(attack, evidence)[game], rtol=1e-9, atol=1e-9)


@every_attack
def test_configuration_can_be_written_down_and_rebuilt(attack):
    fields = {f.name: getattr(attack, f.name) for f in dataclasses.fields(attack)}
    again = type(attack)(**fields)
    assert again == attack
    assert content_hash(again) == content_hash(attack)
    assert canonical_json(attack) != canonical_json(replace(attack, queries=7))


@pytest.mark.parametrize("cls", attacks().values(), ids=lambda c: c.name)
def test_says_where_it_comes_from_and_who_could_mount_it(cls):
    assert re.search(r"@\w+\{" + re.escape(cls.reference) + ",", cls.bibtex)
    for field in ("title", "author", "year"):
        assert field + " =" in cls.bibtex
    assert cls.bibtex.count("{") == cls.bibtex.count("}")
    assert cls.summary.endswith(".")
    assert isinstance(cls.threat_model, ThreatModel)
    assert cls.threat_model.access in ("labels", "scores", "gradients", "weights")
    assert cls.threat_model.knowledge.endswith(".")
    assert cls.unit_rule in RULES
    assert cls.family == "membership"
    for word in ("safe", "anonymous", "compliant"):
        assert word not in (cls.summary + cls.threat_model.knowledge).lower()


@pytest.mark.parametrize("cls", attacks().values(), ids=lambda c: c.name)
def test_bad_options_are_refused(cls):
    with pytest.raises(UsageError, match="queries"):
        cls(queries=0)
    with pytest.raises(UsageError, match="augmentation"):
        cls(augmentation="mirrors")


@every_attack
def test_repeated_and_augmented_queries_are_used_or_refused_with_a_reason(attack, attack_evidence):
    queries = attack_evidence.MIRROR_TWICE
    full, _ = attack_evidence.synthetic(query_sets=(queries, *attack_evidence.MIRROR_OTHERS))
    full = replace(full, kind="image" if attack.name != "quantile" else "table")
    many = replace(attack, queries=2, augmentation="mirror")
    reasons = many.applies_to(full.restricted_to(many.needs()))
    if reasons:
        needs_posteriors = attack.name in ("entropy", "modified-entropy", "shadow-classifier")
        assert needs_posteriors or attack.name == "quantile" or attack.softmax == "taylor"
        return
    scores = play(many, full)
    assert np.isfinite(scores[full.game]).all()
    assert not np.allclose(scores[full.game], play(attack, full)[full.game])


@every_attack
def test_missing_evidence_is_a_reason_not_a_crash(attack, evidence):
    needs = attack.needs()
    bare = suited(attack, evidence)
    bare = replace(bare, references=None, membership=None, public=evidence.public & False, records=None)
    reasons = attack.applies_to(bare)
    assert bool(reasons) == (needs.references != "none" or needs.public or needs.records)
    if needs.references != "none":
        with pytest.raises(NotApplicable):
            attack.fits(bare) or attack.score(bare)


EDGES = {
    "two references": {"references": 2},
    "binary": {"classes": 2},
    "one record per class": {"game": 24, "public": 0, "classes": 24},
}


@pytest.mark.parametrize("edge", EDGES)
@every_attack
def test_small_games_give_finite_scores_or_a_reason(attack, edge, attack_evidence):
    evidence, _ = attack_evidence.synthetic(**EDGES[edge])
    evidence = suited(attack, evidence).restricted_to(attack.needs())
    reasons = attack.applies_to(evidence)
    if reasons:
        assert attack.needs().public or attack.needs().minimum_references > 1
        return
    scores = attack.score(evidence, [fit.run() for fit in attack.fits(evidence)])
    assert np.isfinite(scores[evidence.game]).all()


LABELS_ONLY = [attack for attack in ALL if attack.threat.access == "labels"]


def test_some_attacks_see_labels_only():
    assert {"gap", "augmentation-bits", "label-noise", "boundary-distance"} == {attack.name for attack in LABELS_ONLY}
    assert {attack.name for attack in ALL if attack.needs().labels_only} == {attack.name for attack in LABELS_ONLY}


@pytest.mark.parametrize("attack", LABELS_ONLY, ids=label)
def test_where_labels_are_seen_only_scores_change_nothing(attack, evidence):
    def other_scores(answers):
        """The same labels and distances, each answer as sure as chance has it."""
        rng = np.random.default_rng(5)
        factor = np.exp(rng.normal(size=(*answers.logits.shape[:2], 1)))
        scalars = {
            key: {
                name: values * np.exp(rng.normal(size=values.shape)) if name in STATISTICS else values
                for name, values in table.items()
            }
            for key, table in answers.scalars.items()
        }
        return Answers(answers.labels, factor * answers.logits, scalars)

    changed = replace(evidence, target=other_scores(evidence.target), references=other_scores(evidence.references))
    assert not np.allclose(changed.target.statistic("hinge"), evidence.target.statistic("hinge"))
    np.testing.assert_array_equal(play(attack, changed), play(attack, evidence))
    withheld = suited(attack, evidence).restricted_to(attack.needs())
    assert np.isnan(withheld.target.logits).all()
    for name in STATISTICS:
        with pytest.raises(NotApplicable):
            withheld.target_statistic(name, attack.query_set)


def agreeing(logits):
    """Every model gives the same answer, which differs from record to record."""
    records, classes = logits.shape[1:]
    return np.broadcast_to(0.1 * np.outer(np.arange(records), np.arange(classes)), logits.shape).copy()


def saturated(logits):
    """Log-probabilities of exactly 0 and -inf in some answers, right and wrong ones."""
    logits = logits.copy()
    for row, top in ((0, 0), (1, 1), (2, 0)):
        logits[row % len(logits) :: 2, row] = -np.inf
        logits[row % len(logits) :: 2, row, top] = 0.0
    return logits


CHANGES = {
    "zero variance": lambda logits: np.broadcast_to(logits[:1, :1], logits.shape).copy(),
    "no variance between models": agreeing,
    "extreme logits": lambda logits: np.where(np.abs(logits) > 1, np.sign(logits) * 1e4, logits),
    "probabilities of 0 and 1": saturated,
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("change", CHANGES)
@every_attack
def test_degenerate_answers_give_finite_scores(attack, change, attack_evidence):
    evidence, _ = attack_evidence.synthetic()
    evidence = attack_evidence.with_logits(evidence, CHANGES[change])
    assert np.isfinite(play(attack, evidence)[evidence.game]).all()


def test_fits_are_named_by_what_determines_them(evidence):
    for attack in (ShadowClassifier(), Quantile(), Quantile(learner="network")):
        (first,), (again,) = attack.fits(evidence), attack.fits(evidence)
        (other,) = attack.fits(replace(evidence, seed=evidence.seed + 1))
        assert first.key == again.key != other.key
        assert len(attack.fits(evidence)) == attack.needs().fits_per_target
        with pytest.raises(UsageError, match="fit"):
            attack.score(evidence)


def test_catalogue_lists_every_attack_and_the_default_ones_agree_on_queries():
    names = [listing.name for listing in listings()]
    assert names == [*attacks(), *inversions()]
    assert len(set(names)) == len(names)
    assert [listing.family for listing in listings()] == ["membership"] * len(attacks()) + ["inversion"] * len(
        inversions()
    )
    assert {"loss", "lira-online", "lira-offline", "rmia", "base", "bavaria", "quantile"} <= set(names)
    chosen = default_attacks(queries=4)
    assert {type(attack) for attack in chosen} <= set(attacks().values())
    assert {attack.query_set.key for attack in chosen} == {"none-x4"}
    assert "reconstruction" in attacks()["bavaria"].summary
