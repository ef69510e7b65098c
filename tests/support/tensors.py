"""The tensors of a checkpoint's files."""

from __future__ import annotations

import torch


def tensors(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """Return every tensor of a nested state by its path."""
    if isinstance(value, torch.Tensor):
        return {name: getattr(value, "to_local", lambda: value)()}
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {path: tensor for key, one in inner for path, tensor in tensors(one, f"{name}/{key}").items()}
