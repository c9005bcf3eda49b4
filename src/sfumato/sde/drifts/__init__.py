"""Drift fields: networks of time and state that keep the state's shape."""
