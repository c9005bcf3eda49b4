"""Attacks: one file each, found by discovery. Games: membership and inversion; later extraction and others."""
