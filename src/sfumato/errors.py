"""The errors that sfumato raises. Each says what was expected, what came, and what to do next."""

from __future__ import annotations


class SfumatoError(Exception):
    """Base of all errors; `remedy` is the next step, printed after the message."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UsageError(SfumatoError):
    """An argument, option or configuration is not usable."""


class DataError(SfumatoError):
    """The user's data cannot be used as they are; the message names the place."""


class NotPrivateError(SfumatoError):
    """Going on would make a privacy guarantee false."""


class NotCaptured(NotPrivateError):
    """A use of a private parameter cannot be followed in one pass; a loop of single examples still can."""


class NotApplicable(SfumatoError):
    """A method cannot be used here; the message is the reason that reaches the record."""


class UnsupportedModel(SfumatoError):
    """A network or head is of a kind that this operation cannot treat exactly."""


class StoreMismatch(SfumatoError):
    """A stored result does not belong to the specification that asks for it, or is damaged."""
