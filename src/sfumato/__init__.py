"""sfumato: train networks that keep their training data to themselves, and prove it."""

__version__ = "0.1.0"
