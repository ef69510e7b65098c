from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.bench.update import compare
from analysis.bench.update_arm import Bench
from analysis.bench.update_batch import batch_of, lengths, positions


def test_padding_is_counted_by_micro_batch() -> None:
    assert positions([10, 30, 20, 40], micro_batch=2, packed=False) == 2 * 30 + 2 * 40
    assert positions([10, 30, 20], micro_batch=2, packed=False) == 2 * 30 + 20
    assert positions([10, 30, 20, 40], micro_batch=2, packed=True) == 100


@pytest.mark.parametrize("workload", ["even", "tailed"])
def test_a_workload_is_the_same_each_time_and_a_groups_prompt_too(workload: str) -> None:
    rows = lengths(workload, prompts=30, n=4, cap=3072)
    assert rows == lengths(workload, prompts=30, n=4, cap=3072)
    assert len(rows) == 120
    assert all(len({prompt for prompt, _ in rows[first : first + 4]}) == 1 for first in range(0, 120, 4))
    responses = [response for _, response in rows]
    assert max(responses) == (600 if workload == "even" else 3072)
    assert 450 < np.median(responses) < 750


def test_arms_are_compared_with_the_padded_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "padded.npy", np.array([-1.0, -2.0]))
    np.save(tmp_path / "packed.npy", np.array([-1.0, -2.5]))
    entries: list[dict[str, Any]] = [{"name": "padded"}, {"name": "packed"}, {"name": "failed"}]
    compare(entries, tmp_path)
    assert entries[1]["log_probs_off_padded"] == {"mean": 0.25, "max": 0.5}
    assert set(entries[2]) == {"name"}


def test_rows_that_fill_up_do_not_change_what_the_others_say() -> None:
    rows = lengths("tailed", prompts=2, n=2, cap=300)
    plain, filled = batch_of(rows, 4, vocab=1000), batch_of([*rows, (127, 1), (127, 1)], 4, vocab=1000)
    for key in ("input_ids", "advantages"):
        assert all(bool((a == b).all()) for a, b in zip(plain[key].unbind(), filled[key].unbind()[:4], strict=True))
    assert [int(mask.sum()) for mask in filled["loss_mask"].unbind()] == [*(said for _, said in rows), 0, 0]


def test_a_profile_names_the_operations_of_the_phase() -> None:
    bench = object.__new__(Bench)
    bench._again = lambda: torch.ones(3).cumsum(0)
    said = bench.profile("ref")
    assert said.startswith("ref: 0.")
    assert "aten::cumsum" in said
