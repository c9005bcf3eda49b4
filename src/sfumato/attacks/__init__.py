"""Attacks: one file each, found by discovery. Games: membership; later inversion, extraction and others."""
