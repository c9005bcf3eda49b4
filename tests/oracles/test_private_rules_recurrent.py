"""LSTM, GRU and plain recurrent layers, unrolled, against a loop of single examples with torch's fused kernels."""

import pytest
import torch
from torch import nn

from sfumato.errors import NotCaptured
from sfumato.private.loop import Loop

f64 = torch.float64
ROWS = STEPS = 4
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
OPTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "two layers, both ways": {"num_layers": 2, "bidirectional": True},
    "two layers, batch first, no bias": {"num_layers": 2, "batch_first": True, "bias": False},
}
CASES = [(kind, option) for kind in KINDS for option in OPTIONS] + [
    ("lstm", "projected"), ("lstm", "projected, both ways"), ("rnn", "relu"),
]  # fmt: skip
OPTIONS |= {
    "projected": {"proj_size": 2, "bias": False},
    "projected, both ways": {"proj_size": 2, "num_layers": 2, "bidirectional": True},
    "relu": {"nonlinearity": "relu"},
}


class Reader(nn.Module):
    """Reads all outputs and both kinds of final state."""

    def __init__(self, kind, options, start=False):
        super().__init__()
        torch.manual_seed(3)
        self.layer = KINDS[kind](3, 4, **options, dtype=f64)
        outputs = self.layer.proj_size or 4
        directions = 1 + self.layer.bidirectional
        self.start = (
            nn.Parameter(torch.randn(self.layer.num_layers * directions, 1, outputs, dtype=f64)) if start else None
        )
        self.head = nn.Linear(outputs * (directions + 1) + 4 * (kind == "lstm"), 3, dtype=f64)

    def forward(self, x):
        x = x if self.layer.batch_first else x.transpose(0, 1)
        start = None
        if self.start is not None:
            start = self.start.expand(-1, x.shape[0 if self.layer.batch_first else 1], -1)
            start = (start, torch.zeros_like(start)) if isinstance(self.layer, nn.LSTM) else start
        output, last = self.layer(x, start)
        parts = [output.cumsum(0 if not self.layer.batch_first else 1).sum(1 if self.layer.batch_first else 0)]
        parts += [state[-1] for state in (last if isinstance(last, tuple) else (last,))]
        return self.head(torch.cat(parts, dim=-1))


def batch_of(rows=ROWS):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, STEPS, 3, generator=generator, dtype=f64), torch.arange(rows) % 3


@pytest.mark.parametrize(("kind", "option"), CASES)
def test_a_batch_equals_its_examples_one_by_one(kind, option, private_comparison):
    found = private_comparison.compare(Reader(kind, OPTIONS[option]), *batch_of())
    found.check()
    assert all(bool(value.any()) for value in found.sums.values())


@pytest.mark.slow
@pytest.mark.parametrize("way", ["gram", "product", "each"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_a_norm(kind, way, private_comparison):
    private_comparison.compare(Reader(kind, OPTIONS["two layers, both ways"]), *batch_of(), way=way).check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_first_state(kind, private_comparison):
    found = private_comparison.compare(Reader(kind, {"num_layers": 2}, start=True), *batch_of())
    found.check()
    assert bool(found.sums["start"].any())


@pytest.mark.parametrize("kind", KINDS)
def test_units_masks_and_bad_rows(kind, private_comparison):
    net, (x, labels) = Reader(kind, {}), batch_of(6)
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.5, 0.5], dtype=f64)
    private_comparison.compare(net, x, labels, units=3, weights=weights).check()
    private_comparison.compare(net, *batch_of(1), learn_on=(x, labels)).check()
    x[4] = float("nan")
    private_comparison.compare(net, x, labels, learn_on=batch_of(6)).check()


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_frozen_parts(kind, frozen, private_comparison):
    net = Reader(kind, {})
    net.layer.get_parameter(frozen).requires_grad_(False)
    private_comparison.compare(net, *batch_of()).check()


class Solver(nn.Module):
    """A cell that is applied ten times."""

    def __init__(self, cell):
        super().__init__()
        torch.manual_seed(3)
        self.cell, self.head = cell(3, 4, dtype=f64), nn.Linear(4, 3, dtype=f64)

    def forward(self, x):
        state = None
        for time in range(10):
            state = self.cell(x[:, time % STEPS], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_applied_ten_times(cell, private_comparison):
    private_comparison.compare(Solver(cell), *batch_of()).check()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_draws_what_torch_draws(kind, private_comparison):
    """With one seed, the gradients of the batch's own losses by ordinary autograd through torch's fused kernel."""
    net, (x, labels) = Reader(kind, {"num_layers": 3, "dropout": 0.5}), batch_of()
    engine = private_comparison.engine_for(net, x, labels)
    torch.manual_seed(1)
    squared, _, _ = engine.gradients(lambda: private_comparison.loss_of(net(x), labels), torch.ones(ROWS), ROWS)
    torch.manual_seed(1)
    losses = private_comparison.loss_of(net(x), labels)
    for row in range(ROWS):
        gradients = torch.autograd.grad(losses[row], list(net.parameters()), retain_graph=True)
        expected = torch.stack([gradient.square().sum() for gradient in gradients])
        torch.testing.assert_close(squared[row], expected, rtol=1e-10, atol=1e-12)


class Packed(nn.Module):
    """Reads sequences of several lengths by packing them."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.GRU(3, 4, batch_first=True, dtype=f64), nn.Linear(4, 3, dtype=f64)

    def forward(self, x):
        lengths = (x[..., 0] > 10).sum(1).cpu()  # as many as have a mark
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.layer(packed)[1][0])


def test_packed_sequences_are_refused_and_exact_in_the_loop(private_comparison):
    net, (x, labels) = Packed(), batch_of()
    for row, length in enumerate((2, 4, 1, 3)):
        x[row, :length, 0] += 100
    with pytest.raises(NotCaptured, match="packed"):
        private_comparison.compare(net, x, labels)
    sums = {}
    clipped = Loop(net).add(
        lambda rows: private_comparison.loss_of(net(rows[0]), rows[1]),
        (x, labels), torch.ones(ROWS), ROWS, private_comparison.clip, sums,
    )  # fmt: skip
    squared, expected = private_comparison.looped(net, x, labels, ROWS, torch.ones(ROWS, dtype=f64))
    torch.testing.assert_close(clipped.squared.sum(1), squared, rtol=1e-10, atol=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(sums[name], value, rtol=1e-10, atol=1e-12)
