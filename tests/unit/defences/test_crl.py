import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.data.population import Population
from sfumato.data.records import ArrayRecords
from sfumato.defences.crl import CRL, NORMALISATIONS, normalised, reachable_floor
from sfumato.defences.dpsgd import DPSGD
from sfumato.defences.label_smoothing import LabelSmoothing
from sfumato.defences.undefended import Undefended
from sfumato.errors import NotPrivateError, UsageError
from sfumato.models.mlp import MLP
from sfumato.models.small_cnn import SmallCNN
from sfumato.training.checkpoint import Checkpoint
from sfumato.training.composition import composed_objective, update_of
from sfumato.training.extras import features_of
from sfumato.training.losses import cross_entropy
from sfumato.training.preparation import Assignment, LoopOptions, prepare
from sfumato.training.private_loop import PrivateTraining
from sfumato.training.recipe import Recipe
from sfumato.training.seen import Seen, Tally
from sfumato.training.task import Optimizer, Task

DOUBLE = LoopOptions(dtype=torch.float64)
FLOORS = {  # of the reference: classes, R -> nats, as it prints them
    (10, 1): "1.42", (10, 2): "0.739", (10, 3): "0.323", (10, 5): "0.045", (10, 10): "0.0002",
    (100, 2): "2.66", (100, 3): "1.77", (100, 5): "0.50", (100, 8): "0.031", (100, 10): "0.0043",
}  # fmt: skip


def some(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen(epoch=0, *, rows=6, classes=4, labels=None, tally=None, defence=None, scale=3.0):
    """A pass with random logits, features and centres."""
    torch.manual_seed(1)
    module = (defence or CRL()).extra(5, classes).module.double()
    labels = torch.arange(rows) % classes if labels is None else labels
    targets = torch.eye(classes, dtype=torch.float64)[labels]
    logits, features = some(rows, classes, scale=scale).requires_grad_(), some(rows, 5, seed=2).requires_grad_()
    return Seen(logits, targets, features, {"crl": module}, epoch, 10, 1, tally)


def plain(at: Seen) -> torch.Tensor:
    return cross_entropy(at.outputs, at.targets)


@pytest.mark.parametrize("t", [0.05, 0.3, 1.0])
def test_normalised_vectors_are_shorter_than_the_bound_and_short_ones_stay(t):
    lengths = normalised(some(200, 7, scale=1e6), t).norm(dim=1)
    assert float(lengths.max()) < 1 / t
    assert float(lengths.min()) > 0.999 / t
    short = some(20, 7, scale=1e-6)
    torch.testing.assert_close(normalised(short, t), short, rtol=1e-4, atol=0)
    whole = normalised(short, t, "logitnorm").norm(dim=1)
    assert float(whole.max()) < 1 / t
    torch.testing.assert_close(normalised(some(20, 7), 0.0), some(20, 7), rtol=0, atol=0)


@pytest.mark.parametrize("form", NORMALISATIONS)
def test_the_gradient_is_finite_at_the_origin(form):
    at = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    normalised(at, 0.5, form)[:, 0].sum().backward()
    assert torch.isfinite(at.grad).all()
    assert bool((at.grad[:, 0] > 0).all())
    if form == "saturating":
        torch.testing.assert_close(at.grad[:, 0], torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_the_first_epoch_is_odd_and_the_base_can_be_changed():
    for base, first in ((1, "descent"), (0, "distance to alpha")):
        tally = Tally(1)
        CRL(alpha=0.0, alpha_centre=0.0, first_epoch=base).objective(seen(0, tally=tally), plain)
        taken = {name for name, steps in tally.of(0).items() if steps}
        assert taken == {f"classification: {first}", f"centres: {first}"}


def test_without_centres_and_normalisation_even_epochs_are_relaxed_cross_entropy():
    at = seen(1)
    defence = CRL(weight=0.0, t=0.0, alpha=0.7)
    expected = (plain(at).mean() - 0.7).abs()
    torch.testing.assert_close(defence.objective(at, plain).mean(), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("level", [0.0, 50.0])
def test_only_centres_of_classes_in_the_batch_get_a_gradient(epoch, level):
    at = seen(epoch, labels=torch.tensor([0, 2, 2, 0, 2, 2]))
    CRL(alpha_centre=level, t_centre=0.2, upper_centre=0.5).objective(at, plain).mean().backward()
    moved = at.extras["crl"].points.grad.abs().sum(dim=1) > 0
    assert moved.tolist() == [True, False, True, False]


def test_centres_have_an_optimiser_of_their_own_with_a_constant_rate():
    extra = CRL(centre_lr=0.3).extra(8, 3)
    assert extra.module.points.shape == (3, 8)
    assert extra.optimizer == Optimizer(name="sgd", lr=0.3, momentum=0.9, weight_decay=5e-4)


def sure(targets: torch.Tensor) -> torch.Tensor:
    """Long logits in the best direction."""
    return 1e6 * (targets - 1 / targets.shape[1])


@pytest.mark.parametrize(("classes", "cap"), FLOORS)
def test_the_reachable_floor_is_the_references_and_is_reached(classes, cap):
    floor = reachable_floor(1 / cap, classes)
    printed = FLOORS[classes, cap]
    assert f"{floor:.{len(printed) - 2}f}" == printed
    label = torch.eye(classes, dtype=torch.float64)[:1]
    logits = sure(label)
    assert float(cross_entropy(cap * logits / logits.norm(), label)) == pytest.approx(floor, rel=1e-9)


def test_the_floor_at_the_ends():
    assert reachable_floor(0.0, 10) == 0.0
    assert reachable_floor(0.5, 2, "binary") == pytest.approx(math.log(1 + math.exp(-2)))
    with pytest.raises(UsageError, match="classes"):
        reachable_floor(0.1, 1)


def test_below_the_floor_the_flattening_branch_is_never_taken():
    counts = {}
    for alpha in (0.9 * reachable_floor(0.5, 4), 1.1 * reachable_floor(0.5, 4)):
        tally = Tally(1)
        at = seen(0, tally=tally)
        at = replace(at, outputs=sure(at.targets))
        CRL(alpha=alpha, t=0.5).objective(at, plain)
        counts[alpha] = tally.of(0)["classification: flattening"]
    assert list(counts.values()) == [0.0, 1.0]


def test_ranges():
    for wrong in (
        {"alpha": -1}, {"upper": 1.5}, {"t": -0.1}, {"alpha_centre": -1}, {"upper_centre": -0.1}, {"t_centre": -1},
        {"weight": -1}, {"centre_lr": 0}, {"normalisation": "none"}, {"threshold": "unit"}, {"first_epoch": 2},
        {"normalisation": "logitnorm", "t": 0}, {"normalisation": "logitnorm", "t_centre": 0},
    ):  # fmt: skip
        with pytest.raises(UsageError, match=list(wrong)[-1]):
            CRL(**wrong)


def test_every_candidate_of_the_grid_is_a_value_of_its_field_and_the_defaults_are_among_them():
    grid = CRL.grid()
    assert len(grid) == 8
    for name, candidates in grid.items():
        assert getattr(CRL(), name) in candidates
        assert [getattr(CRL(**{name: value}), name) for value in candidates] == list(candidates)


def test_the_inner_objective_takes_the_place_of_cross_entropy_also_against_flattened_labels():
    asked = []

    def inner(at: Seen) -> torch.Tensor:
        asked.append(at)
        return plain(at)

    tally = Tally(1)
    CRL(alpha=50.0, t=0.5, upper=0.25).objective(seen(0, tally=tally), inner)
    assert all(float(at.outputs.detach().norm(dim=1).max()) < 2 for at in asked)
    assert [at.tally for at in asked] == [tally, None]
    assert (
        float(asked[1].targets.detach().max()) <= 0.75 + 1e-12
    )  # a confidence of 0 leaves a third to each other class
    smoothed = composed_objective(CRL(alpha=0.0, alpha_centre=0.0, weight=0.0, inner=LabelSmoothing()), cross_entropy)
    at = seen(0)
    expected = cross_entropy(normalised(at.outputs, 0.1), 0.9 * at.targets + 0.1 / 4)
    torch.testing.assert_close(smoothed(at), expected)


def test_soft_labels_of_two_classes_have_the_mean_of_their_centres_and_confidences():
    at = seen(0, rows=1)
    soft = torch.tensor([[0.3, 0.0, 0.7, 0.0]], dtype=torch.float64)
    found = at.extras["crl"](soft, 0.4, "saturating")
    points = normalised(at.extras["crl"].points, 0.4)
    torch.testing.assert_close(found[0], 0.3 * points[0] + 0.7 * points[2])


def test_a_pass_without_centres_is_refused():
    for missing in ({"features": None}, {"extras": {}}):
        with pytest.raises(UsageError, match="features and centres"):
            CRL().objective(replace(seen(), **missing), plain)


# In the training loop ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(2)
    x = rng.random((40, 1, 8, 8)).astype(np.float32)
    labels = np.arange(40) % 3
    x[np.arange(40), 0, labels] += 1
    return Population(ArrayRecords(x), "example", labels=labels)


MODELS = {"mlp": MLP(hidden=(6,)), "small-cnn": SmallCNN()}
WORK = [Assignment(np.arange(30), 3)]


def task(model="mlp", **changes):
    numbers = {"model": MODELS[model], "epochs": 4, "batch_size": 10, "optimizer": Optimizer(lr=0.05)}
    return Task(**(numbers | changes))


@pytest.mark.parametrize("model", MODELS)
def test_it_trains_from_end_to_end_and_answers_with_logits_as_they_are(images, model):
    recipe = Recipe(task(model), CRL(t=0.2, alpha=0.4))
    trained = recipe.fit(images, WORK, LoopOptions())[0]
    steps = 3 * 4
    for part in ("classification", "centres"):
        counts = {name: n for name, n in trained.tallies.items() if name.startswith(part)}
        assert sum(counts.values()) == pytest.approx(steps)
        assert counts[f"{part}: distance to alpha"] == steps / 2
    ordinary = Recipe(task(model), Undefended())
    assert trained.state.keys() == ordinary.fit(images, WORK, LoopOptions())[0].state.keys()
    x = images.tensor(np.arange(5))
    torch.testing.assert_close(recipe.predictor(trained, images)(x), recipe.network(trained, images)(x))


@pytest.mark.parametrize("head", ["multiclass", "binary"])
def test_the_loss_goes_down_to_its_level_and_no_further(images, head):
    """With two classes only where no gradient flows through the flattened labels, which are the answers themselves."""
    two = Population(images.records, "example", labels=np.arange(40) % 3 // 2)
    numbers = task(epochs=40, head=head, schedule="constant", optimizer=Optimizer(lr=0.1))
    losses = {}
    for defence in (CRL(alpha=0.4, weight=0.0, t=0.05, detach_target=True), Undefended()):
        recipe = Recipe(numbers, defence)
        trained = recipe.fit(two, WORK, LoopOptions())[0]
        logits = recipe.predictor(trained, two)(two.tensor(np.arange(30))).detach()
        labels = torch.eye(2)[torch.from_numpy(two.labels[:30])]
        losses[defence.name] = float(cross_entropy(normalised(logits, 0.05), labels).mean())
    assert losses["undefended"] < 0.2
    assert 0.3 < losses["crl"] < 0.55


class Stop(Exception):
    pass


@pytest.mark.parametrize("threshold", ["batch", "example"])
def test_a_training_that_was_interrupted_goes_on_as_it_would_have(images, tmp_path, threshold):
    recipe = Recipe(task("small-cnn"), CRL(threshold=threshold, t=0.2, alpha=0.9, weight=1.0))
    whole = recipe.fit(images, WORK, DOUBLE)[0]

    def stop(epoch):
        if epoch.epoch == 2:
            raise Stop

    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    with pytest.raises(Stop):
        recipe.fit(images, WORK, replace(options, on_epoch=stop))
    begun = []
    resumed = recipe.fit(images, WORK, replace(options, on_epoch=begun.append))[0]
    assert begun[0].epoch == 3
    assert all(torch.equal(resumed.state[name], value) for name, value in whole.state.items())
    assert resumed.tallies == whole.tallies


# Under a private update ----------------------------------------------------------------------------------------------

CLIP, EXPECTED = 0.1, 10


def private(threshold):
    plan = DPSGD(
        sample_rate=0.3, expected_batch_size=EXPECTED, steps=8, delta=1e-3, adjacency="ADD_OR_REMOVE_ONE",
        noise_multiplier=1e-9, max_grad_norm=CLIP, clipping="flat",
    )  # fmt: skip
    return CRL(threshold=threshold, weight=1.0, inner=plan)


def test_batch_thresholds_are_refused_under_a_private_update_with_the_reason(images):
    with pytest.raises(NotPrivateError, match=r"crl.*mean over the batch"):
        Recipe(task(), private("batch")).fit(images, WORK, LoopOptions())


def single_gradients(run, row, epoch):
    """Ordinary autograd for one record: gradients of the network and of the centres, in one list."""
    network, module = run.stack.module, run.extras["crl"].module
    with features_of(network) as taken:
        outputs = network(run.x[row : row + 1])
    at = Seen(outputs, run.targets[row : row + 1], taken.last(), {"crl": module}, epoch)
    return torch.autograd.grad(run.objective(at).sum(), [*network.parameters(), *module.parameters()])


@pytest.mark.parametrize("row", [0, 7])
def test_centres_are_clipped_together_with_the_network_as_private_parameters(images, row):
    defence = private("example")
    numbers = defence.inner.configure(task())
    plan = update_of(defence, images)
    run = prepare(numbers, defence, images, WORK, DOUBLE, plan=plan)
    training = PrivateTraining(run, plan, DOUBLE)
    training.session.backward(np.array([row]))
    parameters = [*run.stack.module.parameters(), *run.extras["crl"].module.parameters()]
    expected = single_gradients(run, row, 0)
    norm = math.sqrt(sum(float(part.square().sum()) for part in expected))
    assert norm > CLIP  # so that clipping does something
    for parameter, own in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, own * CLIP / norm / EXPECTED, rtol=1e-5, atol=1e-8)
    centres = parameters[-1].grad
    assert 0 < float(centres.norm()) <= CLIP / EXPECTED * (1 + 1e-6)


def test_centres_get_noise_and_move_in_a_private_training(images):
    defence = replace(private("example"), inner=replace(private("example").inner, noise_multiplier=2.0))
    plan = update_of(defence, images)
    run = prepare(defence.inner.configure(task()), defence, images, WORK, LoopOptions(), plan=plan)
    training = PrivateTraining(run, plan, LoopOptions())
    before = run.extras["crl"].module.points.detach().clone()
    training.session.backward(np.array([0]))
    noise = run.extras["crl"].module.points.grad[1:]  # of classes that the record does not have
    assert 0.5 < float(noise.std()) / (2.0 * CLIP / EXPECTED) < 2
    trained = training.finish()
    assert not torch.equal(run.extras["crl"].module.points, before)
    assert not any("points" in name for name in trained.state)


def test_a_private_training_that_was_interrupted_goes_on_with_its_centres(images, tmp_path):
    """Weights alone would not do: centres and their momentum must be as they were."""
    recipe = Recipe(task(), private("example"))
    whole = recipe.fit(images, WORK, DOUBLE)[0]

    def stop(epoch):
        if epoch.epoch == 2:  # what was kept is the end of the first
            raise Stop

    options = replace(DOUBLE, checkpoint=Checkpoint(tmp_path / "running.safetensors", "key", every=0))
    with pytest.raises(Stop):
        recipe.fit(images, WORK, replace(options, on_epoch=stop))
    begun = []
    resumed = recipe.fit(images, WORK, replace(options, on_epoch=begun.append))[0]
    assert begun[0].epoch == 2
    assert all(torch.equal(resumed.state[name], value) for name, value in whole.state.items())
