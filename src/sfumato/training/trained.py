"""What comes out of a training: weights, what they remember of how they came about, and the guarantee or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sfumato.accounting.guarantee import Guarantee, NoGuarantee, guarantee
from sfumato.accounting.history import History
from sfumato.atomic import replacing
from sfumato.errors import UsageError

GUARD = "guard/"  # before the names of a guard's tensors in a file of weights

Predict = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained model.

    Args:
        state: the network's state dict, or None for a user's own training function whose network we cannot rebuild.
        history: every stage that read the data.
        seed: of the training.
        epochs: how many were run.
        best_epoch: the one whose weights were kept.
        seconds: of training, shared out when stacked.
        stacked_with: how many models were trained side by side, itself included.
        kernels: kernels chosen by the stack, by layer.
        tallies: branch of the objective -> steps in which it was taken.
        guards: what fitted guards on answers keep, "PART/name" -> tensor; goes with the weights.
        predict: live predictor of a model without a state: float32 [b, *shape] to logits [b, classes].
    """

    state: dict[str, torch.Tensor] | None
    history: History
    seed: int
    epochs: int = 0
    best_epoch: int = 0
    seconds: float = 0.0
    stacked_with: int = 1
    kernels: dict[str, str] = field(default_factory=dict)
    tallies: dict[str, float] = field(default_factory=dict)
    guards: dict[str, torch.Tensor] = field(default_factory=dict)
    predict: Predict | None = None

    @property
    def guarantee(self) -> Guarantee | NoGuarantee:
        """What holds for these weights: the composition of everything in their history, or none with the reason."""
        return guarantee(self.history)

    @property
    def guarantee_statement(self) -> str:
        """The sentence for the report: the guarantee with all its numbers, or why there is none."""
        return self.guarantee.statement

    def facts(self) -> dict[str, Any]:
        """JSON form of everything but the weights."""
        return {
            "history": self.history.plain(),
            "seed": self.seed,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "stacked_with": self.stacked_with,
            "kernels": self.kernels,
            "tallies": self.tallies,
        }

    def save(self, path: Path, *, key: str = "") -> None:
        """Write weights and facts into one safetensors file, atomically.

        Args:
            path: where to; the folder must exist.
            key: content hash of the job, kept in the file so that a file under a wrong name is noticed.
        """
        if self.state is None:
            raise UsageError(
                "Expected a network whose weights can be saved, got one from a training function.",
                remedy="Save it in your own function; its answers are in the store.",
            )
        tensors = {name: value.contiguous() for name, value in self.state.items()}
        tensors |= {f"{GUARD}{name}": value.contiguous() for name, value in self.guards.items()}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"key": key, "facts": json.dumps(self.facts())})

    @classmethod
    def load(cls, path: Path, *, key: str | None = None) -> Trained:
        """Inverse of `save`; with `key`, a file of another job is refused."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as error:
            raise UsageError(f"Expected weights written by sfumato at {path}, got {error}.") from error
        if "facts" not in metadata or (key is not None and metadata.get("key") != key):
            raise UsageError(
                f"Expected {path} to hold the weights of this job, got another file.", remedy="Delete it and run again."
            )
        guards = {name.removeprefix(GUARD): state.pop(name) for name in list(state) if name.startswith(GUARD)}
        facts = json.loads(metadata["facts"])
        history = History.from_plain(facts.pop("history"))
        return cls(state=state, history=history, guards=guards, **facts)
