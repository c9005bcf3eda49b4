import math

import pytest
import torch

from sfumato.defences.hamp import HAMP, noise_records, reordered, soft_labels, top_mass
from sfumato.defences.undefended import Undefended
from sfumato.errors import UsageError
from sfumato.training.composition import guarded
from sfumato.training.defence import Behind
from sfumato.training.draws import Draws
from sfumato.training.losses import cross_entropy

GOLDEN = [(10, 0.95, 0.270), (10, 0.99, 0.170), (100, 0.5, 0.641), (100, 0.6, 0.549), (100, 0.8, 0.337)]


@pytest.mark.parametrize(("classes", "gamma", "expected"), GOLDEN)
def test_golden_masses(classes, gamma, expected):
    assert top_mass(gamma, classes) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("gamma", "classes", "expected"), [(0.95, 10, 0.26), (0.5, 100, 0.64), (0.8, 100, 0.33)])
def test_official_steps_are_hundredths(gamma, classes, expected):
    assert top_mass(gamma, classes, steps=True) == expected


def test_the_setting_of_the_strong_evaluation():
    assert top_mass(0.99968, 10) == pytest.approx(0.112, abs=5e-4)
    assert top_mass(0.99968, 10, steps=True) == 0.11


def test_the_ends_of_the_range():
    assert top_mass(0.0, 7) == pytest.approx(1.0)
    assert top_mass(0.0, 7, steps=True) == 1.0
    assert top_mass(1.0, 4) == pytest.approx(0.25, abs=1e-6)
    assert top_mass(1.0, 3, steps=True) == pytest.approx(1 / 3)  # no multiple of 0.01 is even


def test_soft_labels_keep_their_sum_and_mix_mixed_labels():
    soft = soft_labels(torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]), 0.8)
    assert torch.allclose(soft, torch.tensor([[0.8, 0.1, 0.1], [0.45, 0.45, 0.1]]))


def test_an_answer_that_equals_the_soft_label_has_no_divergence():
    soft = soft_labels(torch.eye(4, dtype=torch.float64), top_mass(0.9, 4))
    for reduction in ("official", "batch"):
        losses = HAMP(gamma=0.9, beta=0.0, reduction=reduction).loss(soft.log(), torch.eye(4).double(), cross_entropy)
        assert torch.allclose(losses, torch.zeros(4, dtype=torch.float64), atol=1e-12)


def test_the_official_reduction_divides_the_divergence_but_not_the_entropy():
    logits, targets = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double(), torch.eye(5).double()[:3]
    batch, official = (HAMP(reduction=r, beta=0.0).loss(logits, targets, cross_entropy) for r in ("batch", "official"))
    assert torch.allclose(official, batch / 5)
    reward = HAMP(beta=0.3).loss(logits, targets, cross_entropy) - official
    p = logits.softmax(1)
    assert torch.allclose(reward, 0.3 * (p * p.log()).sum(1))


def predict(x):
    return x.reshape(len(x), -1)[:, :5] * 3


@pytest.mark.parametrize("shape", [(8,), (1, 4, 4)])
def test_the_guard_answers_with_the_scores_of_noise_in_the_order_of_the_record(shape):
    defence, draws = HAMP(), Draws((4,), ("guard",))
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    answers = defence.guard(logits, draws, Behind(predict, shape))
    assert torch.equal(answers.argsort(1), logits.argsort(1))
    noise = predict(noise_records("auto", 40, shape, draws)).log_softmax(1)
    assert torch.equal(answers.sort(1).values, noise.sort(1).values)
    assert torch.allclose(answers.exp().sum(1), torch.ones(40))
    again = defence.guard(logits, draws, Behind(predict, shape))
    assert torch.equal(answers, again)
    assert not torch.equal(answers, defence.guard(logits, draws.at("other"), Behind(predict, shape)))


def test_equal_scores_do_not_cost_the_label():
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 1.0]])
    answers = HAMP().guard(logits, Draws((1,)), Behind(lambda x: torch.zeros(len(x), 3), (2,)))
    assert answers.argmax(1).tolist() == [2, 0]
    assert answers[0].argsort().tolist() == [0, 1, 2]
    assert torch.allclose(answers, torch.full((2, 3), -math.log(3)), atol=1e-6)
    assert reordered(torch.zeros(1, 3), torch.tensor([[3.0, 1.0, 2.0]])).argsort().tolist() == [[1, 2, 0]]


def test_the_laws_of_noise():
    draws, tall = Draws((1,)), (2000,)
    uniform, normal, binary = (noise_records(kind, 3, tall, draws) for kind in ("uniform", "normal", "binary"))
    assert 0 <= float(uniform.min()) < 0.01
    assert 0.99 < float(uniform.max()) <= 1
    assert float(normal.std()) == pytest.approx(1, abs=0.05)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    assert float(binary.mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(noise_records("auto", 3, tall, draws), normal)
    assert noise_records("auto", 2, (1, 3, 3), draws).min() >= 0
    assert {part.dtype for part in (uniform, normal, binary)} == {torch.float32}


def test_without_its_guard_it_answers_like_any_other():
    quiet = HAMP(modify_outputs=False)
    assert guarded(quiet) == []
    assert guarded(Undefended(inner=HAMP())) == [HAMP()]
    logits = torch.randn(2, 3)
    assert torch.equal(quiet.guard(logits, Draws((1,)), Behind(predict, (8,))), logits)


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": 1.1}, {"beta": -1.0}, {"reduction": "sum"}, {"noise_inputs": "pink"}],
    ids=lambda w: next(iter(w)),
)
def test_ranges(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        HAMP(**wrong)
