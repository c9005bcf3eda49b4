"""Additive noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sfumato.sde.diffusions.base import DiffusionField, Fields


@dataclass(frozen=True, kw_only=True)
class Additive(DiffusionField):
    """g = sigma, wherever the state is."""

    name: ClassVar[str] = "additive"
    summary: ClassVar[str] = "The same strength everywhere: sigma."
    reference: ClassVar[str] = "liu2019neural"
    bibtex: ClassVar[str] = """@article{liu2019neural,
  author = {Liu, Xuanqing and Xiao, Tesi and Si, Si and Cao, Qin and Kumar, Sanjiv and Hsieh, Cho-Jui},
  title = {Neural {SDE}: Stabilizing Neural {ODE} Networks with Stochastic Noise},
  journal = {arXiv preprint arXiv:1906.02355},
  year = {2019}
}"""

    def along(self, learned: torch.Tensor | None) -> Fields:
        return Fields(lambda _, h, __: h.new_full((), self.sigma), lambda _, h, __: h.new_zeros(()))
