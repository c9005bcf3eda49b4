"""Private training with Lightning: a mix-in for a `LightningModule`, which then takes its steps by hand.

class Net(PrivateModuleMixin, LightningModule):
    def losses(self, x, y):
        return F.cross_entropy(self(x), y, reduction="none")

net.train_privately(plan=plan, data=(x, y))
Trainer(max_epochs=1).fit(net)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from sfumato.errors import UsageError
from sfumato.integrations.moved import MovedCheck
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make

if TYPE_CHECKING:
    from lightning import LightningModule as _Module
else:
    _Module = object

SIXTEEN = ("16", "16-mixed", "16-true")


class PrivateModuleMixin(_Module):
    """Put before `LightningModule` among the bases. Define `losses` and `configure_optimizers`, nothing else.

    One epoch has all steps of the plan, and batches are the plan's draws. Nothing is logged: a training loss has no
    noise. A checkpoint of Lightning does not hold the session, so a run is not resumed.
    """

    session: Session | None = None
    _check: MovedCheck

    @abstractmethod
    def losses(self, *tensors: torch.Tensor) -> torch.Tensor:
        """One loss per record, [rows], from the tensors of some records."""

    def train_privately(self, *, plan: Plan, data: Any, **options: Any) -> Session:
        """Make the session that `fit` will use.

        Args:
            plan: all public numbers.
            data: see `private.make`.
            **options: of `private.make`, such as `audit_seed` and `unit_of`.
        """
        self.automatic_optimization = False
        session = make(self, plan=plan, data=data, loss=lambda module, *tensors: module.losses(*tensors), **options)
        object.__setattr__(self, "session", session)  # no part of the module, so that its state dict stays as it is
        object.__setattr__(self, "_check", MovedCheck(session))
        return session

    def train_dataloader(self) -> Any:
        """One item per step; the session holds what was drawn."""
        return _Draws(_of(self))

    def on_fit_start(self) -> None:
        """Refuse what would make other steps than the plan's."""
        _refuse_settings(self.trainer, _of(self))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One private step of every optimiser and of every scheduler."""
        session = _of(self)
        optimizers, schedulers = _listed(self.optimizers()), _listed(self.lr_schedulers())
        self._check.before([group for optimizer in optimizers for group in optimizer.param_groups])
        session.backward()
        for part in (*optimizers, *schedulers):
            part.step()

    def on_train_end(self) -> None:
        """Refuse to end with a parameter that never moved."""
        self._check.at_end()


class _Draws:
    """What Lightning takes for its data: as many items as the plan has steps."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __len__(self) -> int:
        return self.session.plan.steps

    def __iter__(self) -> Iterator[int]:
        return self.session.steps()


def _of(module: PrivateModuleMixin) -> Session:
    if module.session is None:
        raise UsageError(
            "Expected a plan, got none.", remedy="Call `train_privately(plan=..., data=...)` before `fit`."
        )
    return module.session


def _listed(found: Any) -> list[Any]:
    if found is None:
        return []
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _refuse_settings(trainer: Any, session: Session) -> None:
    reasons = {
        "devices": (trainer.world_size > 1, "Lightning would average gradients; use a session with `distributed`"),
        "precision": (str(trainer.precision) in SIXTEEN, "a loss scale would look at gradients; use bf16-mixed"),
        "ckpt_path": (trainer.global_step > 0 or session.steps_taken > 0, "a run is not resumed; make a new session"),
    }
    for name, (wrong, reason) in reasons.items():
        if wrong:
            raise UsageError(f"Expected `{name}` to be left alone.", remedy=f"Leave it out: {reason}.")
