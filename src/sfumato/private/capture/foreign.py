"""Activation checkpointing by others: it runs the network again where no use is seen."""

from __future__ import annotations

import torch

from sfumato.errors import NotCaptured

REENTRANT = "CheckpointFunctionBackward"
REMEDY = "Use `sfumato.private.checkpoint.checkpoint`, which runs the part again under the record, or a loop of single "
REMEDY += "examples (`method='loop'`)."
KEPT_WHOLE = "save_on_cpu"  # moves what autograd saves, and gives it back as it was


def refuse_foreign_checkpoint(ours: bool) -> None:
    """Refuse hooks on saved tensors, by which torch's checkpointing without re-entry works, but for sfumato's own.

    Raises:
        NotCaptured: naming whose hooks they are.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)  # type: ignore[attr-defined] - no public way
    if hooks is None or ours:
        return
    owner = f"{getattr(hooks[0], '__module__', '')}.{getattr(hooks[0], '__qualname__', hooks[0])}"
    if KEPT_WHOLE in owner:
        return
    raise NotCaptured(
        f"Expected activations to be kept, or sfumato's own checkpointing, got hooks on saved tensors by {owner} "
        "(activation checkpointing).",
        remedy=REMEDY,
    )
