from __future__ import annotations

import io
from functools import lru_cache

import pytest
from omegaconf import DictConfig
from rich.console import Console

from guidelines_core.config import layout
from guidelines_core.config.compose import compose

EXPECTED = {
    "hybrid-3p1": ([("0-2", "rollout + training"), ("3", "solver")], 4, 3, 1),
    "hybrid-3p1-x2": ([("0-2 of 2 nodes", "rollout + training"), ("3 of 2 nodes", "solver")], 8, 6, 2),
    "split-1p2p1": ([("0", "rollout"), ("1-2", "training"), ("3", "solver")], 4, 1, 1),
    "1p1": ([("0", "rollout + training"), ("1", "solver")], 2, 1, 1),
    "colocated-1": ([("0", "rollout + solver + training")], 1, 1, 1),
    "cpu": ([("0", "rollout + training"), ("1", "solver")], 2, 1, 1),
}


@lru_cache
def with_layout(name: str) -> DictConfig:
    return compose("numinamath30k-3b-300steps-mathverify-fast", [f"layout={name}"], environ={})


@pytest.mark.parametrize("name", EXPECTED)
def test_who_sits_where(name: str) -> None:
    config = with_layout(name)
    found = [(placement.label, placement.role) for placement in layout.placements(config)]
    engines = (layout.rollout_engines(config), layout.solver_engines(config))
    assert (found, layout.gpus_needed(config), *engines) == EXPECTED[name]


def test_the_table_says_gpu_role_work_and_memory() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    config = with_layout("split-1p2p1")
    console.print(layout.table(config, {"rollout": 71.1, "training": 68.4}, " on H100"))
    lines = console.export_text().splitlines()
    for words in (
        ["0", "rollout", "30 prompts x 4 rollouts = 120", "71 GiB"],
        ["1-2", "actor and reference", "68 GiB"],
    ):
        assert any(all(word in line for word in words) for line in lines), words
    assert any("solver, 120 solutions" in line and "unknown" in line for line in lines)
