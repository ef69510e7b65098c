"""Log-probs of responses alone.

verl's kernels for log-probs without logits (`actor_rollout_ref.model.use_fused_kernels`) multiply the hidden state of
every token by the whole vocabulary, and verl reads only the responses' part of the result. Here a prompt's tokens get
the label `IGNORED` and are left out. This is for packed rows without sequence parallelism, and not for verl's Triton
kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

IGNORED = -100
"""The label of a position whose log-prob is not computed, as in torch's cross-entropy."""


class ResponseEngine(FSDPEngineWithLMHead):
    """The language-model engine, with labels for the responses' positions alone."""

    def prepare_model_inputs(self, micro_batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the model's inputs and what reading its outputs needs."""
        inputs, outputs = super().prepare_model_inputs(micro_batch)
        labels = inputs.get("shift_labels")
        # Sequence parallelism gives this process a part of the tokens only.
        if labels is None or self.use_ulysses_sp:
            return inputs, outputs
        # The Triton kernel takes no such label.
        if self.model_config.fused_kernel_options["impl_backend"] != "triton":
            leave_out_ignored()
            read = response_positions(micro_batch["input_ids"].offsets(), micro_batch["responses"].offsets())
            padding = labels.shape[-1] - len(read)
            inputs["shift_labels"] = labels.masked_fill(~torch.nn.functional.pad(read, (0, padding)), IGNORED)
        return inputs, outputs


def response_positions(ends: torch.Tensor, response_ends: torch.Tensor) -> torch.Tensor:
    """Return which positions of packed sequences predict a response's token, shape (tokens,), bool.

    The position before a token predicts it; a response ends its sequence.

    Args:
        ends: where the sequences begin and end, shape (sequences + 1,).
        response_ends: the same of the responses alone.
    """
    tokens = int(ends[-1])
    ends_of = ends[1:].repeat_interleave(ends.diff(), output_size=tokens)
    sizes_of = response_ends.diff().repeat_interleave(ends.diff(), output_size=tokens)
    left = ends_of - torch.arange(tokens, device=ends.device)
    return (left > 1) & (left <= sizes_of + 1)


@functools.cache
def leave_out_ignored() -> None:
    """Make verl's kernels leave out the label `IGNORED`, from now on in this process.

    Only here, since verl's module imports Liger's kernels, which other processes have no use for.
    """
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    of_all = FusedLinearForPPO.forward

    # `__wrapped__` alone: what is said of verl's function, by `upstream.yaml`, is still found.
    @functools.wraps(of_all, assigned=(), updated=())
    def forward(kernel: Any, *arguments: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return log_probs_of_labels(functools.partial(of_all, kernel), *arguments, **more)

    FusedLinearForPPO.forward = forward


def log_probs_of_labels(
    of_all: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    hidden_states: torch.Tensor,
    vocab_weights: torch.Tensor,
    input_ids: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs and entropies, 0 where the label is `IGNORED`.

    Args:
        of_all: returns them for states of shape (positions, hidden), with this function's other arguments.
        hidden_states: shape (..., hidden).
        vocab_weights: shape (vocabulary, hidden).
        input_ids: the labels, shape (...).
        temperature: divides the logits.
    """
    labels = input_ids.flatten()
    read = torch.nonzero(labels != IGNORED).squeeze(-1)
    found = of_all(hidden_states.flatten(0, -2)[read], vocab_weights, labels[read], temperature)
    log_probs, entropy = (row.new_zeros(len(labels)).scatter(0, read, row).view_as(input_ids) for row in found)
    return log_probs, entropy
