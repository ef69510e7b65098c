from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transfer_queue as tq
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from transfer_queue.metadata import extract_field_schema

from guidelines_core.verl_adapter.tensors_alone import TensorsAlone

KEYS = ["a_0_0", "a_1_0"]
PHASES = ("_compute_old_log_prob", "_compute_ref_log_prob", "_update_actor")


class Phases:
    """Records the fields that workers would read in each phase."""

    def __init__(self) -> None:
        self.read: dict[str, list[str] | None] = {}
        self.fails = False

    def _phase(self, name: str, batch: KVBatchMeta) -> KVBatchMeta:
        self.read[name] = batch.fields
        if self.fails:
            raise RuntimeError("out of memory")
        return batch

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        return self._phase("_compute_old_log_prob", batch)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        return self._phase("_compute_ref_log_prob", batch)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        return self._phase("_update_actor", batch)


class Trainer(TensorsAlone, Phases):
    pass


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> KVBatchMeta:
    data = TensorDict(
        {
            "responses": torch.nested.as_nested_tensor([torch.arange(2), torch.arange(3)], layout=torch.jagged),
            "rm_scores": torch.zeros(2, 3),
            "uid": NonTensorStack("a", "a"),
            "extra_fields": NonTensorStack({"graded": "{}"}, {"graded": "{}"}),
            "multi_modal_inputs": NonTensorStack({}, {}),
        },
        batch_size=2,
    )
    found = SimpleNamespace(field_schema=extract_field_schema(data))
    stored = {("train", *KEYS): found}
    client = SimpleNamespace(kv_retrieve_meta=lambda keys, partition_id: stored.get((partition_id, *keys)))
    monkeypatch.setattr(tq, "get_client", lambda: client)
    return KVBatchMeta(keys=KEYS, tags=[{}, {}], partition_id="train")


@pytest.mark.parametrize("before", [None, ["responses", "uid"]])
def test_each_phase_reads_tensors_and_images_and_afterwards_the_batch_is_as_before(
    batch: KVBatchMeta, before: list[str] | None
) -> None:
    trainer = Trainer()
    batch.fields = before
    for phase in PHASES:
        assert getattr(trainer, phase)(batch, metrics={}) is batch
        assert batch.fields == before
    assert trainer.read == {phase: ["responses", "rm_scores", "multi_modal_inputs"] for phase in PHASES}


def test_a_phase_that_fails_leaves_the_batch_as_it_was(batch: KVBatchMeta) -> None:
    trainer = Trainer()
    trainer.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer._update_actor(batch, metrics={})
    assert batch.fields is None
