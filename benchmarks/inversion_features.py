"""Public features for private training: principal components of the public people's faces, as weights of a first layer.

    python benchmarks/inversion_features.py --data olivetti:PATH --size 28 --first-public 30 --out features.safetensors

The hidden layer of `table-mlp` with `hidden = [128]` becomes relu(+c) and relu(-c) of 64 whitened components c, so that
nothing of them is lost to the ReLU. No private face is read: people from `--first-public` on are public.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from sfumato.atomic import replacing
from sfumato.data.population import Population
from sfumato.data.sources import open_source

COMPONENTS = 64


def public_faces(population: Population, first: int) -> np.ndarray:
    """float64 [k, pixels] of the people from `first` on."""
    rows = np.flatnonzero(population.label_array >= first)
    return population.tensor(rows).flatten(1).double().numpy()


def whitened(faces: np.ndarray, components: int) -> dict[str, torch.Tensor]:
    """Weight [2 components, pixels] and bias of the layer; each component has unit variance on the public faces, and
    the squared norm of a record's features is 1 on average.
    """
    mean = faces.mean(axis=0)
    _, spread, axes = np.linalg.svd(faces - mean, full_matrices=False)
    scale = spread[:components] / np.sqrt(len(faces) - 1) * np.sqrt(components)
    weight = axes[:components] / scale[:, None]
    both = np.concatenate([weight, -weight])
    return {
        "1.weight": torch.from_numpy(both).float().contiguous(),
        "1.bias": torch.from_numpy(-both @ mean).float().contiguous(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--first-public", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    faces = public_faces(open_source(given.data, unit="example", size=given.size).load(), given.first_public)
    with replacing(given.out) as temporary:
        save_file(whitened(faces, min(COMPONENTS, len(faces) - 1)), temporary)
    print(f"Wrote {given.out}: {COMPONENTS} components of {len(faces)} public faces.")


if __name__ == "__main__":
    main()
