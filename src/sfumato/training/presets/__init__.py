"""Recipes by name: one file each, found by discovery. A preset is a network with training settings that suit it."""
