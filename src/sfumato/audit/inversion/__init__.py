"""Inversion measured: what is asked, of which models, how near the guesses came, and what could not have leaked."""
