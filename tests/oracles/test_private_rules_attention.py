"""Attention and transformer layers against a loop of single examples; as many tokens as rows, so sizes tell nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

f64 = torch.float64
ROWS = TOKENS = 4
WIDTH = 6


class Attends(nn.Module):
    """Multi-head attention of x to itself or to another sequence."""

    def __init__(self, *, cross=False, masked=False, need_weights=False, **options):
        super().__init__()
        torch.manual_seed(2)
        self.cross, self.masked, self.need_weights = cross, masked, need_weights
        self.attention = nn.MultiheadAttention(WIDTH, 2, dtype=f64, **options)
        for name, parameter in self.attention.named_parameters():
            if "bias" in name:
                nn.init.normal_(parameter)

    def forward(self, batch):
        x, memory = batch
        first = self.attention.batch_first
        mask = x[..., 0] > 1.0 if self.masked else None
        queries = x if first else x.transpose(0, 1)
        keys = (memory if self.cross else x)[..., : self.attention.kdim or WIDTH]
        keys = keys if first else keys.transpose(0, 1)
        found, weights = self.attention(
            queries, keys, keys if self.cross else queries, key_padding_mask=mask, need_weights=self.need_weights
        )
        found = found.tanh().sum(1 if first else 0)
        return found if weights is None else found + weights.square().sum((1, 2)).unsqueeze(1)


def batch_of(rows=ROWS):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, TOKENS, WIDTH, generator=generator, dtype=f64)
    return (x, torch.randn(rows, TOKENS, WIDTH, generator=generator, dtype=f64)), torch.arange(rows) % 3


OPTIONS = {
    "self": {},
    "self, batch first": {"batch_first": True},
    "no bias": {"bias": False, "batch_first": True},
    "weights asked for": {"need_weights": True},
    "bias_k and bias_v": {"add_bias_kv": True},
    "bias_k and bias_v, batch first": {"add_bias_kv": True, "batch_first": True},
    "zero attention": {"add_zero_attn": True, "batch_first": True},
    "masked": {"masked": True},
    "masked, all extras": {"masked": True, "add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "cross": {"cross": True},
    "cross, batch first": {"cross": True, "batch_first": True, "need_weights": True},
    "cross, other widths": {"cross": True, "kdim": 3, "vdim": 3, "batch_first": True},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_multi_head_attention(option, private_comparison):
    found = private_comparison.compare(Attends(**OPTIONS[option]), *batch_of())
    found.check()
    assert set(found.ways) != set()


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_units_masks_single_and_bad_rows(option, private_comparison):
    net, (batch, labels) = Attends(**OPTIONS[option]), batch_of(6)
    weights = torch.tensor([0.5, 0.5, 1.0, 0.0, 0.5, 0.5], dtype=f64)
    private_comparison.compare(net, batch, labels, units=3, weights=weights).check()
    private_comparison.compare(net, *batch_of(1), learn_on=(batch, labels)).check()
    bad = (batch[0].clone(), batch[1])
    bad[0][3] = float("nan")
    private_comparison.compare(net, bad, labels, learn_on=(batch, labels)).check()


@pytest.mark.parametrize("frozen", ["in_proj_weight", "in_proj_bias", "out_proj.weight", "bias_k"])
def test_frozen_parts(frozen, private_comparison):
    net = Attends(add_bias_kv=True)
    net.attention.get_parameter(frozen).requires_grad_(False)
    private_comparison.compare(net, *batch_of()).check()


class Transformer(nn.Module):
    """Encoder and decoder layers with a class token, learned queries, positions and a learned temperature."""

    def __init__(self, *, batch_first, norm_first, **options):
        super().__init__()
        torch.manual_seed(2)
        shared = {"batch_first": batch_first, "norm_first": norm_first, "dtype": f64, "dropout": 0.0, **options}
        self.first = batch_first
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 5, **shared)
        self.decoder = nn.TransformerDecoderLayer(WIDTH, 2, 5, **shared)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH, dtype=f64))
        self.queries = nn.Parameter(torch.randn(3, WIDTH, dtype=f64))
        self.positions = nn.Parameter(torch.randn(TOKENS + 1, WIDTH, dtype=f64))
        self.temperature = nn.Parameter(torch.tensor(0.7, dtype=f64))

    def forward(self, batch):
        x = torch.cat([self.token.expand(len(batch[0]), -1, -1), batch[0]], dim=1) + self.positions
        queries = self.queries.unsqueeze(0).expand(len(x), -1, -1)
        if not self.first:
            x, queries = x.transpose(0, 1), queries.transpose(0, 1)
        memory = self.encoder(x)
        found = self.decoder(queries, memory)
        found = found if self.first else found.transpose(0, 1)
        return found.tanh().flatten(1) / self.temperature


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_layers_in_training(batch_first, norm_first, private_comparison):
    net = Transformer(batch_first=batch_first, norm_first=norm_first).train()
    found = private_comparison.compare(net, *batch_of())
    found.check()
    assert all(bool(value.any()) for value in found.sums.values())


@pytest.mark.slow
def test_a_whole_transformer(private_comparison):
    torch.manual_seed(2)
    net = nn.Transformer(WIDTH, 2, 2, 2, 5, dropout=0.0, batch_first=True, dtype=f64)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, batch):
            return self.net(*batch).tanh().sum(1)

    private_comparison.compare(Both(), *batch_of()).check()


class Scaled(nn.Module):
    """`scaled_dot_product_attention` with parameters next to data."""

    def __init__(self, run, shape):
        super().__init__()
        torch.manual_seed(2)
        self.p, self.run = nn.Parameter(torch.randn(shape, dtype=f64)), run

    def forward(self, batch):
        return self.run(self.p, *batch).tanh().sum(1)


SCALED = {
    "latent queries": ((3, WIDTH), lambda p, x, y: F.scaled_dot_product_attention(p.expand(len(x), -1, -1), x, y)),
    "shared keys": ((3, WIDTH), lambda p, x, y: F.scaled_dot_product_attention(x, p.expand(len(x), -1, -1), y[:, :3])),
    "learned mask": ((TOKENS, TOKENS), lambda p, x, y: F.scaled_dot_product_attention(x, y, y, attn_mask=p)),
    "unexpanded queries": ((1, 3, WIDTH), lambda p, x, y: F.scaled_dot_product_attention(p * 1.0, x, y)),
}


@pytest.mark.parametrize("case", SCALED)
def test_scaled_dot_product_attention(case, private_comparison):
    shape, run = SCALED[case]
    private_comparison.compare(Scaled(run, shape), *batch_of()).check()


def test_dropout_in_attention_draws_what_torch_draws(private_comparison):
    """Same seed, and the gradients of each of the batch's own losses by ordinary autograd."""
    net = Transformer(batch_first=True, norm_first=True)
    net.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 5, 0.3, batch_first=True, dtype=f64)
    net.train()
    batch, labels = batch_of()
    engine = private_comparison.engine_for(net, batch, labels)
    torch.manual_seed(1)
    squared, _, _ = engine.gradients(lambda: private_comparison.loss_of(net(batch), labels), torch.ones(ROWS), ROWS)
    torch.manual_seed(1)
    losses = private_comparison.loss_of(net(batch), labels)
    for row in range(ROWS):
        gradients = torch.autograd.grad(losses[row], list(net.parameters()), retain_graph=True)
        expected = torch.stack([gradient.square().sum() for gradient in gradients])
        torch.testing.assert_close(squared[row], expected, rtol=1e-10, atol=1e-12)
