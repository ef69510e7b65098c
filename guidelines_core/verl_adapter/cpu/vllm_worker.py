"""vLLM's worker on a CPU, with weight updates for layers with packed weights.

Selected by `rollout.engine_kwargs.vllm.worker_extension_cls`. vLLM packs the weights of linear layers for its CPU
kernels and empties `layer.weight` (`vllm/model_executor/layers/utils.py`), so verl's `model.load_weights`
(`verl/workers/rollout/vllm_rollout/utils.py`) cannot copy into them.
"""

from __future__ import annotations

from typing import Any

import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from guidelines_core.verl_adapter.weight_transfer import WorkerExtension


class CPUWorkerExtension(WorkerExtension):
    """The extension of the vLLM worker, with weight updates for packed layers."""

    def update_weights_from_ipc(
        self, peft_config: dict[str, Any] | None = None, base_sync_done: bool = False, use_shm: bool = False
    ) -> None:
        """Receive all buckets of the actor's weights, then reload and pack them together."""
        received: dict[str, torch.Tensor] = {}

        def receive(weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
            # The next bucket reuses the memory, so all but the last are copied.
            received.update(weights if is_last else ((name, tensor.clone()) for name, tensor in weights))
            if is_last:
                self.model_runner.reload_weights(weights_iterator=iter(received.items()))
                repack_lm_head(self.model_runner.model)
                # The shared memory cannot be closed while tensors point into it.
                received.clear()

        BucketedWeightReceiver(
            zmq_handle=self._get_zmq_handle(), device=torch.device("cpu"), use_shm=use_shm
        ).receive_weights(on_bucket_received=receive)


def repack_lm_head(model: torch.nn.Module) -> None:
    """Pack the LM head's weights again.

    A head that is tied to the embeddings has no weights in the actor's state, so a reload does not update its packed
    copy. The rollout would use the old head: `training/rollout_probs_diff_max` is then 1e-3 and grows, instead of 1e-5.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)
