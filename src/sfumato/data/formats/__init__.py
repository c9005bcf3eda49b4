"""Readers of file formats: bytes that others wrote go in, arrays or a `DataError` that names the place come out."""
