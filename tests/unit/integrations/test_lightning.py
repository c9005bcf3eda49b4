"""The mix-in against a plain session: same seed, same weights."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import UsageError
from sfumato.integrations.lightning import PrivateModuleMixin
from sfumato.private.plan import Plan
from sfumato.private.session import make

lightning = pytest.importorskip("lightning", reason="needs the optional package lightning")
pytestmark = pytest.mark.filterwarnings("ignore")
RATE = 0.3


class Net(PrivateModuleMixin, lightning.LightningModule):
    def __init__(self, *, held="all", factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.held, self.factor = held, factor

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))

    def losses(self, x, y):
        return F.cross_entropy(self(x), y, reduction="none")

    def configure_optimizers(self):
        held = self.parameters() if self.held == "all" else self.last.parameters()
        optimizer = torch.optim.SGD(held, lr=RATE)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, self.factor)]


def plan(**changes):
    fields = {"sample_rate": 0.4, "steps": 4, "expected_batch_size": 8, "noise_multiplier": 1.0, "delta": 1e-3}
    return Plan(**(fields | {"adjacency": "ADD_OR_REMOVE_ONE"} | changes))


def data():
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(20) % 3


def trainer(folder, **changes):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lightning.Trainer(default_root_dir=folder, accelerator="cpu", **(quiet | {"max_epochs": 1} | changes))


def fitted(net, folder, **changes):
    net.train_privately(plan=plan(), data=data(), audit_seed=5)
    trainer(folder, **changes).fit(net)
    return net


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_fit_ends_where_a_loop_of_ones_own_does(tmp_path, factor):
    net, twin = fitted(Net(factor=factor), tmp_path), Net()
    session = make(
        twin, plan=plan(), data=data(), loss=lambda module, x, y: module.losses(x, y), audit_seed=5, method="loop"
    )
    optimizer = torch.optim.SGD(twin.parameters(), lr=RATE)
    for step in session.steps():
        session.backward()
        optimizer.param_groups[0]["lr"] = RATE * factor**step
        optimizer.step()
    assert net.session.steps_taken == 4
    assert net.session.method == "capture"
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, dict(twin.named_parameters())[name], rtol=1e-5, atol=1e-6)


def test_a_second_epoch_takes_no_more_steps(tmp_path):
    assert fitted(Net(), tmp_path, max_epochs=3).session.steps_taken == 4


def test_the_state_dict_is_the_modules_own(tmp_path):
    names = list(Net().state_dict())
    assert list(fitted(Net(), tmp_path).state_dict()) == names


def test_a_parameter_that_no_optimizer_holds_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"2 that did not, after 3 steps: first.weight, first.bias"):
        fitted(Net(held="last"), tmp_path)


def test_without_a_plan_nothing_is_trained(tmp_path):
    with pytest.raises(UsageError, match="Expected a plan"):
        trainer(tmp_path).fit(Net())


def test_the_history_counts_the_steps_that_were_taken(tmp_path):
    net = fitted(Net(), tmp_path, limit_train_batches=3)
    assert net.session.history.events[0].mechanism["steps"] == 3


@pytest.mark.parametrize("changes", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_lightning_itself_refuses_to_touch_the_gradients(tmp_path, changes):
    with pytest.raises(Exception, match="manual optimization"):
        fitted(Net(), tmp_path, **changes)


def test_a_session_is_not_used_twice(tmp_path):
    net = fitted(Net(), tmp_path)
    with pytest.raises(UsageError, match="ckpt_path"):
        trainer(tmp_path).fit(net)
