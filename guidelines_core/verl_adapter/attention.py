"""Packed attention with torch's own kernel.

verl packs sequences (`use_remove_padding`) for flash-attention 2, which is published as source only. torch has the same
kernel as `torch.nn.attention.varlen`. This module registers it with transformers;
`actor_rollout_ref.model.override_config.attn_implementation=torch_varlen` selects it. It supports packed batches only:
shape (1, tokens), each sequence's positions from 0.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

NAME = "torch_varlen"

_last: tuple[weakref.ref[torch.Tensor], tuple[torch.Tensor, int]] | None = None
"""The last position ids and their bounds, which all layers of a forward pass share."""


def bounds(position_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return where the packed sequences begin and end, shape (sequences + 1,), int32, and the longest one's tokens.

    Args:
        position_ids: shape (1, tokens), from 0 in each sequence.
    """
    global _last
    if _last is not None and _last[0]() is position_ids:
        return _last[1]
    positions = position_ids.flatten()
    starts = torch.nonzero(positions == 0).flatten()
    ends = torch.cat([starts, starts.new_tensor([positions.numel()])]).to(torch.int32)
    found = ends, int(ends.diff().max())
    _last = weakref.ref(position_ids), found
    return found


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    position_ids: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return causal attention within each packed sequence, shape (1, tokens, heads, head_dim); transformers calls it.

    Args:
        module: the layer's attention; not used.
        query, key, value: shape (1, heads or kv_heads, tokens, head_dim).
        attention_mask, dropout, sliding_window: must be None, 0 and None.
        scaling: factor of the scores.
        position_ids: shape (1, tokens).

    Raises:
        ValueError: the batch is not packed, or the model needs a feature that this kernel lacks.
    """
    if query.shape[0] != 1 or position_ids is None or attention_mask is not None:
        raise ValueError(
            f"attn_implementation={NAME} got a batch of {query.shape[0]} rows: expected one packed row with its "
            "position ids; set actor_rollout_ref.model.use_remove_padding=True"
        )
    if dropout or sliding_window:
        raise ValueError(f"attn_implementation={NAME} has no dropout ({dropout}) and no window ({sliding_window})")
    ends, longest = bounds(position_ids)
    query, key, value = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    if query.device.type == "cuda" and query.dtype != torch.float32:
        from torch.nn.attention.varlen import varlen_attn

        # Newer torch needs an argument for GQA; 2.11 lacks it and supports GQA without.
        more = {"enable_gqa": True} if "enable_gqa" in (varlen_attn.__kwdefaults__ or {}) else {}
        out = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0), **more)
    else:
        out = attend_by_sequence(query, key, value, ends, scaling)
    return out.unsqueeze(0), None


def attend_by_sequence(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Return the result of `varlen_attn`, computed sequence by sequence: for a CPU and for float32, which it lacks.

    Args:
        query, key, value: shape (tokens, heads or kv_heads, head_dim).
        ends: as `bounds` returns them.
        scaling: factor of the scores.
    """
    lengths = ends.diff().tolist()
    rows = zip(*(states.split(lengths) for states in (query, key, value)), strict=True)
    outs = [
        F.scaled_dot_product_attention(
            *(row.transpose(0, 1) for row in one), is_causal=True, scale=scaling, enable_gqa=True
        ).transpose(0, 1)
        for one in rows
    ]
    return torch.cat(outs)


AttentionInterface.register(NAME, attend)
