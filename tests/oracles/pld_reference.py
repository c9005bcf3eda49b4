"""Writes `pld_reference.json`: epsilons of dp-accounting's own PLD accountant at a discretisation of 1e-5.

    python tests/oracles/pld_reference.py

takes about half an hour, which is why the numbers are stored. Settings whose distribution would need more than ten
million grid points are left out: dp-accounting cannot hold them.
"""

import json
import sys
from itertools import product
from pathlib import Path

from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution as pld

from sfumato.accounting.accountants.pld import sides
from sfumato.accounting.composition import window
from sfumato.accounting.mechanisms.poisson_gaussian import PoissonGaussian

GRID = 1e-5
RATES, NOISES, STEPS, DELTAS = (
    (1e-6, 1e-4, 0.01, 0.3),
    (100.0, 3.0, 0.8, 0.3),
    (1, 30, 1000, 30_000, 1_000_000),
    (1e-5, 1e-8),
)
RELATIONS = ("ADD_OR_REMOVE_ONE", "REPLACE_ONE")
LARGEST = 10_000_000


def composed(rate, noise, steps, relation, one):
    if rate == 1:
        scaled = noise / steps**0.5
        return pld.from_gaussian_mechanism(
            scaled, value_discretization_interval=GRID, neighboring_relation=NeighboringRelation[relation]
        )
    return one.self_compose(steps)


def rows():
    settings = [*product(RATES, NOISES, RELATIONS[:1]), (0.01, 0.8, RELATIONS[1]), (1e-4, 3.0, RELATIONS[1])]
    for rate, noise, relation in settings:
        one = pld.from_gaussian_mechanism(
            noise,
            value_discretization_interval=GRID,
            sampling_prob=rate,
            neighboring_relation=NeighboringRelation[relation],
        )
        yield from at(rate, noise, relation, one, STEPS)
    for noise, relation in product((100.0, 3.0, 0.8), RELATIONS):
        yield from at(1.0, noise, relation, None, STEPS)


def at(rate, noise, relation, one, several):
    for steps in several:
        mechanism = PoissonGaussian(sample_rate=rate, noise_multiplier=noise, steps=steps, adjacency=relation)
        spreads = [window(side) for side in sides([mechanism], GRID, 1e-5)]
        if max(spread.high - spread.low for spread in spreads) > LARGEST * GRID:
            continue
        found = composed(rate, noise, steps, relation, one)
        for delta in DELTAS:
            epsilon = float(found.get_epsilon_for_delta(delta))
            yield {**mechanism.plain(), "delta": delta, "epsilon": epsilon}
            print(rate, noise, relation, steps, delta, epsilon, file=sys.stderr, flush=True)


if __name__ == "__main__":
    target = Path(__file__).with_name("pld_reference.json")
    target.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows()) + "\n]\n")
