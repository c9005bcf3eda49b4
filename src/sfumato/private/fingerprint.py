"""Digests of tensors: whether two are the same to the last bit, without keeping or sending either."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def fingerprint(tensor: torch.Tensor) -> bytes:
    """SHA-256 of type, shape and content; 32 bytes."""
    whole = tensor.detach().cpu().contiguous()
    found = hashlib.sha256(f"{whole.dtype} {tuple(whole.shape)}".encode())
    if whole.numel():
        found.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()


def fingerprint_of(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """SHA-256 of all names and tensors, in order; 32 bytes."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode() + b"\0" + fingerprint(tensor))
    return found.digest()
