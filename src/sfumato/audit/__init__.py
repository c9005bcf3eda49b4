"""Plan, run and record audits; statistics and epsilon bounds are pure NumPy and SciPy."""
