"""Where the record comes from, how to repeat it, and whom to cite."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from sfumato.audit.record import AuditRecord, Subject
from sfumato.report.section import Section
from sfumato.report.wording import duration


class ProvenanceSection(Section):
    """Section 12."""

    name: ClassVar[str] = "provenance"
    order: ClassVar[int] = 100
    title: ClassVar[str] = "Provenance, and how to repeat this"
    in_card: ClassVar[bool] = True

    def context(self, record: AuditRecord) -> dict[str, Any]:
        provenance = record.provenance
        return {
            "command": provenance.command,
            "facts": [
                ("Created", provenance.created),
                ("Seed", str(provenance.seed)),
                ("Time", duration(provenance.seconds)),
                ("Fingerprint of the data", record.data.fingerprint),
                ("Record", f"schema version {record.schema_version}, kind {record.kind}"),
                ("Executor", record.design.executor),
                ("Versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
                ("Machine", ", ".join(f"{name}: {value}" for name, value in provenance.machine.items())),
            ],
            "settings": [(subject.name, _settings(subject)) for subject in record.subjects],
            "attack_settings": _attack_settings(record),
            "citations": list(record.citations.items()),
        }


def _settings(subject: Subject) -> str:
    parts = {"defence": {subject.defence.name: subject.defence.settings}, "recipe": subject.recipe}
    if subject.history:
        parts["history"] = {str(index + 1): event for index, event in enumerate(subject.history)}
    return json.dumps(parts, indent=2, ensure_ascii=False, default=str)


def _attack_settings(record: AuditRecord) -> str:
    """Settings by attack; an attack that ran with others on some subject has an entry of its own there."""
    settings: dict[str, Any] = {}
    for subject in record.subjects:
        for attack in subject.attacks:
            if settings.setdefault(attack.name, attack.settings) != attack.settings:
                settings[f"{attack.name} on {subject.name}"] = attack.settings
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str) if settings else ""
