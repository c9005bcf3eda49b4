from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.probing.first import ProbeFirst, questions, set_apart, with_map
from sfumato.audit.settings import AuditSettings, designated
from sfumato.data.canaries import twins, with_canaries
from sfumato.data.population import Population, Unit
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.pptp_reconstruction import PPTPReconstruction
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

TASK = Task(model=MLP())
OPEN = PPTPReconstruction(inner=LabelSmoothing(smoothing=0.3))


def people(canaries: int = 0) -> Population:
    kinds = np.where(np.arange(120) < canaries, "mislabelled", "none")
    return Population(
        np.zeros((120, 2), dtype=np.float32),
        Unit("person", np.arange(120) // 2),
        labels=np.arange(120) % 2,
        groups={"canary": kinds} if canaries else {},
    )


def test_the_parts_share_no_unit_and_leave_nobody_out():
    parts = set_apart(people(), 0.4, seed=0)
    assert (parts.probed.units, parts.compared.units) == (24, 36)
    both = [*parts.probed.id_array, *parts.compared.id_array]
    assert sorted(both, key=int) == list(people().id_array)
    assert not set(parts.probed.unit_names) & set(parts.compared.unit_names)
    assert set_apart(people(), 0.4, seed=0).probed.fingerprint == parts.probed.fingerprint
    assert set_apart(people(), 0.4, seed=1).probed.fingerprint != parts.probed.fingerprint


def test_canaries_are_never_probed():
    parts = set_apart(people(canaries=40), 0.5, seed=0)
    assert parts.probed.units == 20
    assert len(designated(parts.probed)) == 0
    assert len(designated(parts.compared)) == 20


def test_records_of_which_there_is_an_attacked_near_copy_are_never_probed():
    rng = np.random.default_rng(0)
    plain = Population(rng.normal(size=(80, 3)).astype(np.float32), "example", labels=np.arange(80) % 2)
    marked = with_canaries(plain, {"near-duplicate": 20}, seed=0)
    known = {marked.unit_names[unit] for unit in twins(marked)}
    assert len(known) == 20
    for seed in range(3):
        parts = set_apart(marked, 0.5, seed)
        assert known <= set(parts.compared.unit_names)
        assert len(designated(parts.compared)) == 20


def test_parts_that_are_too_small_are_refused():
    with pytest.raises(UsageError, match="16 units"):
        set_apart(people(), 0.2, seed=0)
    with pytest.raises(UsageError, match="share"):
        ProbeFirst(share=0.0)
    with pytest.raises(UsageError, match="even"):
        ProbeFirst(share=0.3, models=7)


def test_only_open_regions_are_asked_for_and_each_question_once():
    outer = replace(LabelSmoothing(smoothing=0.1), inner=OPEN)
    named = PPTPReconstruction(regions=("head",), inner=LabelSmoothing(smoothing=0.3))
    recipes = [
        Recipe(TASK, Undefended()),
        Recipe(TASK, OPEN, "a"),
        Recipe(TASK, replace(OPEN, scheme="masked"), "b"),
        Recipe(TASK, outer, "c"),
        Recipe(TASK, named, "d"),
    ]
    found = questions(recipes)
    assert list(found) == ["a", "b", "c"]
    assert found["a"].defence == LabelSmoothing(smoothing=0.3)
    assert found["a"].key == found["b"].key != found["c"].key
    assert found["c"].defence == replace(LabelSmoothing(smoothing=0.1), inner=LabelSmoothing(smoothing=0.3))


def test_no_question_and_no_objective_are_refused():
    with pytest.raises(UsageError, match="to probe for"):
        questions([Recipe(TASK, Undefended())])
    with pytest.raises(UsageError, match="around or inside"):
        questions([Recipe(TASK, PPTPReconstruction())])


def test_the_map_goes_into_the_open_part_alone(tmp_path):
    path = tmp_path / "map.json"
    path.write_text("{}")
    made = with_map(Recipe(TASK, replace(DPSGD.example(), inner=OPEN), "mine"), path)
    assert made.name == "mine"
    part = made.defence.inner
    assert isinstance(part, PPTPReconstruction)
    assert (part.map, part.inner, len(part.sha256)) == (str(path), OPEN.inner, 64)


def test_it_probes_with_the_seed_of_the_comparison():
    audit = AuditSettings(attacks=(LossThreshold(),), seed=5, replicates=30, dtype="float64")
    found = ProbeFirst(share=0.3, models=4, epochs=2).settings(audit)
    assert (found.seed, found.replicates, found.dtype, found.models, found.epochs) == (5, 30, "float64", 4, 2)
    assert "rewind-private" in found.operations
