"""Formal privacy: events, guarantees. Needs no torch."""
