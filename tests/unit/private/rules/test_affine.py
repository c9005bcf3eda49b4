import torch

from sfumato.private.rules.affine import SCALE, SHIFT, AffineTerm, Normalised


class Counted(Normalised):
    """Notes how often it computed."""

    passes = 0

    def found(self, grad):
        self.passes += 1
        return {SCALE: (grad * self.seen).sum(1), SHIFT: grad.sum(1)}


def test_scale_and_shift_of_one_layer_share_one_pass():
    seen, grad = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    normalised = Counted(seen)
    scale, shift = (AffineTerm(normalised, name, torch.Size([2])) for name in (SCALE, SHIFT))
    torch.testing.assert_close(scale.instantiate(grad, 2, "dense"), (grad * seen).sum(1).view(2, 2, 2).sum(1))
    torch.testing.assert_close(shift.instantiate(grad, 4, "dense"), grad.sum(1))
    assert normalised.passes == 1


def test_another_gradient_is_never_answered_with_an_old_one():
    normalised = Counted(torch.ones(4, 3, 2))
    scale, shift = (AffineTerm(normalised, name, torch.Size([2])) for name in (SCALE, SHIFT))
    scale.instantiate(torch.ones(4, 3, 2), 4, "dense")
    assert (shift.instantiate(torch.full((4, 3, 2), 2.0), 4, "dense") == 6).all()
    overwritten = torch.ones(4, 3, 2)
    scale.instantiate(overwritten, 4, "dense")
    overwritten.mul_(5)
    assert (shift.instantiate(overwritten, 4, "dense") == 15).all()


def test_the_result_is_written_to_the_buffer_that_is_given():
    out = torch.empty(2, 2)
    term = AffineTerm(Counted(torch.ones(4, 3, 2)), SHIFT, torch.Size([2]))
    assert term.instantiate(torch.ones(4, 3, 2), 2, "dense", out) is out
    assert (out == 6).all()
