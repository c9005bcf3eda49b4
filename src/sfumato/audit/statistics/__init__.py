"""Statistics of membership games: step ROC, intervals, cluster bootstrap, per-unit vulnerability. NumPy only."""

from sfumato.audit.statistics.bootstrap import (
    FEWEST_TARGETS,
    CrossedGame,
    CrossedVariance,
    Resamples,
    SortedGame,
    WeightedROC,
    bca_interval,
    bootstrap,
    crossed_game,
    crossed_scale,
    crossed_variance,
    draw_resamples,
    full_roc,
    percentile_interval,
    sort_game,
    weighted_auc,
    weighted_tnr_at_fnr,
    weighted_tpr_at_fpr,
)
from sfumato.audit.statistics.calibrated import calibrated_tpr
from sfumato.audit.statistics.crossfit import (
    AdvantageInterval,
    advantage_at,
    best_advantage,
    crossfitted_calls,
    replicated_rates,
)
from sfumato.audit.statistics.estimate import Counts, Estimate, unresolved
from sfumato.audit.statistics.groups import GroupSummary, by_group
from sfumato.audit.statistics.influence import advantage_influence, auc_influence
from sfumato.audit.statistics.intervals import (
    AUCInterval,
    Interval,
    MeanInterval,
    auc_placements,
    clopper_pearson,
    clopper_pearson_lower,
    clopper_pearson_upper,
    delong,
    mean_interval,
    paired_difference,
)
from sfumato.audit.statistics.per_target import PerTarget, per_target
from sfumato.audit.statistics.pooled import AttackSummary, ROCBand, summarise
from sfumato.audit.statistics.roc import (
    ROC,
    MemberScores,
    advantage,
    auc,
    balanced_accuracy,
    best_threshold,
    by_membership,
    negatives_needed,
    ppv,
    resolvable,
    roc,
    thin,
    tnr_at_fnr,
    tpr_at_fpr,
)
from sfumato.audit.statistics.stability import Stability, compare_rankings, split_half_stability
from sfumato.audit.statistics.unit_rates import UnitRates, unit_rates, worst_unit
from sfumato.audit.statistics.units import combine
from sfumato.audit.statistics.vulnerability import (
    Histogram,
    UnitVulnerability,
    WorstShare,
    histogram,
    unit_vulnerability,
    worst_share,
)

__all__ = [
    "AUCInterval", "AdvantageInterval", "AttackSummary", "Counts", "CrossedGame", "CrossedVariance",
    "Estimate", "FEWEST_TARGETS", "GroupSummary", "Histogram", "Interval", "MeanInterval", "MemberScores",
    "PerTarget", "ROC", "ROCBand", "Resamples", "SortedGame", "Stability", "UnitRates", "UnitVulnerability",
    "WeightedROC", "WorstShare", "advantage", "advantage_at", "advantage_influence", "auc", "auc_influence",
    "auc_placements", "balanced_accuracy", "bca_interval", "best_advantage", "best_threshold", "bootstrap",
    "by_group", "by_membership", "calibrated_tpr", "clopper_pearson", "clopper_pearson_lower", "clopper_pearson_upper",
    "combine", "compare_rankings", "crossed_game", "crossed_scale", "crossed_variance", "crossfitted_calls",
    "delong", "draw_resamples", "full_roc", "histogram", "mean_interval", "negatives_needed",
    "paired_difference", "per_target", "percentile_interval", "ppv", "replicated_rates", "resolvable",
    "roc", "sort_game", "split_half_stability", "summarise", "thin", "tnr_at_fnr", "tpr_at_fpr",
    "unit_rates", "unit_vulnerability", "unresolved", "weighted_auc", "weighted_tnr_at_fnr", "weighted_tpr_at_fpr",
    "worst_share", "worst_unit",
]  # fmt: skip
