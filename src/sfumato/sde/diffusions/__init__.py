"""Diffusion fields, one file each, found by discovery."""
