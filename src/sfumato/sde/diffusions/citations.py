"""References that several diffusion fields share."""

from __future__ import annotations

LIU2019 = """@article{liu2019neural,
  author = {Liu, Xuanqing and Xiao, Tesi and Si, Si and Cao, Qin and Kumar, Sanjiv and Hsieh, Cho-Jui},
  title = {Neural {SDE}: Stabilizing Neural {ODE} Networks with Stochastic Noise},
  journal = {arXiv preprint arXiv:1906.02355},
  year = {2019}
}"""
