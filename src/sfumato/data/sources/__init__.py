"""Data sources, one file each, found by discovery; `open_source` turns what a user types into one."""

from sfumato.data.sources.base import Source
from sfumato.data.sources.opening import open_source, sources

__all__ = ["Source", "open_source", "sources"]
