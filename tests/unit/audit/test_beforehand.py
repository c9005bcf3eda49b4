"""What is refused before anything is trained, and what a record says of maps and of parts without an objective."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.beforehand import refuse_untrainable, remarks
from sfumato.audit.compare import compare
from sfumato.audit.plan import plan
from sfumato.audit.settings import AuditSettings
from sfumato.data.population import Population
from sfumato.defences.advreg import AdvReg
from sfumato.defences.crl import CRL
from sfumato.defences.cwrf_reconstruction import CWRFReconstruction
from sfumato.defences.dmp import DMP
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.early_stopping import EarlyStopping
from sfumato.defences.mist import MIST
from sfumato.defences.mixup import Mixup
from sfumato.defences.pptp_reconstruction import PPTPReconstruction
from sfumato.defences.relaxloss import RelaxLoss
from sfumato.defences.selena import SELENA
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, UsageError
from sfumato.execution.events import Started
from sfumato.execution.store import Store
from sfumato.models.mlp import MLP
from sfumato.models.ranking import RankedRegion, Ranking
from sfumato.training.recipe import Recipe
from sfumato.training.task import Task

TASK = Task(model=MLP(hidden=(4,)), epochs=2, batch_size=8)
SETTINGS = AuditSettings(attacks=[LossThreshold()], models=4)
CANNOT = [
    (replace(SELENA(), inner=DMP()), "course of trainings of each"),
    (replace(DPSGD.example(), inner=Mixup()), "its own loss"),
    (replace(MIST(), inner=EarlyStopping()), "early stopping"),
    (replace(MIST(), inner=CRL()), "parameters of the objective's own"),
    (PPTPReconstruction(inner=RelaxLoss()), "got neither"),
    (PPTPReconstruction(regions=("foo",), inner=RelaxLoss()), "foo"),
    (AdvReg(warmup_epochs=5), "epochs"),
]


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    return Population(rng.normal(size=(60, 5)).astype(np.float32), "example", labels=np.arange(60) % 3)


def a_map(folder, data="", apart_from=""):
    regions = [RankedRegion(region="head", parameters=["3.weight", "3.bias"], count=1, risk=0.1, accuracy=0.0)]
    ranking = Ranking(operation="freeze", measure="auc", regions=regions).model_dump()
    path = folder / "map.json"
    path.write_text(json.dumps({"ranking": ranking, "data": {"fingerprint": data}, "apart_from": apart_from}))
    return PPTPReconstruction(map=str(path), inner=RelaxLoss())


@pytest.mark.parametrize(("defence", "message"), CANNOT)
def test_what_cannot_be_trained_is_refused_before_the_first_model(records, tmp_path, defence, message):
    trained = []
    recipes = [Recipe(TASK, Undefended()), Recipe(TASK, defence)]

    def on_event(event):
        trained.extend([event] if isinstance(event, Started) else [])

    with pytest.raises((UsageError, NotPrivateError), match=message):
        compare(records, recipes, SETTINGS, Store(tmp_path), executor="inline", on_event=on_event)
    assert not trained
    if message == "got neither":
        return  # a plan may stand before the probe that finds the regions
    with pytest.raises((UsageError, NotPrivateError), match=message):
        plan(records, recipes, SETTINGS, Store(tmp_path))


def test_a_map_of_the_very_records_that_are_attacked_is_refused(records, tmp_path):
    recipe = Recipe(TASK, a_map(tmp_path, data=records.fingerprint))
    with pytest.raises(UsageError, match="chosen on records that are not attacked") as refused:
        refuse_untrainable([recipe], records)
    assert "--probe" in refused.value.remedy


def test_a_map_that_may_have_seen_attacked_records_is_told_of(records, tmp_path):
    recipe = Recipe(TASK, a_map(tmp_path, data="other"), "protected")
    refuse_untrainable([recipe], records)
    [notice] = remarks([recipe], records)
    assert notice.severity == "critical"
    assert "protected" in notice.text
    apart = Recipe(TASK, a_map(tmp_path, data="other", apart_from=records.fingerprint), "protected")
    assert remarks([apart], records) == []


@pytest.mark.parametrize("kind", [CWRFReconstruction, PPTPReconstruction.example])
def test_a_chain_without_any_privacy_objective_is_called_a_control(records, kind):
    for inner in (None, Undefended(), EarlyStopping()):
        [notice] = remarks([Recipe(TASK, replace(kind(), inner=inner), "bare")], records)
        assert notice.severity == "critical"
        assert "it is a control" in notice.text
    assert remarks([Recipe(TASK, replace(kind(), inner=RelaxLoss()))], records) == []
    assert remarks([Recipe(TASK, replace(RelaxLoss(), inner=kind()))], records) == []
    assert remarks([Recipe(TASK, replace(kind(), inner=DPSGD.example()))], records) == []
