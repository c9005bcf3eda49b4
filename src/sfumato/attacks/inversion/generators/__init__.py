"""Priors of inversion attacks: maps from a small latent space to records, made from public records."""
