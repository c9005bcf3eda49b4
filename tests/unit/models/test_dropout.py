import pytest
import torch
from torch import nn

from sfumato.errors import UnsupportedModel, UsageError
from sfumato.models.dropout import StreamDropout, replace_dropout
from sfumato.sde.streams import set_noise
from sfumato.training.draws import Draws

DRAWS = Draws((11, 12, 13), ("training", "dropout"))


def drawn(layer: StreamDropout, draws: Draws) -> StreamDropout:
    set_noise(layer, draws)
    return layer


def test_values_are_zero_or_scaled():
    out = drawn(StreamDropout(0.25), DRAWS)(torch.ones(3 * 2000, 4))
    assert {round(value, 6) for value in out.unique().tolist()} == {0.0, round(1 / 0.75, 6)}
    # 24,000 values: five standard errors are 0.014
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.014


def test_eval_mode_and_rate_zero_are_the_identity_without_draws():
    x = torch.randn(6, 4)
    assert torch.equal(StreamDropout(0.5).eval()(x), x)
    assert torch.equal(StreamDropout(0.0).train()(x), x)


def test_each_model_has_the_masks_it_has_alone():
    x = torch.ones(3 * 5, 7)
    together = drawn(StreamDropout(0.5), DRAWS)(x)
    for index, seed in enumerate(DRAWS.seeds):
        alone = drawn(StreamDropout(0.5), Draws((seed,), DRAWS.path))(x[:5])
        assert torch.equal(together[5 * index : 5 * index + 5], alone)


def test_calls_within_a_step_differ_and_the_count_starts_again():
    layer, x = drawn(StreamDropout(0.5), DRAWS), torch.ones(3, 50)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    assert torch.equal(drawn(layer, DRAWS)(x), first)


def test_layers_of_one_network_have_streams_of_their_own():
    model = nn.Sequential(StreamDropout(0.5), nn.Sequential(StreamDropout(0.5)))
    set_noise(model, DRAWS)
    x = torch.ones(3, 50)
    assert not torch.equal(model[0](x), model[1](x))


def test_channel_wise_drops_whole_channels():
    out = drawn(StreamDropout(0.5, channel_wise=True), DRAWS)(torch.ones(3 * 10, 6, 4, 4))
    per_channel = out.flatten(2)
    assert torch.equal(per_channel.min(dim=2).values, per_channel.max(dim=2).values)
    assert bool(((per_channel[:, :, 0] == 0).sum(1) % 6).any())  # not all or none of the channels of a record


def test_training_without_draws_is_refused():
    with pytest.raises(UsageError, match="set_noise"):
        StreamDropout(0.5)(torch.ones(3, 4))
    layer = drawn(StreamDropout(0.5), DRAWS)
    set_noise(layer, None)
    with pytest.raises(UsageError, match="got none"):
        layer(torch.ones(3, 4))


def test_rows_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="got 4 rows"):
        drawn(StreamDropout(0.5), DRAWS)(torch.ones(4, 4))


def test_channel_wise_needs_a_channel_axis():
    with pytest.raises(UnsupportedModel, match=r"\(3, 4\)"):
        drawn(StreamDropout(0.5, channel_wise=True), DRAWS)(torch.ones(3, 4))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_outside_the_range_are_refused(rate):
    with pytest.raises(UsageError, match="p"):
        StreamDropout(rate)


def test_replace_swaps_every_dropout_layer():
    shared = nn.Dropout(0.2)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(nn.Dropout2d(0.3), nn.Linear(2, 2)), "c": shared})
    assert replace_dropout(model) is model
    assert model["a"].p == 0.2
    assert not model["a"].channel_wise
    assert model["a"] is model["c"]
    assert (model["b"][0].p, model["b"][0].channel_wise) == (0.3, True)
    assert not any(isinstance(layer, (nn.Dropout, nn.Dropout2d)) for layer in model.modules())


def test_replace_keeps_the_mode_and_handles_a_bare_layer():
    assert isinstance(replace_dropout(nn.Dropout1d(0.4)), StreamDropout)
    assert not replace_dropout(nn.Sequential(nn.Dropout(0.4)).eval())[0].training


@pytest.mark.parametrize(
    "layer", [nn.AlphaDropout(0.1), nn.RReLU(), nn.MultiheadAttention(4, 2, dropout=0.1), nn.LSTM(2, 2, 2, dropout=0.1)]
)
def test_hidden_randomness_is_refused_with_its_place(layer):
    with pytest.raises(UnsupportedModel, match=type(layer).__name__ + " at `1`"):
        replace_dropout(nn.Sequential(nn.Linear(4, 4), layer))


def test_attention_without_dropout_is_fine():
    model = nn.Sequential(nn.MultiheadAttention(4, 2))
    assert replace_dropout(model) is model
