"""The page of `neural_sde.py`, from what was measured. No number and no outcome in it is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from neural_sde_claims import WAYS

Row = dict[str, Any]
NEEDED = {0.01: 1_000, 0.001: 10_000}  # negative scores below which a TPR there rests on fewer than ten of them
ORDER = ("one", "many", "mean of logits", "mean of probabilities", "drift", "common", "gradient-norm")


def page(found: Row, stem: str) -> str:
    """The whole page as Markdown."""
    sections = [
        top(found, stem),
        scale(found),
        claims(found),
        contenders(found),
        *(risks(found, kind) for kind in found["game"]["canaries"]),
        not_run(found),
        settings(found),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def top(found: Row, stem: str) -> list[str]:
    """What this is, and how it is repeated."""
    return [
        f"# {found['heading']}",
        "",
        *_intent(found),
        "",
        "```console",
        f"python benchmarks/neural_sde.py --config docs/results/{stem}.toml --state STATE",
        found["command"],
        "```",
        "",
        f"The first command trains, and the second made this page and [{stem}.json]({stem}.json). `sfumato compare "
        f"--config docs/results/{stem}.toml --store STATE` finds the same models and writes the usual report.",
    ]


def _intent(found: Row) -> list[str]:
    """What is tested, where anything is."""
    told = (
        "The networks of arXiv 2501.06686 (Hong, Wu, Gruber, Lee), whose text was not at hand, so this is no "
        "reproduction: architectures and settings are those of published neighbours."
    )
    if found["claims"]:
        told += (
            " Claims of its abstract are tested. What was to be measured, and what would confirm or refute each claim, "
            "was written down in [neural_sde_claims.toml](neural_sde_claims.toml) before the models were trained."
        )
    return [told]


def scale(found: Row) -> list[str]:
    """How much data, how many models, what was scaled."""
    data, where = found["data"], found["provenance"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["game"]["canaries"].items())
    ordinary = data["units"] - data["game_units"] - data["public_units"]
    negatives = sorted({row["negatives"] for row in found["risks"]})
    lines = [
        "## Scale",
        "",
        f"{data['records']:,} records of {data['name']}: {ordinary:,} in every training set, {data['game_units']:,} in "
        f"the game ({kinds}; each in half of the training sets), {data['public_units']:,} test records that no model "
        f"is trained on. {found['models']} of {found['wanted']} models of each contender, each in turn the target with "
        f"{found['references_per_target']} references; every contender has the same training sets and seeds. Draws: "
        f"{', '.join(map(str, found['draws']))}. Intervals are at {found['fixed']['confidence']:.0%}, "
        f"{where['created'][:10]}, sfumato {found['sfumato']}, torch {where['versions']['torch']}, seed "
        f"{found['seed']}.",
        "",
        f"- {_negatives(negatives)}",
        *(f"- {note}" for note in found["notes"]),
    ]
    if found["models"] < found["wanted"]:
        lines.append(
            f"- A partial run: {found['models']} of {found['wanted']} models of each contender. The rest may change it."
        )
    lines += [f"- Not run yet: {name} ({count} models)." for name, count in found["short"].items()]
    return lines


def _negatives(counts: Sequence[int]) -> str:
    told = " and ".join(f"{count:,}" for count in counts) or "no"
    told = f"{told} negative scores for each number below, pooled over the targets."
    missed = [f"{100 * fpr:g}% needs {needed:,}" for fpr, needed in NEEDED.items() if counts and counts[0] < needed]
    if not missed:
        return told
    return f"{told} A figure at {' and one at '.join(missed)}, so the headline is the TPR at {headline(counts):.0%}."


def headline(counts: Sequence[int]) -> float:
    """The rate of false positives that is shown: 1%, or 10% where there are too few negative scores for that."""
    return 0.01 if min(counts, default=0) >= NEEDED[0.01] else 0.1


def claims(found: Row) -> list[str]:
    """The verdicts, with reasons, and as JSON."""
    if not found["claims"]:
        return []
    lines = ["## Verdicts", "", *table([_claim_row(row) for row in found["claims"]])]
    for row in found["claims"]:
        lines += ["", f"### {row['id']}: {row['claim']}", ""]
        lines += [f"- Estimand: {row['estimand']}", f"- Would confirm it: {row['confirms']}"]
        lines += [
            f"- Would refute it: {row['refutes']}",
            f"- **Verdict: {row['verdict']}.** {' '.join(row['reasons'])}",
        ]
        if row["details"]:
            lines += ["", *table([_detail(detail) for detail in row["details"]])]
        if row["sensitivity"]:
            lines += ["", "The same rule with other attacks and canaries (not decisive):", ""]
            lines += table([_sensitivity(other) for other in row["sensitivity"]])
    block = [
        {
            "claim": f"{row['id']}: {row['claim']}",
            "verdict": row["verdict"],
            "estimate": row["estimate"],
            "low": row["low"],
            "high": row["high"],
            "command": found["command"],
        }
        for row in found["claims"]
    ]
    return [*lines, "", "```json", json.dumps(block, indent=1), "```"]


def _claim_row(row: Row) -> Row:
    return {"claim": f"{row['id']}: {row['claim']}", "verdict": row["verdict"], "estimate": _estimate(row)}


def _sensitivity(row: Row) -> Row:
    return {"attack": row["attack"], "canaries": row["kind"], "contender": row["subject"] or "-",
            "against": row["baseline"], "verdict": row["verdict"], "estimate": _estimate(row)}  # fmt: skip


def _detail(row: Row) -> Row:
    """One line of a claim's details: numbers as they are, intervals with their ends."""
    shown = {}
    for name, value in row.items():
        if isinstance(value, dict):
            shown[name.replace("_", " ")] = _signed(value)
        else:
            word = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else WAYS.get(value, value)
            shown[name.replace("_", " ")] = str(word)
    return shown


def _estimate(row: Row) -> str:
    if row["estimate"] is None:
        return "none"
    return _signed({"value": row["estimate"], "low": row["low"], "high": row["high"]})


def _signed(value: Row) -> str:
    if value["low"] is None or value["high"] is None:
        return f"{value['value']:.3f} (no interval)"
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def contenders(found: Row) -> list[str]:
    """What each is good for and what it can promise."""
    rows = [
        {
            "contender": row["name"],
            "parameters": "-" if row["parameters"] is None else f"{row['parameters']:,}",
            "test accuracy": percent(row["accuracy"]),
            "test accuracy, noise off": percent(row["accuracy_without_noise"]) if row["random"] else "the same",
            "training accuracy": percent(row["training_accuracy"]),
            "epsilon": "none" if row["epsilon"] is None else f"{row['epsilon']:.3g}",
            "seconds a model": f"{row['seconds_per_model']:.0f}",
        }
        for row in found["contenders"]
    ]
    return [
        "## Contenders",
        "",
        f"Mean over {found['models']} models, each with a seed of its own, with the t interval of the mean; it speaks "
        "of these test records. Test accuracy is of one answer to each record. Training accuracy is on the records "
        "that are in every training set. Epsilon is that of the mechanisms that ran; noise in the forward pass yields "
        "none.",
        "",
        *table(rows),
    ]


def risks(found: Row, kind: str) -> list[str]:
    """TPR and AUC against canaries of one kind: rows by contender and attack, columns by way of asking."""
    of_kind = [row for row in found["risks"] if row["kind"] == kind]
    ways = _ways(of_kind)
    told = f"{', '.join(f'*{_head(way)}*: {_words(way, found)}' for way in ways)}."
    told += " A contender that does not answer at random is asked once."
    if found["claims"]:
        told += f" The attack in the verdicts is {found['fixed']['attack']}."
    lines = [f"## Risk of {kind} canaries" if kind != "all" else "## Risk", "", told]
    fpr = headline([row["negatives"] for row in of_kind])
    tpr = partial(_tpr, fpr=fpr)
    for title, read in ((f"TPR at {fpr:.0%} false positives", tpr), ("AUC", _auc)):
        keys = list(dict.fromkeys((row["contender"], row["attack"]) for row in of_kind))
        cells = {(row["contender"], row["attack"], row["way"]): read(row) for row in of_kind}
        rows = [
            {"contender": name, "attack": attack}
            | {_head(way): cells.get((name, attack, way), "-") for way in ways if way != "gradient-norm"}
            for name, attack in keys
            if attack != "gradient-norm"
        ]
        lines += ["", f"### {title}, {kind}", "", *table(rows)]
        norms = [{"contender": name, title: cells[name, attack, "gradient-norm"]}
                 for name, attack in keys if (name, attack, "gradient-norm") in cells]  # fmt: skip
        if norms:
            lines += ["", "With the weights, by the norm of each record's gradient:", "", *table(norms)]
    return lines


def _ways(rows: Sequence[Row]) -> list[str]:
    there = list(dict.fromkeys(row["way"] for row in rows))
    between = sorted((way for way in there if way.startswith("k=")), key=lambda way: int(way[2:]))
    order = [ORDER[0], *between, *ORDER[1:]]
    return [way for way in order if way in there]


def _head(way: str) -> str:
    return {"one": "k=1"}.get(way, way)


def _words(way: str, found: Row) -> str:
    most = found["draws"][-1]
    return {
        "one": "one answer",
        "many": f"the mean of the statistic over {most} draws",
        "mean of logits": f"the statistic of the mean of {most} logits",
        "mean of probabilities": f"the statistic of the mean of {most} probabilities",
        "drift": "noise off, which takes the weights",
        "common": f"{most} draws of noise that all records share, which takes the weights",
        "gradient-norm": "by gradient norm, which takes the weights",
    }.get(way, f"the mean of the statistic over {way[2:]} draws")


def _tpr(row: Row, fpr: float) -> str:
    return percent(row["tpr"].get(f"{fpr:g}"))


def _auc(row: Row) -> str:
    auc = row["auc"]
    return "not resolvable" if auc["value"] is None else f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"


def not_run(found: Row) -> list[str]:
    """What could not be tried, and why."""
    if not found["not_run"]:
        return []
    return ["## Not tried", ""] + [
        f"- {name}: {what}: {why}" for name, all_of in found["not_run"].items() for what, why in all_of.items()
    ]


def settings(found: Row) -> list[str]:
    """Guarantees and settings, as they ran."""
    return [
        "## Guarantees and settings",
        "",
        *(f"- `{row['name']}`: {row['guarantee']}. `{row['settings']}`" for row in found["contenders"]),
    ]


def percent(value: Row | None) -> str:
    """A share with its interval, in percent."""
    if value is None or value["value"] is None:
        return "not resolvable"
    if value["low"] is None:
        return f"{100 * value['value']:.1f} %"
    return f"{100 * value['value']:.1f} % ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown rows."""
    if not rows:
        return ["(nothing yet)"]
    head = list(rows[0])
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row[name] for name in head) + " |" for row in rows),
    ]
