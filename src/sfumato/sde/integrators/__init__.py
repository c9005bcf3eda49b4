"""Fixed-step integrators, one file each, found by discovery."""
