"""What an attacker may touch: answers to counted queries, from a module or from a table of predictions."""

from sfumato.targets.answers import Answers
from sfumato.targets.queries import QuerySet

__all__ = ["Answers", "QuerySet"]
