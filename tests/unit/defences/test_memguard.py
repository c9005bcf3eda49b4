from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.hamp import HAMP
from sfumato.defences.memguard import (
    MemGuard,
    coins,
    distance,
    drawn_attack,
    keeping_label,
    learn_to_tell,
    membership,
    misleading,
    noise_probability,
    sorted_scores,
)
from sfumato.errors import UsageError
from sfumato.models.mlp import MLP
from sfumato.targets.guards import behind_guards
from sfumato.training.composition import guards_at_random
from sfumato.training.defence import Behind
from sfumato.training.draws import Draws
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe
from sfumato.training.splitting import roles_of
from sfumato.training.task import Optimizer, Task

SMALL = MemGuard(hidden=(16, 8), attack_lr=0.02, max_steps=40, distortion_budget=0.3)


@pytest.fixture(scope="module")
def told():
    """An attack network that has learned to tell confident answers from the others, and such answers."""
    logits = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    logits[:60] *= 6
    draws = Draws((1,))
    state = drawn_attack((4, 16, 8, 1), draws)
    optimizer = torch.optim.Adam(state.values(), 0.02)
    members, others = sorted_scores(logits[:60]), sorted_scores(logits[60:])
    for epoch in range(100):
        learn_to_tell(state, members, others, optimizer, draws.at(epoch))
    return {name: value.detach() for name, value in state.items()}, logits


def test_the_attack_learns_to_tell(told):
    state, logits = told
    h = membership(state, logits)
    assert float(h[:60].mean()) > float(h[60:].mean()) + 0.2


def test_members_and_others_weigh_the_same_however_many_there_are():
    scores, draws = sorted_scores(torch.randn(100, 3, generator=torch.Generator().manual_seed(0))), Draws((2,))
    state = drawn_attack((3, 8, 1), draws)
    optimizer = torch.optim.Adam(state.values(), 0.01)
    for epoch in range(30):
        learn_to_tell(state, scores[:90], scores[90:], optimizer, draws.at(epoch))
    with torch.no_grad():
        h = membership(state, scores.log())
    assert 0.3 < float(h.mean()) < 0.7  # nothing to tell them by: not the 90% of the larger group


def test_the_search_changes_the_attacks_mind_and_never_the_label(told):
    state, logits = told
    changed = misleading(logits, state, 100)
    found = (changed != logits).any(1)
    assert float(found.float().mean()) > 0.6  # very sure answers are out of reach
    assert torch.equal(changed.argmax(1), logits.argmax(1))
    before, after = membership(state, logits), membership(state, changed)
    assert bool(((before > 0.5) != (after > 0.5))[found].all())


def test_a_wild_search_does_not_cost_the_label_either(told, monkeypatch):
    monkeypatch.setattr("sfumato.defences.memguard.STEP", 3.0)
    state, logits = told
    changed = misleading(logits, state, 20)
    assert bool((changed != logits).any())
    assert torch.equal(changed.argmax(1), logits.argmax(1))


def test_a_row_is_searched_for_alone(told):
    state, logits = told
    together, alone = misleading(logits[:6], state, 50), [misleading(logits[i : i + 1], state, 50) for i in range(6)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_a_heavier_distance_gives_a_nearer_answer(told, monkeypatch):
    state, logits = told
    nearest = distance(logits, misleading(logits, state, 60))
    monkeypatch.setattr("sfumato.defences.memguard.DISTANCE_WEIGHTS", (0.1,))
    assert float(nearest.mean()) < float(distance(logits, misleading(logits, state, 60)).mean())


def answers(defence, logits, state, seed):
    return defence.guard(logits, Draws((seed,), ("guard",)), Behind(lambda x: x, (4,), state))


def test_the_guard_keeps_the_label_and_the_budget_and_blinds_the_attack(told):
    state, logits = told[0], told[1][::4]
    drawn = torch.stack([answers(SMALL, logits, state, seed) for seed in range(6)])
    assert bool((drawn.argmax(2) == logits.argmax(1)).all())
    assert torch.allclose(drawn.exp().sum(2), torch.ones(6, 30), atol=1e-5)
    spent = torch.stack([distance(logits, each) for each in drawn])
    changed = misleading(logits, state, SMALL.max_steps)
    p = noise_probability(membership(state, logits), membership(state, changed), distance(logits, changed), 0.3)
    assert float((p * distance(logits, changed)).max()) <= 0.3 + 1e-6
    assert float(spent.mean()) == pytest.approx(float((p * distance(logits, changed)).mean()), abs=0.08)
    doubt = (membership(state, drawn.flatten(0, 1)) - 0.5).abs().mean()
    assert float(doubt) < 0.8 * float((membership(state, logits) - 0.5).abs().mean())


def test_without_a_budget_nothing_changes(told):
    state, logits = told
    none = answers(MemGuard(distortion_budget=0.0, max_steps=20), logits, state, 1)
    assert torch.allclose(none, logits.log_softmax(1))


def test_the_coin_is_tossed_once_for_each_model_and_answer(told):
    state, logits, frugal = told[0], told[1][::3], replace(SMALL, distortion_budget=0.05)
    behind = Behind(lambda x: x, (4,), state)
    first, again = (frugal.guard(logits, Draws((1,), ("guard", repeat)), behind) for repeat in (0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, frugal.guard(logits, Draws((2,), ("guard", 0)), behind))
    assert not guards_at_random(frugal)
    assert guards_at_random(HAMP(inner=frugal))


def test_coins_are_even():
    logits = torch.randn(2000, 4, generator=torch.Generator().manual_seed(5))
    tossed = coins(logits, 3).sort().values
    assert float((tossed - torch.linspace(0, 1, 2000)).abs().max()) < 0.05
    assert torch.equal(coins(logits[:5] + 1e-6 * torch.randn(5, 4), 3), coins(logits[:5], 3))


def test_a_label_lost_in_rounding_is_restored():
    tied = torch.tensor([[-0.7, -0.7, -9.0], [-0.1, -3.0, -3.0]])
    kept = keeping_label(tied, torch.tensor([1, 0]))
    assert kept.argmax(1).tolist() == [1, 0]
    assert torch.allclose(kept, tied, atol=1e-6)
    assert torch.equal(kept[1], tied[1])


def test_a_guard_that_was_not_fitted_does_not_answer():
    with pytest.raises(UsageError, match="attack network"):
        MemGuard().guard(torch.zeros(2, 3), Draws((1,)), Behind(lambda x: x, (3,)))


def test_the_guard_is_fitted_to_the_models_own_records_and_reference_records():
    rng = np.random.default_rng(0)
    data = Population(ArrayRecords(rng.random((80, 6), np.float32)), "example", labels=rng.integers(3, size=80))
    task = Task(model=MLP(hidden=(8,)), epochs=3, optimizer=Optimizer(lr=0.1), batch_size=40)
    defence = replace(SMALL, attack_epochs=20)
    recipe = Recipe(task, defence)
    trained = recipe.fit(data, [Assignment(np.arange(80), 3)], LoopOptions())[0]
    assert sorted(trained.guards) == sorted(f"memguard/{kind}.{n}" for kind in ("weight", "bias") for n in range(3))
    assert any("guard fitted" in event.purpose for event in trained.history.events)
    roles = roles_of(task, defence, data, np.arange(80), 3)
    predict = recipe.predictor(trained, data)
    with torch.no_grad():
        logits = predict(data.tensor(np.arange(80)))
    draws = Draws((3,), ("training", "course", "memguard"))
    state = drawn_attack((3, 16, 8, 1), draws)
    optimizer = torch.optim.Adam(state.values(), 0.02)
    for epoch in range(20):
        members, others = (sorted_scores(logits[roles == role]) for role in ("fit", "reference"))
        learn_to_tell(state, members, others, optimizer, draws.at("epoch", epoch))
    for name, value in state.items():
        assert torch.allclose(trained.guards[f"memguard/{name}"], value, atol=1e-4)
    again = recipe.fit(data, [Assignment(np.arange(80), 3)], LoopOptions())[0]
    assert all(torch.equal(again.guards[name], value) for name, value in trained.guards.items())
    answer = behind_guards(defence, predict, (6,), trained.guards, Draws((3,), ("guard",)), ("none", 0, 0, 0))(logits)
    assert torch.equal(answer.argmax(1), logits.argmax(1))


@pytest.mark.parametrize(
    "wrong",
    [{"distortion_budget": 2.1}, {"max_steps": 0}, {"hidden": (0,)}, {"attack_epochs": 0}, {"attack_lr": 0.0}],
    ids=lambda w: next(iter(w)),
)
def test_ranges(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        MemGuard(**wrong)
