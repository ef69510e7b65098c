"""verl's training workers in this process, without Ray, for benchmarks of a step's training side."""

from __future__ import annotations

import copy
import os
import socket
from typing import Any

import numpy as np
from omegaconf import DictConfig, open_dict


def preload() -> None:
    """Import the workers' modules, so that forks of this process have them."""
    import torch._dynamo  # noqa: F401
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401
    from verl.workers import engine, engine_workers  # noqa: F401


class LocalWorkers:
    """verl's workers of the given roles (`actor`, `ref`) with their models, as one training process of rank 0.

    Log-probs and losses of a batch: see `batch_part` for what a batch is.
    """

    def __init__(self, config: DictConfig, roles: tuple[str, ...]) -> None:
        from verl.utils.device import set_expandable_segments
        from verl.workers.engine_workers import ActorRolloutRefWorker

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        rank = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({key: str(value) for key, value in rank.items()})
        section = config.actor_rollout_ref
        with open_dict(section):
            # verl's trainer does this before it creates its workers.
            section.actor.optim.total_training_steps = config.trainer.total_training_steps
        if config.trainer.device == "cuda":
            import torch

            torch.cuda.set_device(0)
            set_expandable_segments(True)
        self._actor = section.actor
        self._workers = {}
        for role in roles:
            self._workers[role] = ActorRolloutRefWorker(config=copy.deepcopy(section), role=role)
            self._workers[role].init_model()

    def old_log_probs(self, batch: Any) -> Any:
        """Return the actor's output for `batch`, with `log_probs`."""
        return self._workers["actor"].compute_log_prob(batch)

    def reference_log_probs(self, batch: Any) -> Any:
        """Return the reference policy's output for `batch`, with `log_probs`."""
        return self._workers["ref"].compute_ref_log_prob(batch)

    def update(self, batch: Any, rows: int) -> Any:
        """Update the actor by mini-batches of `rows`; return its output, with `metrics`."""
        from verl.utils import tensordict_utils as tu

        actor = self._actor
        # The options of an update as in verl's `_update_actor`.
        tu.assign_non_tensor(
            batch, calculate_entropy=actor.calculate_entropy or actor.entropy_coeff != 0, global_batch_size=rows,
            mini_batch_size=rows, epochs=actor.ppo_epochs, seed=actor.data_loader_seed,
            dataloader_kwargs={"shuffle": actor.shuffle}, distillation_use_topk=False, distillation_only=False,
        )  # fmt: skip
        return self._workers["actor"].update_actor(batch)


def log_prob_kernel() -> Any:
    """Return verl's kernel for log-probs without logits, as the engines use it: it leaves out the label `IGNORED`.

    It is called with hidden states, vocabulary weights, labels and a temperature, see `log_probs_of_labels`.
    """
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    from guidelines_core.verl_adapter.response_positions import leave_out_ignored

    leave_out_ignored()
    return FusedLinearForPPO()


def batch_part(batch: Any, rows: int, options: dict[str, Any]) -> Any:
    """Return a copy of the first `rows` of a batch (a TensorDict of nested tensors), with the worker's `options`."""
    from verl.utils import tensordict_utils as tu

    taken = tu.index_select_tensor_dict(batch, list(range(rows)))
    counts = taken["input_ids"].offsets().diff().tolist()
    tu.assign_non_tensor(taken, global_token_num=counts, **options)
    return taken


def response_log_probs(output: Any, batch: Any) -> Any:
    """Return the responses' part of a worker's log-probs, a nested tensor with a row for each of the batch's."""
    from verl.workers.utils.padding import response_from_nested

    return response_from_nested(output["log_probs"], batch["response_mask"])


def flat_log_probs(output: Any, batch: Any, real: int) -> np.ndarray[Any, Any]:
    """Return the log-probs of the first `real` rows' responses, one after the other; shape (tokens,)."""
    rows = response_log_probs(output, batch).unbind()[:real]
    return np.concatenate([row.float().numpy() for row in rows])
