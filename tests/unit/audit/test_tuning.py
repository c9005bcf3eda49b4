from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scipy.special import log_softmax

from sfumato.audit.record import GuaranteeSummary, Subject
from sfumato.audit.tuned import Trial
from sfumato.audit.tuning import (
    CRITERION,
    Tuning,
    choose,
    compare_tuned,
    drawn,
    mean_loss,
    positions_of,
    split_of,
    trainings,
    tuned,
    without_guarantee,
)
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.execution.store import Store
from sfumato.training.recipe import Recipe


@pytest.fixture
def canaries(settings):
    return replace(settings, design="canaries", canaries=12, models=2, public=0.1, delta=None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


SMOOTHING = Tuning(method="label-smoothing", grid={"smoothing": (0.05, 0.3, 0.6)}, tolerance=1.0)


def test_no_record_in_the_game_and_no_public_one_is_read(population, canaries):
    membership = canaries.membership(population)
    split = split_of(population, membership, 0.25, seed=0)
    forbidden = membership.in_game | membership.public
    for rows in split:
        assert not forbidden[population.unit_of[rows]].any()
    fitted, judged = (set(population.unit_of[rows].tolist()) for rows in split)
    assert not fitted & judged  # no unit is cut
    assert len(fitted | judged) == membership.units - forbidden.sum()
    assert len(judged) == round(0.25 * len(fitted | judged))


def test_few_ordinary_units_are_refused(population, canaries):
    membership = replace(canaries, canaries=42).membership(population)
    with pytest.raises(UsageError, match="at least 20 units that are never attacked"):
        split_of(population, membership, 0.25, seed=0)


@pytest.mark.parametrize("design", ["halves", "coins"])
def test_attacked_records_are_refused(population, canaries, recipes, store, design):
    attacked = replace(canaries, design=design, canaries=0, delta=1e-3)
    with pytest.raises(UsageError, match=r"the design .* attacks them all"):
        tuned(population, recipes, attacked, store, [SMOOTHING], executor="inline")


def test_the_smallest_gap_within_the_tolerance_is_chosen_and_the_models_are_kept(population, canaries, recipes, store):
    done = tuned(population, recipes, canaries, store, [SMOOTHING], executor="inline")
    (found,) = done.found
    assert done.recipes[0] is recipes[0]
    assert len(found.trials) == found.grid_size == 3
    best = min(found.trials, key=lambda trial: trial.gap)
    assert found.chosen == best.settings == {"smoothing": done.recipes[1].defence.smoothing}
    assert done.recipes[1].name == "label-smoothing"
    assert found.criterion == CRITERION
    assert found.fitted_units + found.validation_units == population.units - 12 - 6
    assert all(trial.gap == pytest.approx(abs(trial.validation_loss - trial.fitted_loss)) for trial in found.trials)
    events = []
    again = tuned(population, recipes, canaries, store, [SMOOTHING], executor="inline", on_event=events.append)
    assert again.found == done.found
    assert [event.how for event in events if hasattr(event, "how") and hasattr(event, "label")] == ["reused"] * 4


def test_the_record_says_what_was_tried(population, canaries, recipes, store, tmp_path):
    run = compare_tuned(population, recipes, canaries, store, [SMOOTHING], executor="inline")
    (found,) = run.record.tuning
    assert found.subject == "label-smoothing"
    assert run.record.subject("label-smoothing").defence.settings["smoothing"] == found.chosen["smoothing"]
    path = run.record.save(tmp_path / "record")
    assert type(run.record).load(path) == run.record
    assert "zz-" not in path.read_text()  # counts, no ids


def trial(accuracy, gap, within):
    return Trial(
        settings={}, validation_accuracy=accuracy, fitted_loss=0.0, validation_loss=gap, gap=gap, within=within
    )


def test_the_criterion():
    assert choose([trial(0.90, 0.5, True), trial(0.89, 0.1, True), trial(0.5, 0.0, False)]) == 1
    assert choose([trial(0.60, 0.5, False), trial(0.70, 0.9, False), trial(0.5, 0.0, False)]) == 1
    assert choose([trial(0.9, 0.1, True), trial(0.95, 0.1, True)]) == 0


def test_the_grid_is_drawn_from_the_seed_and_no_setting_comes_twice():
    grid = {"a": (1, 2, 3), "b": ("x", "y")}
    first, again, other = (list(drawn(grid, seed, "n")) for seed in (0, 0, 1))
    assert first == again != other
    assert len({tuple(one.items()) for one in first}) == 6
    assert list(drawn({}, 0, "n")) == [{}]


def test_mean_loss_is_the_cross_entropy():
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    expected = -np.mean([log_softmax(logits[i].astype(float))[labels[i]] for i in (1, 4)])
    assert mean_loss(logits, labels, np.array([1, 4])) == pytest.approx(expected)


@dataclass(frozen=True, kw_only=True)
class _Offering(LabelSmoothing):
    """Offers a grid, refuses some of it at construction, and finds some of no use."""

    other: float = 0.0
    seen: list[float] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self):
        super().__post_init__()
        if self.other == 1.0:
            raise UsageError("Expected another value.")

    @classmethod
    def grid(cls):
        return {"smoothing": (0.1, 0.2), "other": (0.0, 1.0, 2.0)}

    def unsuited(self, classes):
        return "of no use" if self.other == 2.0 and classes == 3 else ""


def offering(task, **fields):
    made = _Offering(**fields)
    return Recipe(task, made, f"offering@{fields.get('smoothing', 0.1)}")


def test_a_defence_offers_its_grid_and_what_does_not_suit_is_counted(population, canaries, recipes, store):
    one = Tuning(method="label-smoothing", tolerance=1.0)
    assert trainings([offering(recipes[0].task)], [one]) == 7
    (found,) = tuned(population, [offering(recipes[0].task)], canaries, store, [one], executor="inline").found
    assert [t.settings["other"] for t in found.trials] == [0.0, 0.0]
    assert (found.grid_size, found.unsuited) == (6, 4)


def test_strengths_are_not_tuned_away(population, canaries, recipes, store):
    sweep = [offering(recipes[0].task, smoothing=s) for s in (0.1, 0.2)]
    one = Tuning(method="label-smoothing", tolerance=1.0)
    done = tuned(population, sweep, canaries, store, [one], executor="inline")
    assert [recipe.defence.smoothing for recipe in done.recipes] == [0.1, 0.2]
    assert [found.held for found in done.found] == [["smoothing"]] * 2
    given = replace(one, grid={"smoothing": (0.1, 0.5)})
    with pytest.raises(UsageError, match="in which the contenders"):
        tuned(population, sweep, canaries, store, [given], executor="inline")


@dataclass(frozen=True, kw_only=True)
class Sealed(LabelSmoothing):
    """Every answer has the same scores, but for their order."""

    name = "sealed"

    def guard(self, logits, draws, behind):
        return logits.argsort(dim=1).argsort(dim=1).to(logits.dtype)


def test_behind_a_guard_the_gap_is_that_of_wrong_answers(population, canaries, recipes, store):
    hidden = Recipe(recipes[0].task, Sealed(smoothing=0.1), name="sealed")
    one = Tuning(method="sealed", grid={"smoothing": (0.05, 0.3)}, tolerance=1.0)
    (found,) = tuned(population, [recipes[0], hidden], canaries, store, [one], executor="inline").found
    split = split_of(population, canaries.membership(population), one.validation, canaries.seed)
    for trial in found.trials:
        wrong = trial.gap + trial.validation_accuracy, trial.validation_accuracy - trial.gap
        counts = [share * len(split.fitted) for share in wrong]
        assert any(abs(count - round(count)) < 1e-9 for count in counts), "a share of the fitted records"
        assert trial.gap != abs(trial.validation_loss - trial.fitted_loss)


def test_at_most_so_many_settings_are_trained(population, canaries, recipes, store):
    one = replace(SMOOTHING, trials=2)
    assert trainings(recipes, [one]) == 3
    (found,) = tuned(population, recipes, canaries, store, [one], executor="inline").found
    assert len(found.trials) == 2


@pytest.mark.parametrize(
    ("tuning", "text"),
    [
        (Tuning(method="mixup"), "contender with the defence 'mixup'"),
        (Tuning(method="label-smoothing"), "Expected a grid"),
        (replace(SMOOTHING, grid={"smoothness": (1,)}), "got 'smoothness'"),
        (replace(SMOOTHING, grid={"smoothing": (7.0,)}), "none in the grid"),
    ],
)
def test_what_cannot_be_tuned_is_refused(population, canaries, recipes, store, tuning, text):
    with pytest.raises(UsageError, match=text):
        tuned(population, recipes, canaries, store, [tuning], executor="inline")


def test_candidates_are_needed():
    with pytest.raises(UsageError, match="got none"):
        Tuning(method="mixup", grid={"alpha": ()})


def test_the_part_is_found_inside_a_chain(recipes):
    wrapped = Recipe(recipes[0].task, Undefended(inner=LabelSmoothing()), "wrapped")
    assert positions_of([recipes[0], wrapped], SMOOTHING) == [1]


def test_a_tuned_subject_has_no_guarantee(examples_subject):
    found = without_guarantee(examples_subject)
    assert found.guarantee.status == "none"
    assert "tuning" in found.guarantee.statement
    assert without_guarantee(found) is found


@pytest.fixture
def examples_subject(compared):
    subject: Subject = compared.run.record.subjects[0]
    formal = GuaranteeSummary(status="formal", statement="epsilon 1")
    return subject.model_copy(update={"guarantee": formal})
