"""Sends training workers the tensors of a batch, and no texts.

verl's workers read every field of a batch in each phase and walk through each. A rollout's fields include its question,
its conversation and what the grader recorded, with every solution; training reads none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import transfer_queue as tq

IMAGES = "multi_modal_inputs"
"""The field without a tensor for each row that verl's workers do read."""


def read_in_training(schema: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the fields of TransferQueue's `field_schema` that training reads: tensors and images."""
    return [name for name, field in schema.items() if name == IMAGES or not field["is_non_tensor"]]


@contextmanager
def tensors_alone(batch: Any) -> Iterator[None]:
    """Let workers read of a `KVBatchMeta` only what training reads, until the block ends."""
    known = tq.get_client().kv_retrieve_meta(keys=batch.keys, partition_id=batch.partition_id)
    before, batch.fields = batch.fields, read_in_training(known.field_schema)
    try:
        yield
    finally:
        batch.fields = before


class TensorsAlone:
    """Mixed into verl's trainer: the phases in which training workers read a batch."""

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Compute old log-probs, or take the rollout's."""
        with tensors_alone(batch):
            return super()._compute_old_log_prob(batch, metrics=metrics)  # type: ignore[misc]

    def _compute_ref_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Compute the reference log-probs."""
        with tensors_alone(batch):
            return super()._compute_ref_log_prob(batch, metrics=metrics)  # type: ignore[misc]

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Update the actor."""
        with tensors_alone(batch):
            return super()._update_actor(batch, metrics=metrics)  # type: ignore[misc]
