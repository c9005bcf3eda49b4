"""Attacks that read the whole posterior; it is kept for the base query only."""

from __future__ import annotations

from sfumato.errors import NotApplicable
from sfumato.targets.queries import BASE, QuerySet


def only_base_query(queries: QuerySet) -> tuple[str, ...]:
    """The reason why queries other than the record itself, once, cannot be used; empty for the base query."""
    if queries == BASE:
        return ()
    return (f"reads full posteriors, which are kept for the base query only, not for {queries.key}",)


def refuse_other_queries(queries: QuerySet) -> None:
    """Raise the reason of `only_base_query` where there is one."""
    for reason in only_base_query(queries):
        raise NotApplicable(
            f"Expected the base query, got {queries.key}: the attack {reason}.",
            remedy='Use queries=1 and augmentation="none", or an attack that reads one number per answer.',
        )
