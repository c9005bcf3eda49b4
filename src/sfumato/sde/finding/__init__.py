"""Finding residual blocks in a network that somebody else wrote, and putting solvers in their place."""
