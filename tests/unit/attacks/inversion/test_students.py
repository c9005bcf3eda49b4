import numpy as np
import pytest
import torch

from sfumato.attacks.inversion.soft_labels import soft_labels
from sfumato.attacks.inversion.students import (
    StudentsFit,
    distillation_loss,
    features_prior,
    load_students,
    student_families,
)
from sfumato.errors import NotApplicable


@pytest.fixture(scope="module")
def fitted(digits, evidence):
    given = evidence(digits, target=4)
    return given, StudentsFit(public=given.public_records, oracle=given.oracle, epochs=2, lr=0.1).run()


def test_distillation_is_the_divergence_from_the_target():
    rng = np.random.default_rng(0)
    logits, p = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), size=5)
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = distillation_loss(torch.from_numpy(logits), torch.from_numpy(p))
    assert found.item() == pytest.approx((p * np.log(p / q)).sum(1).mean())


def test_students_agree_with_the_target_more_than_fresh_networks(fitted):
    given, arrays = fitted
    x = given.public_records.tensor(np.arange(600))
    said = soft_labels(given.oracle, x)
    students = load_students(arrays, given)
    assert len(students) == 3
    for student in students:
        q = student(x).softmax(dim=1)
        agreed = (q.argmax(dim=1) == said.argmax(dim=1)).float().mean()
        assert agreed > 0.8
        uniform = distillation_loss(torch.zeros_like(said), said)
        assert distillation_loss(student(x), said) < 0.5 * uniform


def test_students_differ_in_kind_and_pass_gradients(fitted):
    given, arrays = fitted
    assert len({type(family) for family in student_families((1, 8, 8))}) == 3
    assert len(set(student_families((5,)))) == 3
    for student in load_students(arrays, given):
        x = torch.rand(2, 1, 8, 8, requires_grad=True)
        student(x).sum().backward()
        assert x.grad.abs().sum() > 0
        assert not student.training
        assert not any(parameter.requires_grad for parameter in student.parameters())


def test_the_key_names_the_target_and_the_public_records(digits, evidence):
    keys = set()
    for given in (evidence(digits), evidence(digits, target=1), evidence(digits[:50])):
        keys.add(StudentsFit(public=given.public_records, oracle=given.oracle).key)
    assert len(keys) == 3
    given = evidence(digits)
    assert StudentsFit(public=given.public_records, oracle=given.oracle, tell=print).key in keys


def test_the_result_is_the_same_again_and_the_queries_are_named(fitted, digits, evidence):
    given, arrays = fitted
    again = StudentsFit(public=given.public_records, oracle=given.oracle, epochs=2, lr=0.1).run()
    assert arrays["queries"].tolist() == [600]
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_rows_of_a_table_are_scaled(table, evidence):
    x, box = table
    given = evidence(x, box=box)
    arrays = StudentsFit(public=given.public_records, oracle=given.oracle, epochs=1).run()
    for student in load_students(arrays, given):
        np.testing.assert_allclose(student[0](torch.from_numpy(x)).std(0, correction=0), np.ones(5), rtol=1e-3)


def test_features_of_public_records_have_their_mean_and_deviation(digits, evidence):
    given = evidence(digits)
    found = features_prior(given)
    network = given.oracle.network
    naive = network[2](network[1](network[0](torch.from_numpy(digits)))).detach()
    torch.testing.assert_close(found.mean, naive.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.std, naive.std(0, correction=0), atol=1e-5, rtol=1e-4)
    with pytest.raises(NotApplicable, match="weights"):
        features_prior(evidence(digits, access="scores"))
