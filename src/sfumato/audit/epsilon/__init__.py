"""Lower bounds on epsilon, each with its assumption and with the ceiling of a perfect attacker beside it."""

from sfumato.audit.epsilon.bound import EpsilonBound
from sfumato.audit.epsilon.clopper_pearson import (
    clopper_pearson_bound,
    clopper_pearson_ceiling,
    epsilon_from_counts,
)
from sfumato.audit.epsilon.gaussian_dp import (
    delta_of_mu,
    epsilon_to_mu,
    gaussian_dp_bound,
    mu_from_counts,
    mu_to_epsilon,
)
from sfumato.audit.epsilon.guesses import GuessCounts, Guesses, guess
from sfumato.audit.epsilon.one_run import one_run_bound, one_run_epsilon, one_run_p_value
from sfumato.audit.epsilon.one_run_f_dp import (
    one_run_f_dp_bound,
    one_run_f_dp_epsilon,
    one_run_mu,
    rejects_mu,
)
from sfumato.audit.epsilon.plug_in import EpsilonEstimate, plug_in_epsilon
from sfumato.audit.epsilon.thresholds import (
    AbstractThresholdChoice,
    ErrorCounts,
    FixedThreshold,
    HalfSplit,
    HullVertices,
    RandomSplits,
    RankGrid,
)

__all__ = [
    "AbstractThresholdChoice", "EpsilonBound", "EpsilonEstimate", "ErrorCounts", "FixedThreshold", "GuessCounts",
    "Guesses", "HalfSplit", "HullVertices", "RandomSplits", "RankGrid", "clopper_pearson_bound",
    "clopper_pearson_ceiling", "delta_of_mu", "epsilon_from_counts", "epsilon_to_mu", "gaussian_dp_bound", "guess",
    "mu_from_counts", "mu_to_epsilon", "one_run_bound", "one_run_epsilon", "one_run_f_dp_bound",
    "one_run_f_dp_epsilon", "one_run_mu", "one_run_p_value", "plug_in_epsilon", "rejects_mu",
]  # fmt: skip
