from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from sfumato.attacks.fits import Fit
from sfumato.attacks.inversion.base import ClassInversion, LabelInference, Reconstructions
from sfumato.attacks.inversion.evidence import AttributeEvidence, ClassEvidence, LabelEvidence
from sfumato.attacks.inversion.fredrikson import Fredrikson
from sfumato.attacks.inversion.planted_label import PlantedLabel
from sfumato.attacks.inversion.ppa import PPA
from sfumato.audit.inversion import caching
from sfumato.audit.inversion.caching import Reconstruction, Timed, read, reconstructed, restricted
from sfumato.data.population import Population, Unit
from sfumato.defences.undefended import Undefended
from sfumato.execution.run import run_fit
from sfumato.execution.store import Store
from sfumato.targets.boundary import Box
from sfumato.targets.oracle import Oracle

BOX = Box(torch.zeros(2), torch.ones(2), torch.ones(2))
PUBLIC = Population(np.zeros((4, 2), dtype=np.float32), Unit("example"), labels=np.array([0, 1, 0, 1]))


@dataclass(frozen=True, kw_only=True)
class Trained(Fit):
    """Something that an attack trains."""

    number: int

    def run(self):
        return {"weights": np.full(2, self.number, dtype=np.float32)}


@dataclass(frozen=True, kw_only=True)
class Fitting(ClassInversion):
    """Guesses what was trained first."""

    number: int = 3

    def fits(self, evidence):
        return (Trained(number=self.number),)

    def reconstruct(self, evidence, fitted=()):
        assert set(fitted[0]) == {"weights"}
        records = np.tile(fitted[0]["weights"], (len(evidence.labels), 1, 1))
        labels = np.zeros((len(evidence.labels), 1), dtype=np.int64)
        return Reconstructions(records, np.zeros((len(records), 1)), 7, labels, {"loss": 0.5})


def oracle(name="model", box=BOX):
    network = torch.nn.Linear(2, 3).eval()
    return Oracle(network, Undefended(), (2,), 3, box, "weights", 0, name=name)


def evidence(**more):
    return ClassEvidence(**{"oracle": oracle(), "labels": np.arange(3), "public": PUBLIC, "seed": 1, **more})


def reconstruction(attack=None, seen=None, store=None):
    seen = seen or evidence()
    run = (lambda fit: run_fit(fit, store)) if store else (lambda fit: fit.run())
    return Reconstruction(attack or Fitting(), seen, lambda: oracle(), run)


def test_what_was_guessed_comes_back_from_the_store_with_its_seconds(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = reconstructed(reconstruction(store=store))
    monkeypatch.setattr(Fitting, "reconstruct", lambda *_: pytest.fail("guessed again"))
    again = reconstructed(reconstruction(store=store))
    assert (again.seconds, again.fit_seconds) == (first.seconds, first.fit_seconds)
    assert first.seconds > 0
    assert first.fit_seconds > 0
    assert np.array_equal(again.guesses.records, first.guesses.records)
    assert (again.guesses.queries, again.guesses.facts) == (7, {"loss": 0.5})
    assert again.guesses.labels.dtype == np.int64


def test_what_is_trained_is_shared_and_keeps_its_own_seconds(tmp_path):
    store = Store(tmp_path)
    reconstructed(reconstruction(store=store))
    spent = store.get_fit(Timed(Trained(number=3)).key)["seconds"]
    other = reconstructed(reconstruction(seen=evidence(seed=2), store=store))
    assert other.fit_seconds == float(spent)
    assert len(list(tmp_path.glob("fits/*/*"))) == 3  # two reconstructions, one training


@pytest.mark.parametrize(
    "changed",
    [
        {"attack": Fitting(number=4)},
        {"seen": evidence(labels=np.arange(2))},
        {"seen": evidence(seed=2)},
        {"seen": evidence(public=None)},
        {"seen": evidence(oracle=oracle("other"))},
        {"seen": evidence(oracle=oracle(box=Box(torch.zeros(2), 2 * torch.ones(2), torch.ones(2))))},
    ],
    ids=["attack", "classes", "seed", "public", "model", "box"],
)
def test_whatever_determines_the_guesses_is_in_the_key(changed):
    assert reconstruction(**changed).key != reconstruction().key
    assert reconstruction().key == reconstruction().key


def test_the_source_of_the_attacks_is_in_every_key(monkeypatch):
    before = reconstruction().key, Timed(Trained(number=3)).key
    monkeypatch.setattr(caching, "inversion_source", lambda: "another")
    assert reconstruction().key != before[0]
    assert Timed(Trained(number=3)).key != before[1]


def test_reasons_are_a_result_and_come_back():
    refusing = type("Refusing", (Fitting,), {"refuses": lambda *_: ("has no ears", "has no eyes")})
    monkey = reconstruction()
    found = read(replace(monkey, attack=refusing()).run())
    assert found.guesses is None
    assert found.refused == ("has no ears", "has no eyes")


def test_an_attack_sees_what_it_declares_and_no_more():
    seen = evidence()
    assert restricted(Fitting(), seen).public is None
    assert restricted(type("Wants", (Fitting,), {"needs_public": True})(), seen).public is PUBLIC
    assert restricted(type("May", (Fitting,), {"uses_public": True})(), seen).public is PUBLIC
    asked = LabelEvidence(oracle(), np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), 0, public=PUBLIC)
    guess = type("Label", (LabelInference,), {"reconstruct": lambda *_: None})
    assert restricted(guess(), asked).public is None
    assert restricted(guess(), asked).oracle.access == "scores"
    assert asked.oracle.access == "weights"


def label_evidence(public):
    return LabelEvidence(oracle(), np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), 0, public=public)


def test_public_records_that_calibrate_are_in_the_key_of_planted_labels():
    others = Population(np.ones((4, 2), dtype=np.float32), Unit("example"), labels=np.array([0, 1, 0, 1]))
    attack = PlantedLabel(calibration="public")
    assert reconstruction(attack, label_evidence(PUBLIC)).key != reconstruction(attack, label_evidence(others)).key


def test_which_value_public_records_have_is_in_the_key_of_a_hidden_attribute():
    records, labels = np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64)
    values = np.array([0.0, 1.0], dtype=np.float32)
    first, other = (
        AttributeEvidence(oracle(), records, labels, 0, values, PUBLIC, np.array(told), 0)
        for told in ([0, 0, 1, 1], [0, 1, 1, 1])
    )
    assert reconstruction(Fredrikson(), first).key != reconstruction(Fredrikson(), other).key


def test_the_code_of_models_and_objectives_is_in_the_key_of_a_reconstruction(monkeypatch):
    before = reconstruction().key
    monkeypatch.setattr(caching, "code_digest", lambda: "another")
    assert reconstruction().key != before
    assert {"sfumato.models", "sfumato.seeding"} <= set(caching.COVERED)  # generators name no trained model


@dataclass(frozen=True, kw_only=True)
class Asking(Trained):
    """Something that is trained with 40 answers of the model."""

    def run(self):
        return super().run() | {"queries": np.array([40.0], dtype=np.float32)}


def test_queries_for_what_is_trained_first_are_told_and_not_mixed_with_those_of_questions():
    attack = type("Costly", (Fitting,), {"fits": lambda *_: (Asking(number=1), Asking(number=2)), "reconstruct": seven})
    found = read(reconstruction(attack()).run()).guesses
    assert found.queries == 7
    assert found.facts == {caching.BEFORE: 80.0}


def seven(attack, evidence, fitted=()):
    return Reconstructions(np.zeros((3, 1, 2), dtype=np.float32), np.zeros((3, 1)), 7)


def test_the_file_of_a_users_generator_is_in_the_key(tmp_path):
    file = tmp_path / "made.py"
    file.write_text("def make(shape):\n    return 1\n")
    attack = PPA(prior=f"user-generator:{file}:make")
    before = reconstruction(attack).key
    file.write_text("def make(shape):\n    return 2\n")
    assert reconstruction(attack).key != before
