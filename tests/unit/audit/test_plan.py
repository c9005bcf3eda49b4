from dataclasses import replace

from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.attacks.membership.quantile import Quantile
from sfumato.audit.plan import plan
from sfumato.defences.hamp import HAMP
from sfumato.execution.store import Store


def test_an_empty_store_needs_every_model(population, recipes, settings, tmp_path):
    attacks = (LossThreshold(), Quantile())
    found = plan(population, recipes, replace(settings, models=4, attacks=attacks), Store(tmp_path))
    assert found.models == 8
    assert found.cost.models_to_train == 8
    assert found.fits == 2 * 4 * Quantile().needs().fits_per_target
    assert found.retraining == {}


def test_what_is_stored_costs_nothing_and_larger_designs_reuse_it(compared):
    args = compared.population, compared.recipes
    assert plan(*args, compared.settings, compared.store).cost.models_to_train == 0
    larger = plan(*args, replace(compared.settings, models=12), compared.store)
    assert larger.cost.models_to_train == 2 * 4


def test_attacks_with_other_queries_say_what_they_would_train_again(compared, monkeypatch):
    attacks = (LiRAOnline(queries=2),)
    settings = replace(compared.settings, attacks=attacks)
    found = plan(compared.population, compared.recipes, settings, compared.store)
    assert found.retraining == {}  # the weights are there
    assert found.cost.requeries == 16
    monkeypatch.setattr(Store, "state_of", lambda self, job, queries=(): "needs training" if queries else "ready")
    assert plan(compared.population, compared.recipes, settings, compared.store).retraining == {"lira-online": 16}


def test_answers_at_random_are_asked_often_and_fewer_draws_bound_that(population, recipes, settings, tmp_path):
    hides = [recipes[0], replace(recipes[0], defence=HAMP(gamma=0.9, beta=0.01), name="hamp")]
    few, store = replace(settings, models=4, attacks=(LiRAOnline(), LossThreshold())), Store(tmp_path)
    found = plan(population, hides, few, store)
    assert found.asked == {"hamp": 1 + 16 + 16 + 1}  # the base; 16 fresh, 16 under common noise, and with the noise off
    small = plan(population, hides, replace(few, draws=(1, 4)), store)
    assert small.asked == {"hamp": 1 + 4 + 4 + 1}
    assert small.cost.forward_passes < found.cost.forward_passes
