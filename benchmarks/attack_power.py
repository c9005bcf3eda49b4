"""How strong the attacks are: against a closed form, against each other, and with few references.

    python benchmarks/attack_power.py --json

1. On synthetic Gaussian scores the online LiRA's AUC and TPR are compared with the closed form.
2. On 64 small CNNs, each trained on half of 2,000 Fashion-MNIST images until it fits them (40 epochs), the ladder
   loss < calibration < LiRA is measured with intervals.
3. With k = 4, 8, 16, 32 and 62 references (64 models less the target and its partner), BaVarIA is compared with the
   better of LiRA with per-example and with pooled variances, on the same queries. A difference is a mean over targets
   with its paired interval at 95%; "significantly below" means that the whole interval is below 0.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.stats import norm

from sfumato.attacks.evidence import Evidence
from sfumato.attacks.membership.base import MembershipAttack
from sfumato.attacks.membership.bavaria import BaVarIA
from sfumato.attacks.membership.calibration import Calibration
from sfumato.attacks.membership.lira import LiRAOnline
from sfumato.attacks.membership.loss import LossThreshold
from sfumato.audit.compare import gather, jobs_for
from sfumato.audit.game import Game, Played, play, siblings
from sfumato.audit.settings import AuditSettings
from sfumato.audit.statistics import auc, clopper_pearson, delong, paired_difference, summarise, tpr_at_fpr
from sfumato.data.sources.fashion_mnist import FashionMNIST
from sfumato.defences.undefended import Undefended
from sfumato.execution.progress import open_display
from sfumato.execution.run import execute
from sfumato.execution.store import Store
from sfumato.seeding import stream
from sfumato.targets.answers import Answers
from sfumato.training.presets.image_cnn import ImageCNN
from sfumato.training.recipe import Recipe

REFERENCES = (4, 8, 16, 32, 62)
FPRS = (0.1, 0.01, 0.001)


def gaussian(seed: int) -> dict[str, object]:
    """Scores N(d, 1) for members and N(0, 1) for the others, whatever the record: AUC = Phi(d / sqrt 2).

    512 references, so that the means which LiRA estimates are nearly the true ones. `match` says whether the closed
    form lies in the 99% interval.
    """
    distance, records, references, confidence = 1.5, 40_000, 512, 0.99
    rng = stream(seed, "gaussian")
    member = rng.permutation(records) < records // 2
    coins = rng.random((references // 2, records)) < 0.5
    inside = np.stack([coins, ~coins], axis=1).reshape(references, records)
    phi = rng.standard_normal((references + 1, records)) + distance * np.concatenate([member[None], inside])
    logits = np.stack([phi / 2, -phi / 2], axis=-1)  # phi = z_0 - z_1, and every label is 0
    labels = np.zeros(records, dtype=np.int64)
    evidence = Evidence(
        labels=labels,
        target=Answers(labels, logits[:1]),
        game=np.ones(records, dtype=bool),
        public=np.zeros(records, dtype=bool),
        references=Answers(labels, logits[1:]),
        membership=inside,
    )
    scores = LiRAOnline(variance="pooled-residual").score(evidence)
    yes, no = scores[member], scores[~member]
    ci = delong(yes, no, confidence)
    found: dict[str, object] = {"auc": _against(ci.value, ci.low, ci.high, float(norm.cdf(distance / np.sqrt(2))))}
    for fpr in FPRS:
        hits = round(tpr_at_fpr(yes, no, fpr) * len(yes))
        threshold_noise = norm.pdf(norm.ppf(fpr) + distance) / norm.pdf(norm.ppf(fpr)) * np.sqrt(fpr / len(no))
        exact = clopper_pearson(hits, len(yes), confidence)
        more = norm.ppf(0.5 + confidence / 2) * threshold_noise  # the threshold is estimated from the non-members
        closed = float(norm.cdf(norm.ppf(fpr) + distance))
        found[f"tpr_at_{fpr:g}"] = _against(hits / len(yes), float(exact.low) - more, float(exact.high) + more, closed)
    return found


def _against(value: float, low: float, high: float, closed_form: float) -> dict[str, float | bool]:
    return {
        "value": float(value), "low": float(low), "high": float(high), "closed_form": closed_form,
        "match": bool(low <= closed_form <= high),
    }  # fmt: skip


def trained_game(args: argparse.Namespace) -> Game:
    """Small CNNs on complementary halves of Fashion-MNIST images, trained until they fit them; found in the store or
    trained."""
    population = FashionMNIST(part="train", records=args.records, seed=args.seed).load()
    task = ImageCNN(epochs=args.epochs, batch_size=args.batch_size).task(population)
    settings = AuditSettings(attacks=(LossThreshold(),), models=args.models, seed=args.seed)
    membership = settings.membership(population)
    jobs = jobs_for(population, [Recipe(task, Undefended())], membership, settings)[0]
    with open_display("plain") as on_event:
        done = execute(jobs, Store(Path(args.store)), on_event=on_event)
    return siblings(population, membership, gather(done.results, population), task.model)


def ladder(game: Game, seed: int) -> dict[str, object]:
    """Loss, calibration, LiRA: AUC and TPR with intervals, and the paired steps between neighbours."""
    attacks = (LossThreshold(), Calibration(), LiRAOnline())
    played = [_play(game, attack, seed) for attack in attacks]
    found: dict[str, object] = {}
    for one in played:
        summary = summarise(one.scores, game.members, game.in_game, fprs=FPRS, rng=stream(seed, one.attack.name))
        found[one.attack.name] = [_shown(e) for e in (summary.auc, *summary.tpr_at_fpr)]
    for lower, upper in pairwise(played):
        found[f"{upper.attack.name} - {lower.attack.name}"] = _difference(game, upper, lower)
    return found


def few_references(game: Game, seed: int) -> dict[str, object]:
    """BaVarIA against the better LiRA, reference count by reference count."""
    found: dict[str, object] = {}
    rivals = {"per-example": LiRAOnline(variance="per-example"), "pooled": LiRAOnline(variance="pooled-residual")}
    for k in REFERENCES:
        if k > len(game.cases) - 2:
            continue
        small = replace(game, cases=tuple(replace(case, references=case.references[:k]) for case in game.cases))
        ours = _play(small, BaVarIA(), seed)
        rows = {name: _play(small, attack, seed) for name, attack in rivals.items()}
        row: dict[str, object] = {"bavaria": _rates(small, ours)}
        for name, played in rows.items():
            row[f"lira {name}"] = _rates(small, played)
        for metric in ("auc", "tpr_at_0.01", "tpr_at_0.001"):
            better = max(rows, key=lambda name: np.mean(_per_target(small, rows[name])[metric]))
            ci = paired_difference(_per_target(small, ours)[metric], _per_target(small, rows[better])[metric])
            row[f"difference {metric}"] = {
                "better_lira": better, "value": ci.mean, "low": ci.low, "high": ci.high,
                "significantly_below": bool(ci.high < 0),
            }  # fmt: skip
        found[str(k)] = row
    return found


def _play(game: Game, attack: MembershipAttack, seed: int) -> Played:
    return play(game, attack, seed, lambda fit: fit.run())


def _per_target(game: Game, played: Played) -> dict[str, np.ndarray]:
    """[targets] AUC and TPR at 1% and 0.1% FPR; each target on its own thresholds."""
    columns: dict[str, list[float]] = {"auc": [], "tpr_at_0.01": [], "tpr_at_0.001": []}
    for scores, members in zip(played.scores[:, game.in_game], game.members[:, game.in_game], strict=True):
        columns["auc"].append(float(auc(scores[members], scores[~members])))
        for fpr in (0.01, 0.001):
            columns[f"tpr_at_{fpr:g}"].append(float(tpr_at_fpr(scores[members], scores[~members], fpr)))
    return {name: np.array(values) for name, values in columns.items()}


def _rates(game: Game, played: Played) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in _per_target(game, played).items()}


def _difference(game: Game, upper: Played, lower: Played) -> dict[str, list[float]]:
    a, b = _per_target(game, upper), _per_target(game, lower)
    out = {}
    for name in a:
        ci = paired_difference(a[name], b[name])
        out[name] = [ci.mean, ci.low, ci.high]
    return out


def _shown(estimate) -> dict[str, float | None]:
    return {
        "name": estimate.name,
        "at": estimate.at,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", default=".sfumato")
    args = parser.parse_args()
    game = trained_game(args)
    found = {
        "scale": {"records": args.records, "models": args.models, "epochs": args.epochs},
        "gaussian": gaussian(args.seed),
        "ladder": ladder(game, args.seed),
        "few_references": few_references(game, args.seed),
    }
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
