from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_update import compare, lengths, positions


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
