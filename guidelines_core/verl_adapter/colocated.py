"""The reward of a solver that shares the training GPUs and solves after all of a step's guidelines are written.

verl 0.9.1 passes only prompts and responses to such a reward loop (`PPOTrainer._compute_reward_colocate`): its reward
manager fails with KeyError 'data_source', and its results go to fields that nothing reads. One rollout without verdict
would end the run there; here it is dropped, as it is where rewards are computed while guidelines are written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import transfer_queue as tq
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from guidelines_core.verl_adapter.lost_rollouts import TooManyLostError

UNGRADED: dict[str, Any] = {"reward_score": 0.0, "reward_extra_info": {"score": 0.0, "acc": 0.0, "graded": ""}}
"""What stands for the reward of a rollout without verdict until `keep` drops the rollout."""

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


def keep(batch: Any, rows: list[dict[str, Any]], first_failure: Callable[[], str]) -> Any:
    """Write the graded `rows` to the fields of `batch` that verl's streaming reward writes.

    `first_failure` returns in words why the first rollout without verdict got none.

    Returns:
        The batch without the rollouts that have no verdict, whose data is removed.

    Raises:
        TooManyLostError: no rollout has a verdict.
    """
    lost = [key for key, row in zip(batch.keys, rows, strict=True) if not row["graded"]]
    if lost:
        if len(lost) == len(rows):
            raise TooManyLostError(f"none of {len(rows)} rollouts got a verdict; {first_failure()}")
        tq.kv_clear(keys=lost, partition_id=batch.partition_id)
        batch = batch.select_keys([key for key in batch.keys if key not in set(lost)])
        rows = [row for row in rows if row["graded"]]
    found = read(batch, ("extra_fields",))["extra_fields"]
    fields = [{"extra_fields": {**extra, "reward_extra_info": row}} for extra, row in zip(found, rows, strict=True)]
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=list_of_dict_to_tensordict(fields))
    return batch


def read(batch: Any, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return fields of the batch's rollouts that are not tensors, each as a list."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(names))
    return {name: [getattr(value, "data", value) for value in data[name]] for name in names}


def as_objects(values: list[Any]) -> Any:
    """Return `values` as an array of objects, shape (len(values),)."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
