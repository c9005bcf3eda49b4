"""Who is in which training set: designs for many models at once.

A design is a Bool matrix [models, units]. Complementary pairs make rows and columns exact: model 2k+1 is trained on
what model 2k was not. When each model in turn is the target, its partner is left out of the references as well, so that
every unit has exactly as many IN as OUT references whatever its membership. (Otherwise the counts themselves would give
membership away: a member of the target would have one IN reference fewer.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfumato.data.population import Population
from sfumato.errors import UsageError
from sfumato.types import Bools
from sfumato.validate import in_range

COINS = "independent fair coins, complementary pairs"


@dataclass(frozen=True, eq=False)
class Membership:
    """A membership design.

    Args:
        matrix: bool [models, units]; True where the unit is in the model's training set.
        in_game: bool [units]; units whose membership is the secret. The others are always in, or public.
        public: bool [units]; units that no model trains on and that the attacker may use as known non-members.
        design: its name, for the record.
        paired: whether models 2k and 2k+1 are complements on the units in the game.
    """

    matrix: Bools
    in_game: Bools
    public: Bools
    design: str
    paired: bool = True

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or {self.in_game.shape, self.public.shape} != {self.matrix.shape[1:]}:
            raise UsageError(
                f"Expected membership [models, units] with `in_game` and `public` [units], got {self.matrix.shape}, "
                f"{self.in_game.shape} and {self.public.shape}."
            )
        if (self.in_game & self.public).any() or self.matrix[:, self.public].any():
            raise UsageError("Expected public units outside every training set and outside the game.")
        if self.paired and len(self.matrix) % 2:
            raise UsageError(f"Expected an even number of models in complementary pairs, got {len(self.matrix)}.")
        if self.paired and (self.matrix[0::2] == self.matrix[1::2])[:, self.in_game].any():
            raise UsageError("Expected models 2k and 2k+1 to be complements on the units in the game.")

    @property
    def models(self) -> int:
        """Number of models."""
        return len(self.matrix)

    @property
    def units(self) -> int:
        """Number of units."""
        return self.matrix.shape[1]

    def rows(self, population: Population, model: int) -> np.ndarray:
        """int64 [k]: the records in the training set of `model`, whole units."""
        return np.flatnonzero(population.rows_of(self.matrix[model]))

    def of_records(self, population: Population) -> Bools:
        """bool [models, records]."""
        return self.matrix[:, population.unit_of]

    def references_for(self, target: int) -> np.ndarray:
        """int64 [r]: the models that may serve as references against `target` (not itself, not its partner)."""
        in_range("target", target, 0, self.models - 1)
        left_out = {target, target ^ 1} if self.paired else {target}
        return np.array([model for model in range(self.models) if model not in left_out], dtype=np.int64)

    @classmethod
    def half_pairs(cls, units: int, models: int, rng: np.random.Generator, *, public: float = 0.0) -> Membership:
        """Complementary halves: each model has half of the units in the game, each such unit is in half of the models.

        Args:
            units: number of units.
            models: even number of models, at least 2.
            rng: decides the halves; earlier pairs do not change when `models` grows, so stored models are reused.
            public: share of the units set aside as known non-members, in [0, 1).
        """
        _check_models(models)
        order = rng.permutation(units)
        n_public = round(public * units)
        game = np.sort(order[n_public:])
        if len(game) % 2:  # an odd unit out, so that both halves are equal and models can be trained side by side
            game = np.setdiff1d(game, order[-1:])
        if len(game) < 2:
            raise UsageError(f"Expected at least two units in the game, got {len(game)} of {units}.")
        matrix = np.zeros((models, units), dtype=bool)
        for first in range(0, models, 2):
            half = rng.permutation(game)
            matrix[first, half[: len(half) // 2]] = True
            matrix[first + 1, half[len(half) // 2 :]] = True
        in_game = np.isin(np.arange(units), game)
        return cls(matrix, in_game, ~in_game, "complementary halves")

    @classmethod
    def coin_pairs(cls, units: int, models: int, rng: np.random.Generator, *, public: float = 0.0) -> Membership:
        """An independent fair coin per unit in every even model, the complement in the next one.

        Sizes of the training sets differ a little, so such models are not stacked; but each single model meets the
        condition of the one-run bounds on epsilon (Steinke et al., arXiv 2305.08846), which exact halves do not.
        """
        _check_models(models)
        order = rng.permutation(units)
        public_mask = np.isin(np.arange(units), order[len(order) - round(public * units) :])
        coins = rng.random((models // 2, units)) < 0.5
        matrix = np.stack([coins, ~coins], axis=1).reshape(models, units) & ~public_mask
        return cls(matrix, ~public_mask, public_mask, COINS)

    @classmethod
    def canary_pairs(
        cls,
        units: int,
        canaries: np.ndarray,
        models: int,
        rng: np.random.Generator,
        *,
        public: np.ndarray | None = None,
    ) -> Membership:
        """Ordinary units always in, canaries in for half of the models (Aerni et al., arXiv 2404.17399).

        Args:
            units: number of units.
            canaries: int [k] positions of the canaries; an odd one is dropped from the game and from training.
            models: even number of models.
            rng: decides the halves.
            public: int [p] positions of units set aside as known non-members.
        """
        _check_models(models)
        given = np.isin(np.arange(units), canaries)
        if given.sum() != len(canaries) or len(canaries) < 2:
            raise UsageError(
                f"Expected at least two distinct canaries among units 0 to {units - 1}, got {int(given.sum())}.",
                remedy="Name positions of units, each once.",
            )
        canaries = np.asarray(canaries)[: len(canaries) // 2 * 2]
        in_game = np.isin(np.arange(units), canaries)
        public_mask = np.isin(np.arange(units), [] if public is None else public)
        matrix = np.tile(~given & ~public_mask, (models, 1))
        for first in range(0, models, 2):
            half = rng.permutation(canaries)
            matrix[first, half[: len(half) // 2]] = True
            matrix[first + 1, half[len(half) // 2 :]] = True
        return cls(matrix, in_game, public_mask, "canaries; ordinary units always in")


def _check_models(models: int) -> None:
    if models < 2 or models % 2:
        raise UsageError(
            f"Expected an even number of models, at least 2, got {models}.",
            remedy="Models are trained in complementary pairs; round up.",
        )
