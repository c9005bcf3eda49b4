"""What every inversion attack promises, found by discovery. Generators are tiny here: `GeneratorKind.example`."""

import dataclasses
import random
import re
import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from sfumato.attacks.catalogue import inversions
from sfumato.attacks.inversion.base import GAMES, ClassInversion, why_not
from sfumato.attacks.inversion.generators.catalogue import generators
from sfumato.canonical import canonical_json, content_hash
from sfumato.errors import NotApplicable, UsageError
from sfumato.targets.oracle import ACCESSES, Oracle

KINDS = inversions()
ALL = [kind.example() for kind in KINDS.values()]
every_attack = pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
of_classes = pytest.mark.parametrize(
    "attack", [a for a in ALL if isinstance(a, ClassInversion)], ids=lambda attack: attack.name
)
INSIDE = ("oracle.py", "dataclasses.py")


@dataclass(frozen=True, eq=False)
class Spy(Oracle):
    """Remembers how it was asked."""

    asked: set = field(default_factory=set)

    def __getattribute__(self, name):
        inside = sys._getframe(1).f_code.co_filename.endswith(INSIDE)
        if not inside and name in ("logits", "passed", "network", "scores", "labels", "predict", "state", "defence"):
            super().__getattribute__("asked").add(name)
        return super().__getattribute__(name)


@pytest.fixture(scope="module", autouse=True)
def tiny_generators():
    """Each attack takes the generator it would take, but with the numbers of its `example`."""
    owners = {owner for kind in KINDS.values() for owner in kind.__mro__ if "kind" in vars(owner)}
    with pytest.MonkeyPatch.context() as patch:
        for owner in owners:
            usual = vars(owner)["kind"]
            patch.setattr(owner, "kind", lambda self, evidence, usual=usual: type(usual(self, evidence)).example())
        yield


def restricted(attack, evidence):
    """The evidence as an audit hands it over."""
    if attack.game == "class":
        return evidence.restricted_to(attack.threat_model.access, attack.needs_public or attack.uses_public)
    if attack.game == "gradient":
        return evidence
    return replace(evidence, oracle=evidence.oracle.restricted_to(attack.threat_model.access))


@pytest.fixture(scope="module")
def play(inversion_evidence):
    """(attack, evidence or None) to what it guesses; fits are run once for each attack."""
    fitted = {}

    def played(attack, evidence=None):
        evidence = restricted(attack, evidence or inversion_evidence.evidence_for(attack.game))
        assert why_not(attack, evidence) == ()
        if attack not in fitted:
            fitted[attack] = [fit.run() for fit in attack.fits(evidence)]
        before = 0 if attack.game == "gradient" else evidence.oracle.queries
        found = attack.reconstruct(evidence, fitted[attack])
        asked = 0 if attack.game == "gradient" else evidence.oracle.queries - before
        assert attack.game == "gradient" or found.queries == asked
        return found

    return played


@pytest.fixture(scope="module")
def guessed(play):
    """attack to its guesses on the usual evidence, asked for once."""
    known = {}

    def once(attack):
        if attack not in known:
            known[attack] = play(attack)
        return known[attack]

    return once


@every_attack
def test_the_best_guess_comes_first_and_all_numbers_are_finite(attack, guessed):
    found = guessed(attack)
    assert found.records.dtype == np.float32
    assert found.confidence.dtype == np.float64
    inside = ~np.isnan(found.records.reshape(*found.confidence.shape, -1)).any(axis=2)
    assert np.isfinite(found.confidence[inside]).all()
    if attack.game != "gradient":
        assert inside.all()
        assert (np.diff(found.confidence, axis=1) <= 0).all()
        assert found.queries > 0 or attack.threat_model.access == "weights"
    assert found.labels is None or attack.game == "gradient"
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.facts.values())


@every_attack
def test_guesses_have_the_shape_of_the_game_and_lie_where_records_lie(attack, guessed, inversion_evidence):
    evidence, found = inversion_evidence.evidence_for(attack.game), guessed(attack)
    CHECKS[attack.game](attack, evidence, found)


def check_class(attack, evidence, found):
    assert found.records.shape == (len(evidence.labels), attack.images, *evidence.oracle.shape)
    assert_in(evidence.box, found.records)


def check_gradient(attack, evidence, found):
    assert found.records.shape == (len(evidence.updates), evidence.sizes.max(), *evidence.shape)
    for step, size in enumerate(evidence.sizes):
        assert_in(evidence.box, found.records[step, :size])
        assert np.isnan(found.records[step, size:]).all()
        if found.labels is not None:
            assert set(found.labels[step, :size]) <= set(range(evidence.classes))


def check_attribute(attack, evidence, found):
    assert found.records.shape == (len(evidence.records), len(evidence.values), 1)
    np.testing.assert_array_equal(
        np.sort(found.records[..., 0], axis=1), np.tile(evidence.values, (len(found.records), 1))
    )


def check_label(attack, evidence, found):
    classes = evidence.oracle.classes
    assert found.records.shape == (len(evidence.records), classes - 1, 1)
    for guesses, true in zip(found.records[..., 0], evidence.true_labels, strict=True):
        assert sorted(guesses) == [label for label in range(classes) if label != true]


CHECKS = {"class": check_class, "gradient": check_gradient, "attribute": check_attribute, "label": check_label}


def assert_in(box, records):
    low, high = box.low.numpy(), box.high.numpy()
    assert (records >= low - 1e-6).all()
    assert (records <= high + 1e-6).all()


@every_attack
def test_same_seed_same_guesses_and_no_global_random_state(attack, play, guessed):
    first = guessed(attack)
    np.random.seed(3)
    torch.manual_seed(3)
    random.seed(3)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate())
    again = play(attack)
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), random.getstate())
    np.testing.assert_array_equal(first.records, again.records)
    np.testing.assert_array_equal(first.confidence, again.confidence)
    assert first.queries == again.queries


@pytest.mark.parametrize("attack", [a for a in ALL if a.game != "gradient"], ids=lambda attack: attack.name)
def test_nothing_is_touched_that_is_not_declared(attack, inversion_evidence):
    evidence = inversion_evidence.evidence_for(attack.game)
    fields = {f.name: getattr(evidence.oracle, f.name) for f in dataclasses.fields(Oracle)}
    spied = restricted(attack, replace(evidence, oracle=Spy(**fields)))
    attack.reconstruct(spied, [fit.run() for fit in attack.fits(spied)])
    allowed = {"labels": {"labels"}, "scores": {"labels", "scores"}}
    asked = spied.oracle.asked
    assert asked
    assert asked <= allowed.get(attack.threat_model.access, {"labels", "scores", "logits", "passed", "network"})


@pytest.mark.parametrize("attack", [a for a in ALL if a.game == "class"], ids=lambda attack: attack.name)
def test_the_network_is_left_as_it_was(attack, play, inversion_evidence):
    network = inversion_evidence.digits_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    play(attack)
    assert not network.training
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("attack", [a for a in ALL if a.game != "gradient"], ids=lambda attack: attack.name)
def test_too_little_access_is_a_reason(attack, inversion_evidence):
    evidence = inversion_evidence.evidence_for(attack.game)
    access = attack.threat_model.access
    for less in ACCESSES[: ACCESSES.index(access)]:
        poor = replace(evidence, oracle=evidence.oracle.restricted_to(less))
        assert f"needs access to {access}, got {less} only" in why_not(attack, poor)
    with pytest.raises(NotApplicable):
        evidence.oracle.restricted_to("labels").restricted_to("scores")


@of_classes
def test_missing_public_records_are_a_reason_only_where_they_are_needed(attack, inversion_evidence):
    evidence = replace(inversion_evidence.class_evidence(), public=None)
    reasons = why_not(attack, evidence)
    assert ("needs public records of other classes, got none" in reasons) == attack.needs_public
    assert bool(reasons) == attack.needs_public


@of_classes
def test_a_table_is_inverted_or_refused_with_a_reason(attack, play, inversion_evidence):
    evidence = inversion_evidence.table_evidence()
    reasons = why_not(attack, evidence)
    if attack.images_only:
        assert "needs pictures, got records of shape (4,)" in reasons
        return
    assert reasons == ()
    fits = [fit.run() for fit in attack.fits(restricted(attack, evidence))]
    found = attack.reconstruct(restricted(attack, evidence), fits)
    check_class(attack, evidence, found)


@every_attack
def test_configuration_can_be_written_down_and_rebuilt(attack):
    fields = {f.name: getattr(attack, f.name) for f in dataclasses.fields(attack)}
    again = type(attack)(**fields)
    assert again == attack
    assert hash(again) == hash(attack)
    assert content_hash(again) == content_hash(attack)
    assert canonical_json(attack).count(f'"{attack.name}"') >= 1
    number = next((name for name, value in fields.items() if type(value) in (int, float)), None)
    if number is not None:
        changed = replace(attack, **{number: fields[number] / 2 if isinstance(fields[number], float) else 1})
        assert content_hash(changed) != content_hash(attack) or changed == attack


@every_attack
def test_fits_are_named_by_what_determines_them(attack, inversion_evidence):
    evidence = restricted(attack, inversion_evidence.evidence_for(attack.game))
    keys = [fit.key for fit in attack.fits(evidence)]
    assert keys == [fit.key for fit in attack.fits(evidence)]
    assert len(keys) == len(set(keys))


@every_kind
def test_says_where_it_comes_from_and_who_could_mount_it(kind):
    assert kind.game in GAMES
    assert kind.threat_model.access in (*ACCESSES, "update")
    assert (kind.threat_model.access == "update") == (kind.game == "gradient")
    assert kind.threat_model.knowledge.endswith(".")
    assert kind.summary.endswith((".", "?"))
    assert kind.family == "inversion"
    assert kind.__doc__
    assert kind.reconstruction == "" or kind.reconstruction.endswith(".")
    for word in ("safe", "anonymous", "compliant", "epsilon"):
        assert word not in (kind.summary + kind.threat_model.knowledge + kind.reconstruction).lower()


@every_kind
def test_cites_a_paper_or_says_that_there_is_none(kind):
    if kind.name not in OURS:
        assert re.search(r"@\w+\{" + re.escape(kind.reference) + ",", kind.bibtex)
        for part in ("title", "author", "year"):
            assert part + " =" in kind.bibtex
    assert kind.bibtex.count("{") == kind.bibtex.count("}")


OURS = {"planted-label"}


@of_classes
def test_bad_options_are_refused(attack):
    with pytest.raises(UsageError, match="images"):
        replace(attack, images=0)
    if hasattr(attack, "prior"):
        with pytest.raises(UsageError, match="prior"):
            replace(attack, prior="wgan-pg")


def test_every_attack_with_a_prior_names_a_kind_that_exists():
    named = {attack.prior for attack in ALL if hasattr(attack, "prior")}
    assert named - {"", "auto"} <= set(generators())
    assert {"wgan-gp", "ked-gan", "plg-gan"} <= named


def test_the_attacks_of_all_games_are_found():
    games = {game: {kind.name for kind in KINDS.values() if kind.game == game} for game in GAMES}
    assert {"miface", "gmi", "ked-mi", "plg-mi", "lomma", "ppa", "if-gmi"} <= games["class"]
    assert {"miface-scores", "brep-mi", "mirror"} <= games["class"]
    assert {"dlg", "geiping", "analytic-linear"} <= games["gradient"]
    assert {"attribute-inference", "fredrikson"} <= games["attribute"]
    assert "planted-label" in games["label"]
