"""Defences: one file each, found by discovery. See `sfumato.training.defence` for what a defence is."""
