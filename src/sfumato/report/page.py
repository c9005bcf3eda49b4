"""What makes a page self-contained: style and script with their hashes, the content policy, the record inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

from markupsafe import Markup

from sfumato.audit.record import AuditRecord
from sfumato.report.charts.roc import kept_points

_BUDGET = 500_000  # bytes of a page; what its sections leave is for the embedded record
_FRAME = 50_000  # style, script and head
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http:%2F%2Fwww.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='6' cy='8' "
    "r='5' fill='%237a5a3c' opacity='.75'/%3E%3Ccircle cx='10' cy='8' r='5' fill='%233d5a6c' opacity='.65'/%3E"
    "%3C/svg%3E"
)


class Page(NamedTuple):
    """The fixed parts of every page."""

    style: Markup
    script: Markup
    policy: str
    icon: str


class Embedded(NamedTuple):
    """The record as text for a `<script type="application/json">`, and what was left out of it."""

    text: Markup
    left_out: str


def asset(name: str) -> str:
    """A text file of `assets/`, with Unix line ends."""
    return files("sfumato.report").joinpath("assets", name).read_text(encoding="utf-8").replace("\r\n", "\n")


def chart_style() -> Markup:
    """Of the report's style, the colours and what charts need: for pictures in files of their own."""
    whole = asset("report.css")
    colours = whole[: whole.index("*, *::before")]
    return Markup(colours + whole[whole.index(".chart {") : whole.index("details {")])


def page_parts() -> Page:
    """Style and script exactly as the page has them, and the policy that allows these two and nothing else."""
    style, script = asset("report.css"), asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Page(Markup(style), Markup(script), policy, _ICON)


def embedded(record: AuditRecord, used: int) -> Embedded:
    """The record for machines and for the script, as much of it as fits beside `used` bytes of sections.

    Curves hold the points that are drawn, to four figures; values that equal the schema's defaults are left out.
    """
    plain: dict[str, Any] = record.model_dump(mode="json", exclude_defaults=True)
    plain["schema_version"] = record.schema_version
    _thin_curves(plain, record)
    told, room = "curves only as drawn", _BUDGET - _FRAME - used
    for shorten, what in _SHORTER:
        text = _script_text(plain)
        if len(text.encode()) <= room:
            return Embedded(text, told)
        shorten(plain)
        told = what
    return Embedded(_script_text(plain), told)


def _thin_curves(plain: dict[str, Any], record: AuditRecord) -> None:
    for (subject, attack), points in kept_points(record).items():
        curve = plain["subjects"][subject]["attacks"][attack]["curve"]
        for line in ("fpr", "tpr", "low", "high"):
            curve[line] = [float(f"{curve[line][i]:.4g}") for i in points]
    for subject in plain["subjects"]:
        permitted = (subject["guarantee"].get("numbers") or {}).get("permitted") or {}
        permitted.update({line: [float(f"{y:.4g}") for y in permitted[line]] for line in ("fpr", "tpr") if permitted})


def _drop_details(plain: dict[str, Any]) -> None:
    for subject in plain["subjects"]:
        subject.pop("query_risk", None)
        subject.pop("inversions", None)
    for attack in (attack for subject in plain["subjects"] for attack in subject.get("attacks", [])):
        attack.pop("per_target", None)
        for finding in attack["findings"]:
            finding.pop("method", None)
            finding.pop("note", None)


def _drop_curves(plain: dict[str, Any]) -> None:
    """The script then reads no values under the pointer; the table and the drawn curves stay."""
    for attack in (attack for subject in plain["subjects"] for attack in subject.get("attacks", [])):
        attack.pop("curve", None)
    for subject in plain["subjects"]:
        (subject["guarantee"].get("numbers") or {}).pop("permitted", None)


def _keep_names(plain: dict[str, Any]) -> None:
    for name in plain.keys() - {"schema_version", "kind", "title", "subjects"}:
        del plain[name]
    plain["subjects"] = [
        {"name": subject["name"], "attacks": [{"name": attack["name"]} for attack in subject.get("attacks", [])]}
        for subject in plain["subjects"]
    ]


_SHORTER: tuple[tuple[Callable[[dict[str, Any]], None], str], ...] = (
    (
        _drop_details,
        "curves only as drawn, no methods of intervals, no values per target, no ways of asking and no inversion",
    ),
    (_drop_curves, "no curves, no methods of intervals, no values per target, no ways of asking and no inversion"),
    (_keep_names, "names of subjects and attacks only; all else stands in the file beside it"),
)


def _script_text(value: Any) -> Markup:
    """JSON in which nothing can end the script element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
