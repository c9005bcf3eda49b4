"""Gradients of each unit through look-ups, bags and tied tables, against a loop over single examples in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import NotPrivateError
from sfumato.private.rules.looked_up import LookedUp, Tied

WORDS, WIDTH, ROWS, TOKENS = 7, 4, 6, 5
f64 = torch.float64
SCENARIOS = ("plain", "one example", "rows per unit", "not finite", "masked")


class Reader(nn.Module):
    """Looks up, scales each row by a number of its own, and ends in a head.

    Args:
        table: an `Embedding` or `EmbeddingBag`.
        look: (table, index) to [rows, ..., d].
    """

    def __init__(self, table, look=None):
        super().__init__()
        self.table, self.look = table, look or (lambda table, index: table(index))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, batch):
        index, scale = batch
        found = torch.tanh(self.look(self.table, index))
        found = found.mean(1) if found.dim() == 3 else found
        return self.head(found * scale.unsqueeze(1))


def drawn(seed=0, tokens=TOKENS):
    torch.manual_seed(seed)
    index = torch.randint(0, WORDS, (ROWS, tokens) if tokens else (ROWS,))
    return (index, torch.rand(ROWS, dtype=f64) + 0.5), torch.randint(0, 3, (ROWS,))


def check(private_comparison, net, scenario="plain", *, batch=None, **options):
    (index, scale), y = batch or drawn()
    if scenario == "one example":
        options["learn_on"] = ((index, scale), y)
        index, scale, y = index[:1], scale[:1], y[:1]
    if scenario == "rows per unit":
        options["units"] = ROWS // 3
    if scenario == "masked":
        options["weights"] = torch.tensor([1.0, 0.0, 1.0] * (ROWS // 3), dtype=f64)
    if scenario == "not finite":
        scale[2] = float("inf")
    compared = private_comparison.compare(net.to(f64), (index, scale), y, **options)
    compared.check()
    return compared


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("tokens", [0, TOKENS])
def test_embedding(private_comparison, tokens, scenario):
    compared = check(private_comparison, Reader(nn.Embedding(WORDS, WIDTH)), scenario, batch=drawn(tokens=tokens))
    assert compared.ways["table.weight"] == "gram"


LOOKS = {
    "padding_idx of the function": lambda t, x: F.embedding(x, t.weight, padding_idx=-2),
    "torch.embedding": lambda t, x: torch.embedding(t.weight, x, padding_idx=3),
    "torch.embedding without padding": lambda t, x: torch.embedding(t.weight, x),
    "time first": lambda t, x: t(x.T).transpose(0, 1),
    "used twice": lambda t, x: t(x) + torch.sin(t(x.flip(1))),
    "of sums": lambda t, x: t((x + x.flip(1)) % WORDS),
    "int32": lambda t, x: t(x.int()),
    "three axes": lambda t, x: t(x.unsqueeze(2)).squeeze(2),
    "one position for all": lambda t, x: t(torch.arange(TOKENS)) * x.unsqueeze(2),
    "positions expanded": lambda t, x: t(torch.arange(TOKENS).expand(len(x), -1)) * x.unsqueeze(2),
    "words and positions": lambda t, x: t(x) + t(torch.arange(TOKENS)),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("scenario", ["plain", "rows per unit"])
def test_ways_to_look_up(private_comparison, look, scenario):
    check(private_comparison, Reader(nn.Embedding(WORDS, WIDTH), LOOKS[look]), scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_padding_gets_no_gradient(private_comparison, scenario):
    """Opacus: the row of "padding_idx" receives gradient."""
    compared = check(private_comparison, Reader(nn.Embedding(WORDS, WIDTH, padding_idx=2)), scenario)
    assert not compared.sums["table.weight"][2].any()


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
def test_options_that_mix_examples_are_refused_by_name(private_comparison, kind, options):
    with pytest.raises(NotPrivateError, match=next(iter(options))):
        check(private_comparison, Reader(kind(WORDS, WIDTH, **options)))


def test_sparse_gradients_are_the_same_numbers(private_comparison):
    check(private_comparison, Reader(nn.Embedding(WORDS, WIDTH, sparse=True)))


BAGS = [(mode, padding) for mode in ("sum", "mean", "max") for padding in (None, 2)]


def offsets_of_equal_bags(table, index):
    return table(index.reshape(-1), torch.arange(len(index)) * index.shape[1])


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("mode", "padding"), BAGS)
def test_bags(private_comparison, mode, padding, scenario):
    (index, scale), y = drawn()
    index[0] = 2  # a bag of padding alone, or of one word repeated
    index[1, 1:], index[1, 0] = 2, 3  # a single word beside padding
    table = nn.EmbeddingBag(WORDS, WIDTH, mode=mode, padding_idx=padding)
    check(private_comparison, Reader(table), scenario, batch=((index, scale), y))


@pytest.mark.parametrize(("mode", "padding"), BAGS)
def test_an_index_repeated_in_a_bag_counts_each_time(private_comparison, mode, padding):
    """Opacus: "EmbeddingBag repeated index" counts once, mode "max" has no norm; in ghost mode clipping fails."""
    (index, scale), y = drawn()
    index[:, 1:] = index[:, :1]
    compared = check(private_comparison, Reader(nn.EmbeddingBag(WORDS, WIDTH, mode=mode)), batch=((index, scale), y))
    assert (compared.squared > 0).all()


@pytest.mark.parametrize(("mode", "padding"), BAGS)
def test_bags_by_offsets_and_used_twice(private_comparison, mode, padding):
    table = nn.EmbeddingBag(WORDS, WIDTH, mode=mode, padding_idx=padding)
    check(private_comparison, Reader(table, offsets_of_equal_bags))
    check(private_comparison, Reader(table, lambda t, x: t(x) + torch.sin(t(x.flip(1)))))


@pytest.mark.parametrize("by_offsets", [False, True])
def test_weights_per_position(private_comparison, by_offsets):
    """Opacus: per_sample_weights are left out of the gradient and of its norm."""
    mix = torch.linspace(-1, 2, TOKENS, dtype=f64)

    def look(table, index):
        weights = mix * (index + 1).to(f64)
        if not by_offsets:
            return table(index, per_sample_weights=weights)
        offsets = torch.arange(len(index)) * TOKENS
        return table(index.reshape(-1), offsets, per_sample_weights=weights.reshape(-1))

    check(private_comparison, Reader(nn.EmbeddingBag(WORDS, WIDTH, mode="sum"), look))


def test_weights_per_position_that_are_learned_reach_the_layer_before(private_comparison):
    class Attended(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.score = nn.EmbeddingBag(WORDS, WIDTH, mode="sum"), nn.Linear(1, 1)
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, batch):
            weights = self.score(batch[0].to(f64).unsqueeze(2)).squeeze(2)
            return self.head(self.table(batch[0], per_sample_weights=weights))

    check(private_comparison, Attended())


def test_bags_of_unequal_length_are_refused_by_name(private_comparison):
    def look(table, index):
        return table(index.reshape(-1), torch.cat([torch.zeros(1).long(), torch.arange(1, len(index)) * TOKENS + 1]))

    with pytest.raises(NotPrivateError, match="equal length"):
        check(private_comparison, Reader(nn.EmbeddingBag(WORDS, WIDTH, mode="sum"), look))


class TiedNet(nn.Module):
    """A language model whose head is its table."""

    def __init__(self, padding=None, run=None):
        super().__init__()
        self.table, self.inner = nn.Embedding(WORDS, WIDTH, padding_idx=padding), nn.Linear(WIDTH, WIDTH)
        self.run = run or (lambda net, h, x: F.linear(h, net.table.weight))

    def forward(self, x):
        return self.run(self, torch.tanh(self.inner(self.table(x))), x)


def next_words(output, y):
    return F.cross_entropy(output.transpose(1, 2), y, reduction="none").sum(1)


RUNS = {
    "linear": None,
    "two heads": lambda net, h, x: F.linear(h, net.table.weight) + F.linear(torch.sin(h), net.table.weight),
    "two look-ups": lambda net, h, x: F.linear(h + net.table(x.flip(1)), net.table.weight),
    "transposed": lambda net, h, x: h @ net.table.weight.T,
    "einsum": lambda net, h, x: torch.einsum("btd,vd->btv", h, net.table.weight),
}


@pytest.mark.parametrize("way", ["gram", "product"])
@pytest.mark.parametrize("units", [ROWS, ROWS // 3])
@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("run", RUNS)
def test_tied_table_and_head(private_comparison, run, padding, units, way):
    """Opacus and private-transformers: the tied head misses from the ghost norm, or is refused."""
    torch.manual_seed(0)
    net = TiedNet(padding, RUNS[run]).to(f64)
    x, y = torch.randint(0, WORDS, (ROWS, TOKENS)), torch.randint(0, WORDS, (ROWS, TOKENS))
    compared = private_comparison.compare(net, x, y, way=way, units=units, loss=next_words)
    compared.check()
    if run in ("linear", "two heads", "two look-ups"):
        assert compared.ways["table.weight"] == way


def test_tied_head_with_an_example_that_is_not_finite(private_comparison):
    net = TiedNet().to(f64)
    x, y = torch.randint(0, WORDS, (ROWS, TOKENS)), torch.randint(0, WORDS, (ROWS, TOKENS))
    weights = torch.ones(ROWS, dtype=f64)

    def loss(output, labels):
        return next_words(output, labels) * torch.where(labels[:, 0] == y[1, 0], float("inf"), 1.0)

    for way in ("gram", "product"):
        private_comparison.compare(net, x, y, way=way, weights=weights, loss=loss).check()


@pytest.mark.parametrize("frozen", ["table", "inner"])
def test_tied_with_frozen_parts(private_comparison, frozen):
    net = TiedNet().to(f64)
    getattr(net, frozen).requires_grad_(False)
    x, y = torch.randint(0, WORDS, (ROWS, TOKENS)), torch.randint(0, WORDS, (ROWS, TOKENS))
    private_comparison.compare(net, x, y, way="gram", loss=next_words).check()


@pytest.mark.parametrize("tied", [False, True])
def test_no_gradient_of_a_unit_is_written_down(private_comparison, monkeypatch, tied):
    """FastDP: the clipped sum makes a one-hot tensor of rows * positions * words."""

    def refuse(*_, **__):
        raise AssertionError("instantiated")

    monkeypatch.setattr(LookedUp, "instantiate", refuse)
    monkeypatch.setattr(Tied, "instantiate", refuse)
    if not tied:
        check(private_comparison, Reader(nn.Embedding(WORDS, WIDTH)))
        return
    x, y = torch.randint(0, WORDS, (ROWS, TOKENS)), torch.randint(0, WORDS, (ROWS, TOKENS))
    private_comparison.compare(TiedNet().to(f64), x, y, way="gram", loss=next_words).check()
