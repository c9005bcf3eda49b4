"""Neural ODEs and neural SDEs: noise, drift and diffusion fields, fixed-step integrators, blocks, drop-in replacement.

Training through the noise of a neural SDE is no mechanism in the sense of differential privacy, and nothing in this
room gives an epsilon for it.
"""

from sfumato.sde.block import Schedule, SDEBlock
from sfumato.sde.integrate import Grid, System, integrate
from sfumato.sde.replace import Replacement, replace
from sfumato.sde.streams import StreamLayer, random_layers, set_noise, set_progress

__all__ = [
    "Grid",
    "Replacement",
    "SDEBlock",
    "Schedule",
    "StreamLayer",
    "System",
    "integrate",
    "random_layers",
    "replace",
    "set_noise",
    "set_progress",
]
