"""The privacy facts box: what one unit is, which artefact was attacked, and what is formally promised."""

from __future__ import annotations

from typing import Any, ClassVar

from sfumato.audit.record import AuditRecord, DefenceSummary, StrengthSummary
from sfumato.report.section import Section
from sfumato.report.wording import amount, count


class FactsSection(Section):
    """Section 2."""

    name: ClassVar[str] = "facts"
    order: ClassVar[int] = 20
    title: ClassVar[str] = "Privacy facts"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        data, design = record.data, record.design
        artefacts = {subject.artefact for subject in record.subjects}
        common = len(record.subjects) > 1 and len(artefacts) == 1
        return {
            "facts": [
                ("Data", f"{data.name} ({data.kind}): {amount(data.records, 'record')}{_shape(record)}"),
                ("Unit of privacy", f"one {data.unit}; {amount(data.units, 'unit')} in all"),
                (
                    "In the membership game",
                    f"{amount(data.game_units, 'unit')}; {count(data.public_units)} known as public",
                ),
                ("Models", _models(record)),
                *([("Strength of the attack", _strength(record.strength))] if record.strength else []),
                *([("What was attacked", artefacts.pop())] if common else []),
                ("Targets", f"{amount(design.targets, 'model')} attacked per subject, each with {_references(record)}"),
            ],
            "common": common,
            "told": told,
            "subjects": list(enumerate(record.subjects)),
        }


def told(defence: DefenceSummary) -> list[str]:
    """What stands out of a defence, one line each, its name before the first colon."""
    lines = [
        ("Reconstruction", defence.reconstruction),
        ("Needs", "; ".join(defence.needs)),
        ("Guard", "answers are changed before anyone sees them" if defence.guard else ""),
        ("Couples examples", defence.couples),
        ("Cost", f"about {defence.trainings:g} ordinary trainings" if defence.trainings != 1 else ""),
    ]
    return [f"{name}: {text.removesuffix('.')}." for name, text in lines if text]


def _strength(made: StrengthSummary) -> str:
    kinds = ", ".join(f"{count(number)} {kind}" for kind, number in made.canaries.items())
    parts = [f"{made.reached}: {amount(made.models, 'model')} per subject; canaries: {kinds}"]
    return " ".join(f"{part.removesuffix('.')}." for part in [*parts, *made.scaled, *made.missing])


def _shape(record: AuditRecord) -> str:
    data = record.data
    shape = " \u00d7 ".join(map(str, data.shape))
    classes = f", {amount(data.classes, 'class', 'classes')}" if data.classes else ""
    return f"{' of shape ' + shape if shape else ''}{classes}"


def _models(record: AuditRecord) -> str:
    design = record.design
    source = (
        f"; {count(design.trained)} trained, {count(design.reused)} reused" if design.trained + design.reused else ""
    )
    return f"{count(design.models)} in all, design {design.name}{source}"


def _references(record: AuditRecord) -> str:
    references = record.design.references_per_target
    return amount(references, "reference model") if references else "no reference models"
