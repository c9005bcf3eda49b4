"""Private training with the Hugging Face `Trainer`: a mix-in. The model is not wrapped, so it saves as it always did.

class PrivateTrainer(PrivateTrainerMixin, Trainer): ...

PrivateTrainer(model=model, args=args, train_dataset=records, plan=plan).train()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from sfumato.accounting.history import Event, History
from sfumato.errors import NotPrivateError, UsageError
from sfumato.integrations.moved import MovedCheck
from sfumato.private.plan import Plan
from sfumato.private.session import Session, make
from sfumato.types import Rows

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

IGNORED = -100  # the label of tokens that do not count
TOKENS = ("ForMaskedLM", "ForTokenClassification")


class PrivateTrainerMixin(_Trainer):
    """Put before `Trainer` among the bases: each step is then a step of a private session.

    Batches are the plan's draws, so the Trainer's sampler and batch size play no part in what is released:
    `per_device_train_batch_size` is how many units are computed at once, `max_steps` the plan's steps. `max_grad_norm`
    does nothing, because each unit is clipped already. The loss is logged as 0: a training loss has no noise, and would
    be written to `trainer_state.json`.

    Args:
        *args: the Trainer's.
        plan: all public numbers.
        audit_seed: None for a release; see `private.make`.
        unit_of: int64 [records], the unit of each record; by default each record is a unit.
        per_example_loss: logits, labels to [rows]; by default that of the model's kind.
        **kwargs: the Trainer's.

    Raises:
        UsageError: for settings of the Trainer under which its steps would not be those of the plan.
    """

    def __init__(
        self,
        *args: Any,
        plan: Plan,
        audit_seed: int | None = None,
        unit_of: Rows | None = None,
        per_example_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        _refuse_settings(self.args, plan)
        self.args.max_steps, self.args.max_grad_norm = plan.steps, 0.0
        self._per_example_loss = per_example_loss or loss_of(self.model)
        records = _Collated(self.train_dataset, self.data_collator, self.args.device)
        self.session: Session = make(
            self.model,  # type: ignore[arg-type] - the Trainer made sure of it
            plan=plan,
            data=records,
            loss=lambda model, *tensors: self._losses(model, dict(zip(records.names, tensors, strict=True))),
            audit_seed=audit_seed,
            unit_of=unit_of,
            physical_batch_size=self.args.per_device_train_batch_size,
        )
        self._check = MovedCheck(self.session)

    @property
    def history(self) -> History:
        """What touched private records: the private steps, and the choice of a best checkpoint if there was one."""
        if self.args.load_best_model_at_end:
            purpose = "choice of the best checkpoint by an evaluation"
            return self.session.history.then(Event("training", purpose, len(self.eval_dataset or ())))  # type: ignore[arg-type]
        return self.session.history

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """All steps of the plan."""
        if resume_from_checkpoint:
            raise _not_resumed("a checkpoint to go on from")
        return super().train(None, *args, **kwargs)

    def get_train_dataloader(self) -> Any:
        """One item per step; the session holds what was drawn."""
        return _Draws(self.session)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One private step: the noisy gradient is in `.grad` afterwards."""
        if self.state.global_step != self.session.steps_taken:
            raise _not_resumed(f"step {self.state.global_step} where the session is at {self.session.steps_taken}")
        model.train()
        assert self.optimizer is not None
        self._check.before(self.optimizer.param_groups)  # type: ignore[union-attr]
        with self.compute_loss_context_manager():
            self.session.backward()
        return torch.zeros((), device=self.args.device)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the size of a draw is private."""
        return 0

    def _losses(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        return self._per_example_loss(outputs["logits"] if isinstance(outputs, dict) else outputs[0], labels)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        self._check.at_end()
        return super()._finalize_training(*args, **kwargs)  # type: ignore[misc] - of the Trainer


class _Draws:
    """What the Trainer takes for its data: as many items as the plan has steps."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __len__(self) -> int:
        return self.session.plan.steps

    def __iter__(self) -> Iterator[dict[str, int]]:
        return ({"step": step} for step in self.session.steps())


class _Collated:
    """The records of a data set at given positions, as the Trainer's collator joins them."""

    def __init__(self, dataset: Any, collator: Callable[[list[Any]], Any], device: torch.device) -> None:
        self.dataset, self.collator, self.device = dataset, collator, device
        self.names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, rows: torch.Tensor) -> list[torch.Tensor]:
        found = self.collator([self.dataset[row] for row in rows.tolist()])
        if "labels" not in found:
            raise UsageError(f"Expected records with `labels`, got {sorted(found)}.", remedy="The loss needs them.")
        self.names = tuple(sorted(found))
        return [torch.as_tensor(found[name]).to(self.device) for name in self.names]


def loss_of(model: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The per-example loss of a model of transformers, also under peft.

    Raises:
        UsageError: for kinds whose loss is not known here.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind, name = getattr(base, "loss_type", None), type(base).__name__
    if kind == "ForCausalLM" or "LMHead" in name:
        return causal_losses
    if kind in TOKENS:
        return token_losses
    if kind == "ForSequenceClassification":
        return record_losses
    raise UsageError(
        f"Expected a causal or masked language model or a classifier, got {name}.",
        remedy="Pass `per_example_loss`: logits, labels to one loss per record.",
    )


def causal_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[rows]: the mean loss of the next token over a record's own, from logits [rows, T, V] and labels [rows, T]."""
    return token_losses(logits[:, :-1], labels[:, 1:])


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[rows]: the mean over a record's own tokens, so that the length of the others does not matter."""
    each = F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none", ignore_index=IGNORED)
    return each.sum(dim=1) / (labels != IGNORED).sum(dim=1).clamp(min=1)


def record_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[rows]: cross entropy of classes [rows]; of several labels [rows, K]; the square for one number per record."""
    if labels.is_floating_point() and logits.shape[1:].numel() == 1:
        return (logits.reshape(-1) - labels.reshape(-1)).square()
    if labels.is_floating_point():
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none").mean(dim=1)
    return F.cross_entropy(logits.float(), labels, reduction="none")


def _not_resumed(got: str) -> NotPrivateError:
    return NotPrivateError(
        f"Expected one training from the first step, got {got}.",
        remedy="A Trainer's checkpoint does not hold the session; make a new trainer, with the budget that is left.",
    )


def _refuse_settings(args: Any, plan: Plan) -> None:
    reasons = {
        "gradient_accumulation_steps": (args.gradient_accumulation_steps > 1, "the session cuts large draws by itself"),
        "max_steps": (args.max_steps not in (-1, plan.steps), f"the noise was calibrated for {plan.steps} steps"),
        "fp16": (args.fp16, "a loss scale that adapts to gradients would look at them; use bf16"),
        "gradient_checkpointing": (_checkpointing(args), "it hides uses of parameters from the session"),
        "torch_compile": (args.torch_compile, "operations of a compiled model cannot be seen"),
        "fsdp": (bool(args.fsdp), "no example's gradient would be on one device"),
        "deepspeed": (bool(args.deepspeed), "it computes gradients by itself"),
        "n_gpu": (
            args.n_gpu > 1 or args.world_size > 1,
            "it would average gradients; use a session with `distributed`",
        ),
        "auto_find_batch_size": (args.auto_find_batch_size, "a restart would release steps twice"),
        "neftune_noise_alpha": (args.neftune_noise_alpha is not None, "its noise depends on other records' lengths"),
    }
    for name, (wrong, reason) in reasons.items():
        if wrong:
            raise UsageError(
                f"Expected `{name}` to be left alone, got {getattr(args, name)!r}.", remedy=f"Leave it out: {reason}."
            )


def _checkpointing(args: Any) -> bool:
    return bool(getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False))
