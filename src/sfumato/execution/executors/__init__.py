"""Executors: one file each, found by discovery."""
