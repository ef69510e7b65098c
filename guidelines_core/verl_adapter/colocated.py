"""The reward of a solver that shares the training GPUs and solves after all of a step's guidelines are written.

verl 0.9.1 passes only prompts and responses to such a reward loop (`PPOTrainer._compute_reward_colocate`): its reward
manager fails with KeyError 'data_source', and its results go to fields that nothing reads. A rollout without verdict
ends the run, since verl gathers the whole batch and drops no rollout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import transfer_queue as tq
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

PROBLEM = ("data_source", "reward_model", "extra_info")
"""The fields of a rollout that verl's reward manager reads besides its tokens (`reward_manager/naive.py`)."""


class WithProblems:
    """verl's reward loop for one batch, with the rollouts' problems; it keeps their graded rows.

    Attributes:
        rows: what the reward function returned for each rollout, in the batch's order.
    """

    def __init__(self, manager: Any, batch: Any) -> None:
        self._manager = manager
        self._problems = read(batch, PROBLEM)
        self.rows: list[dict[str, Any]] = []

    def compute_rm_score(self, data: Any) -> Any:
        """Replace verl's `RewardLoopManager.compute_rm_score`."""
        data.non_tensor_batch.update({name: as_objects(values) for name, values in self._problems.items()})
        output = self._manager.compute_rm_score(data)
        names = output.meta_info.pop("reward_extra_keys")
        columns = [output.non_tensor_batch[name].tolist() for name in names]
        self.rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return output


def keep(batch: Any, rows: list[dict[str, Any]]) -> None:
    """Write the graded `rows` to the fields of `batch` that verl's streaming reward writes."""
    found = read(batch, ("extra_fields",))["extra_fields"]
    fields = [{"extra_fields": {**extra, "reward_extra_info": row}} for extra, row in zip(found, rows, strict=True)]
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=list_of_dict_to_tensordict(fields))


def read(batch: Any, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return fields of the batch's rollouts that are not tensors, each as a list."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(names))
    return {name: [getattr(value, "data", value) for value in data[name]] for name in names}


def as_objects(values: list[Any]) -> Any:
    """Return `values` as an array of objects, shape (len(values),)."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
