import torch

from sfumato.attacks.inversion.generators.boxed import LEAK, into_box
from sfumato.targets.boundary import Box

BOX = Box(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 2.0]), torch.ones(2))


def test_values_move_to_the_nearest_in_the_box():
    x = torch.tensor([[0.5, 0.5], [-3.0, 5.0], [1.5, -2.0]])
    assert into_box(x, BOX).tolist() == [[0.5, 0.5], [0.0, 2.0], [1.0, -1.0]]


def test_the_gradient_leaks_where_a_value_was_moved():
    x = torch.tensor([[0.5, 5.0], [0.0, 2.0]], requires_grad=True)
    (into_box(x, BOX) * torch.tensor([[3.0, 7.0], [1.0, 1.0]])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[3.0, 7.0 * LEAK], [1.0, 1.0]]))


def test_it_can_be_differentiated_twice():
    x = torch.tensor([[0.5, 3.0]], requires_grad=True)
    (first,) = torch.autograd.grad(into_box(x, BOX).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, torch.tensor([[2.0, 2 * LEAK**2]]))
