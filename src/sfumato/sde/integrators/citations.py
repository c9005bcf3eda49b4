"""References that several integrators share."""

from __future__ import annotations

HAIRER1993 = """@book{hairer1993solving,
  author = {Hairer, Ernst and N{\\o}rsett, Syvert P. and Wanner, Gerhard},
  title = {Solving Ordinary Differential Equations I: Nonstiff Problems},
  publisher = {Springer},
  edition = {2},
  year = {1993}
}"""

KLOEDEN1992 = """@book{kloeden1992numerical,
  author = {Kloeden, Peter E. and Platen, Eckhard},
  title = {Numerical Solution of Stochastic Differential Equations},
  publisher = {Springer},
  year = {1992}
}"""
