"""Many networks of one shape as one: parameters stacked, batches folded into the batch axis."""

from sfumato.training.stacking.stack import ModelStack, build_stack

__all__ = ["ModelStack", "build_stack"]
