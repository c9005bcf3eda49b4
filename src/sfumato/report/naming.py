"""Reconstructions by their names: whoever reads one row of one table must not take it for the published method."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sfumato.audit.curves import SIGN, GroupFrontier, split_name
from sfumato.audit.record import AuditRecord, Subject, Verdict

WORD = "reconstruction"


def marked(record: AuditRecord) -> AuditRecord:
    """The record as it is shown: subjects that are reconstructions bear the word in their names, wherever they stand.

    A name that has it already stays, as do all others. Numbers and arrays are those of the record.
    """
    names = {s.name: _with_word(s.name) for s in record.subjects if s.defence.reconstruction and WORD not in s.name}
    if not names:
        return record
    frontier = record.frontier
    shown = record.model_copy(
        update={
            "title": _title(record, names),
            "subjects": [_subject(one, names) for one in record.subjects],
            "comparisons": [
                one.model_copy(update={key: names.get(getattr(one, key), getattr(one, key)) for key in _PAIR})
                for one in record.comparisons
            ],
            "frontier": frontier
            and frontier.model_copy(
                update={
                    "reference": names.get(frontier.reference, frontier.reference),
                    "groups": [_group(group, names) for group in frontier.groups],
                }
            ),
            "tuning": [
                one.model_copy(update={"subject": names.get(one.subject, one.subject)}) for one in record.tuning
            ],
            "verdict": _verdict(record.verdict, names),
            "notices": [one.model_copy(update={"text": _text(one.text, names)}) for one in record.notices],
        }
    )
    return shown.with_arrays(record.arrays)


_PAIR = ("subject", "baseline")


def _with_word(name: str) -> str:
    """Before the strength of a name of the form METHOD@STRENGTH, else at the end."""
    found = split_name(name)
    return f"{name}-{WORD}" if found is None else f"{found.method}-{WORD}{SIGN}{found.strength}"


def _title(record: AuditRecord, names: Mapping[str, str]) -> str:
    """A title that ends with the names of the subjects, as titles do that nobody chose."""
    own = [one.name for one in record.subjects]
    listed = f": {', '.join(own)}"
    if not record.title.endswith(listed):
        return record.title
    return f"{record.title.removesuffix(listed)}: {', '.join(names.get(name, name) for name in own)}"


def _subject(one: Subject, names: Mapping[str, str]) -> Subject:
    return one.model_copy(update={"name": names.get(one.name, one.name)})


def _group(group: GroupFrontier, names: Mapping[str, str]) -> GroupFrontier:
    """Curves are named by method: those with a point that is renamed."""
    methods = {a.method: b.method for old, new in names.items() if (a := split_name(old)) and (b := split_name(new))}
    curves = [
        curve.model_copy(
            update={
                "method": methods.get(curve.method, curve.method),
                "points": [p.model_copy(update={"subject": names.get(p.subject, p.subject)}) for p in curve.points],
            }
        )
        for curve in group.curves
    ]
    rows = [one.model_copy(update={"method": methods.get(one.method, one.method)}) for one in group.at_accuracies]
    pairs = [
        one.model_copy(update={key: methods.get(getattr(one, key), getattr(one, key)) for key in _PAIR})
        for one in group.differences
    ]
    return group.model_copy(update={"curves": curves, "at_accuracies": rows, "differences": pairs})


def _verdict(verdict: Verdict, names: Mapping[str, str]) -> Verdict:
    return verdict.model_copy(
        update={
            "sentence": _text(verdict.sentence, names),
            "in_favour": _texts(verdict.in_favour, names),
            "against": _texts(verdict.against, names),
        }
    )


def _texts(texts: Sequence[str], names: Mapping[str, str]) -> list[str]:
    return [_text(text, names) for text in texts]


def _text(text: str, names: Mapping[str, str]) -> str:
    """Sentences about a subject begin with its name and a colon."""
    for old, new in names.items():
        text = re.sub(rf"(?<!\S){re.escape(old)}: ", lambda _, new=new: f"{new}: ", text)
    return text
