"""Numbers and findings as words. Every rate and interval on a page or in a file goes through here, so they agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sfumato.audit.measured import Finding, Measured

_SPACE = "\u00a0"  # keeps a number and its unit on one line
_RATES = {
    "tpr", "fpr", "tnr", "fnr", "ppv", "accuracy", "precision", "recall", "share", "gap", "success",
    "disputed", "nearer", "coverage", "identified", "recovered", "planted", "gain",
}  # fmt: skip
_LABELS = {
    "auc": "AUC",
    "auroc": "AUROC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "advantage": "Advantage",
    "tpr_at_fpr": "TPR at FPR {at}",
    "tpr_at_fpr_calibrated": "TPR at FPR {at}, calibrated to each unit",
    "worst_unit_tpr": "TPR of the worst-hit unit at FPR {at}",
    "tnr_at_fnr": "TNR at FNR {at}",
    "ppv": "PPV at prior {at}",
    "balanced_accuracy_crossfitted": "Balanced accuracy, threshold from other targets",
    "advantage_crossfitted": "Advantage, threshold from other targets",
    "worst_decile_auc": "AUC of the worst-hit tenth",
    "looks_accuracy": "Looks most like the class",
    "evaluator_accuracy_1": "Right, says the evaluator",
    "evaluator_accuracy_5": "Right in five, says the evaluator",
    "disputed_successes": "Of those right, disputed",
    "class_distance": "Distance to the class",
    "record_distance": "Distance to training records",
    "nearer_to_training": "Nearer to a training record",
    "fid": "Fr\u00e9chet distance of features",
    "knowledge_accuracy": "Accuracy learned from guesses",
    "mse": "Mean squared error",
    "psnr": "PSNR in dB",
    "identified": "Records identified",
    "labels_recovered": "Labels recovered",
    "attribute_accuracy": "Hidden attributes right",
    "attribute_gain_on_members": "More of them right on members",
    "planted_label": "Planted labels right",
    "success_rate": "Success",
}


class Shown(NamedTuple):
    """A finding in words.

    Attributes:
        label: what was measured, with the point it belongs to.
        value: the number, or why there is none.
        interval: "low to high", empty where there is none.
        resolved: whether `value` is a number.
        method: how the interval was made, with its confidence.
        counts: how many members and non-members it rests on.
        note: the finding's own note.
        sort: the raw value for sorting, or None.
    """

    label: str
    value: str
    interval: str
    resolved: bool
    method: str
    counts: str
    note: str
    sort: float | None

    @property
    def text(self) -> str:
        """Value and interval on one line."""
        return f"{self.value} ({self.interval})" if self.interval else self.value


def is_rate(name: str) -> bool:
    """Whether the finding called `name` is a share of something, to be printed in per cent."""
    return not _RATES.isdisjoint(_plain(name).split("_"))


def percent(value: float, signed: bool = False) -> str:
    """`value` in [0, 1] in per cent with two or three figures: 0.1234 is "12.3 %", 0.00123 is "0.12 %"."""
    return f"{percent_figures(value, signed)}{_SPACE}%"


def percent_figures(value: float, signed: bool = False) -> str:
    """The figures of `percent`, without the sign of per cent."""
    hundred = 100 * value
    size = float(f"{abs(hundred):.2g}")
    decimals = 1 if size >= 1 or size == 0 else min(6, 1 - math.floor(math.log10(size)))
    text = f"{hundred:{'+' if signed else ''}.{decimals}f}"
    return text.replace("-", "\u2212") if hundred else "0"


def rate_label(value: float) -> str:
    """A round rate, as an axis or a heading names it: 0.001 is "0.1 %"."""
    return f"{100 * value:.6g}{_SPACE}%"


def number(value: float, signed: bool = False) -> str:
    """Three decimals below 10, three figures or the whole number above; infinity and NaN as what they are."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "\u221e" if value > 0 else "\u2212\u221e"
    sign = "+" if signed else ""
    size = abs(value)
    if 0 < size < 5e-4:
        text = f"{value:{sign}.1e}"
    else:
        text = f"{value:{sign}.{3 if size < 10 else 1 if size < 1000 else 0}f}"
    return text.replace("-", "\u2212") if value else "0"


def duration(seconds: float) -> str:
    """Seconds in the two largest of hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"


def count(value: int) -> str:
    """A count with a thin gap every three digits."""
    return f"{value:,}".replace(",", "\u202f")


def amount(value: int, singular: str, plural: str = "") -> str:
    """A count with its noun: "1 patient", "2 patients"."""
    return f"{count(value)} {singular if value == 1 else plural or singular + 's'}"


def label(name: str, at: float | None = None) -> str:
    """The readable name of a finding."""
    known = _LABELS.get(_plain(name))
    if known is not None and (at is not None or "{at}" not in known):
        return known.format(at=None if at is None else rate_label(at))
    kind, of, rest = _plain(name).partition("accuracy_")
    if of and not kind:
        return f"Accuracy, {rest.replace('_', ' ')}"
    words = _plain(name).replace("_", " ").replace("auc", "AUC").strip()
    words = words[:1].upper() + words[1:]
    return words if at is None else f"{words} at {at:g}"


def shown(finding: Finding, difference_of: str = "") -> Shown:
    """A finding in words; `difference_of` names the finding of which it is a paired difference."""
    value, interval = _figures(finding, difference_of)
    confidence = f"{100 * finding.confidence:g}{_SPACE}%"
    has_interval = finding.low is not None or finding.high is not None
    return Shown(
        label=label(difference_of or finding.name, finding.at),
        value=value,
        interval=interval,
        resolved=_resolved(finding),
        method=", ".join(part for part in ((f"{confidence} interval" if has_interval else ""), finding.method) if part),
        counts=_counts(finding),
        note=finding.note,
        sort=finding.value if _resolved(finding) else None,
    )


def unresolvable(finding: Finding) -> str:
    """Why there is no number: too few non-members (for a TNR: members), else the finding's own note."""
    if finding.name == "tpr_at_fpr_calibrated" and finding.note:
        return finding.note[:1].lower() + finding.note[1:].rstrip(".")
    if finding.name == "tnr_at_fnr" and finding.n_members:
        return f"not resolvable with {amount(finding.n_members, 'member')}"
    if finding.n_nonmembers and finding.at is not None:
        return f"not resolvable with {amount(finding.n_nonmembers, 'non-member')}"
    return f"not measured: {finding.note}" if finding.note else "not resolvable with the data at hand"


def reading(attack: Measured) -> str:
    """What an attack found in words: better than chance on average or at some FPR, else what it could have missed."""
    auc = attack.finding("auc")
    rates = sorted((f for f in attack.findings if _is_measured_rate(f)), key=lambda f: f.at or 0.0)
    above = next((f for f in rates if (f.low or 0.0) > (f.at or 0.0)), None)
    if auc is not None and _has_interval(auc) and (auc.low or 0.0) > 0.5:
        return f"Found leakage: members are told from non-members with an AUC of {shown(auc).interval}."
    if above is not None:
        told = shown(above)
        return f"Found leakage: {told.label} is {told.interval}, where guessing gives {rate_label(above.at or 0.0)}."
    if auc is None or not _has_interval(auc):
        return "Could not test: no AUC with an interval was measured."
    if (auc.high or 0.0) < 0.5:
        return (
            f"Ranks non-members above members (AUC {shown(auc).interval}); read it as a fault or a shift in the data."
        )
    missed = f", or a {label('tpr_at_fpr', rates[0].at)} up to {percent(rates[0].high or 0.0)}" if rates else ""
    return (
        f"No leakage found by this attack; the test would have missed an AUC up to {number(auc.high or 0.0)}{missed}."
    )


def _has_interval(finding: Finding) -> bool:
    return _resolved(finding) and finding.low is not None and finding.high is not None


def _is_measured_rate(finding: Finding) -> bool:
    return finding.name == "tpr_at_fpr" and finding.at is not None and _has_interval(finding)


def _plain(name: str) -> str:
    """Names of findings are written with hyphens or underscores."""
    return name.replace("-", "_")


def _resolved(finding: Finding) -> bool:
    return finding.resolvable and finding.value is not None


def _figures(finding: Finding, difference_of: str) -> tuple[str, str]:
    if not finding.resolvable:
        return unresolvable(finding), ""
    if finding.value is None:
        return "not measured", ""
    signed = bool(difference_of)
    if is_rate(difference_of or finding.name):
        unit = f"{_SPACE}{'points' if signed else '%'}"
        return percent_figures(finding.value, signed) + unit, _between(finding, percent_figures, signed, unit)
    return number(finding.value, signed), _between(finding, number, signed, "")


def _between(finding: Finding, figures: Callable[[float, bool], str], signed: bool, unit: str) -> str:
    low, high = finding.low, finding.high
    if low is not None and high is not None:
        return f"{figures(low, signed)} to {figures(high, signed)}{unit}"
    if high is not None:
        return f"at most {figures(high, signed)}{unit}"
    return "" if low is None else f"at least {figures(low, signed)}{unit}"


def _counts(finding: Finding) -> str:
    if finding.n_members and finding.n_nonmembers:
        return f"{count(finding.n_members)} members, {count(finding.n_nonmembers)} non-members"
    return f"n = {count(finding.n_members + finding.n_nonmembers)}" if finding.n_members + finding.n_nonmembers else ""
