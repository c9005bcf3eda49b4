"""A network of public classes alone, whose weights a defence can start from (TL-DMI).

    python benchmarks/inversion_public.py --config docs/results/inversion_defences.toml --out public-cnn.safetensors

It is trained as the first contender of the configuration, undefended, on the public classes of its data and on as many
records of them as the attackers get. No private record is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sfumato.cli.config import RunConfig, load
from sfumato.cli.contenders import task_of
from sfumato.data.classes import split_classes
from sfumato.data.population import Population
from sfumato.data.sources import open_source
from sfumato.seeding import stream
from sfumato.training.preparation import Assignment, LoopOptions
from sfumato.training.recipe import Recipe


def public_records(config: RunConfig) -> Population:
    """Records of the public classes, labelled 0, 1, ..."""
    population = open_source(config.data.source).load()
    assert config.audit.inversion is not None, "the configuration names public classes"
    private = [name for name in population.class_names if name not in config.audit.inversion.public_classes]
    public = split_classes(population, private).private
    return public.sample(config.data.records or len(public), stream(config.audit.seed, "public weights"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = load(given.config)
    first, public = config.contenders[0], public_records(config)
    recipe = Recipe(task_of(first.recipe, public), first.defence, first.name)
    trained = recipe.fit(public, [Assignment(np.arange(len(public)), config.audit.seed)], LoopOptions())[0]
    trained.save(given.out)
    print(f"Wrote {given.out}: {first.name}, trained on {len(public)} records of {', '.join(public.class_names)}.")


if __name__ == "__main__":
    main()
