from __future__ import annotations

import io
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig
from rich.console import Console

from guidelines_core.config import layout
from guidelines_core.config.compose import changed, compose
from guidelines_core.verl_adapter.allowed_values import WEIGHT_TRANSFER

TWO_SAMPLES = ["guidelines.solver.samples=2", "guidelines.solver.temperature=0.7"]

EXPECTED = {
    "hybrid-3p1": ([("0-2", "rollout + training"), ("3", "solver")], 4, 3, 1),
    "hybrid-3p1-x2": ([("0-2 of 2 nodes", "rollout + training"), ("3 of 2 nodes", "solver")], 8, 6, 2),
    "split-1p2p1": ([("0", "rollout"), ("1-2", "training"), ("3", "solver")], 4, 1, 1),
    "1p1": ([("0", "rollout + training"), ("1", "solver")], 2, 1, 1),
    "split-1p1-shared": ([("0", "training"), ("1", "rollout + solver")], 2, 1, 1),
    "hybrid-4-shared": ([("0-3", "rollout + solver + training")], 4, 4, 4),
    "hybrid-2-shared": ([("0-1", "rollout + solver + training")], 2, 2, 2),
    "colocated-1": ([("0", "rollout + solver + training")], 1, 1, 1),
    "train-only-1": ([("0", "rollout + training")], 1, 1, 0),
    "train-only-4": ([("0-3", "rollout + training")], 4, 4, 0),
    "cpu-train-only": ([("0", "rollout + training")], 1, 1, 0),
    "cpu": ([("0", "rollout + training"), ("1", "solver")], 2, 1, 1),
    "cpu-split-1p1-shared": ([("0", "training"), ("1", "rollout + solver")], 2, 1, 1),
    "cpu-hybrid-2-shared": ([("0-1", "rollout + solver + training")], 2, 2, 2),
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


def test_a_solver_elsewhere_has_no_gpu_and_the_table_says_where_it_is() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    urls = "http://a:8000/v1", "http://b:8000/v1"
    config = compose(
        "numinamath30k-3b-300steps-mathverify-fast",
        ["layout=train-only-4", f"guidelines.solver.url=[{','.join(urls)}]", "guidelines.solver.model=models/x"],
        environ={},
    )
    console.print(layout.table(config, {"rollout": 71.1, "training": 68.4}, " on H100"))
    (line,) = (line for line in console.export_text().splitlines() if "solver" in line)
    assert all(word in line for word in ("none", "solver, 120 solutions a step", *urls))
    assert layout.solver_urls(config) == list(urls)
    assert config.guidelines.solver.model == "models/x"
    assert (layout.solver_gpus(config), layout.solver_in_turns(config)) == (0, False)
    assert layout.logical_cpus(config) < layout.logical_cpus(with_layout("hybrid-3p1")) + 1


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        # 120 rollouts a step, 500 validation problems; three engines share them.
        ("hybrid-3p1", [], (168, 504)),
        ("1p1", [], (504, 504)),
        ("1p1", ["guidelines.data.val_size=30"], (120, 120)),
        ("1p1", ["guidelines.data.val_size=30", "data.train_batch_size=300"], (1024, 1024)),
        ("1p1", ["guidelines.data.val_size=30", *TWO_SAMPLES], (120, 240)),
        # The next batch is asked for while the last one is not finished.
        ("split-1p2p1", ["guidelines.data.val_size=30"], (240, 120)),
        ("1p1", ["actor_rollout_ref.rollout.max_num_seqs=64"], (64, 504)),
    ],
)
def test_an_engine_is_made_for_the_sequences_that_occur(
    name: str, overrides: list[str], expected: tuple[int, int]
) -> None:
    config = compose("numinamath30k-3b-300steps-mathverify-fast", [f"layout={name}", *overrides], environ={})
    engines = config.actor_rollout_ref.rollout, config.reward.reward_model.rollout
    assert (engines[0].max_num_seqs, engines[1].max_num_seqs) == expected
    for engine in engines:
        assert list(engine.cudagraph_capture_sizes) == layout.graph_sizes(engine.max_num_seqs)


@given(st.integers(1, 1024))
def test_a_batch_of_any_size_has_a_graph_of_at_most_twice_its_size(sequences: int) -> None:
    sizes = layout.graph_sizes(sequences)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == min(sequences, layout.LARGEST_GRAPH)
    for batch in range(1, sizes[-1] + 1):
        assert next(size for size in sizes if size >= batch) < 2 * batch or batch == 1


@pytest.mark.parametrize(
    ("name", "own", "cpus"), [("split-1p2p1", 1, 3 * 3 + 2 + 2), ("split-1p1-shared", 0, 3 * 2 + 2), ("1p1", 0, 8)]
)
def test_a_rollout_beside_the_solver_takes_no_gpu_and_no_core_of_its_own(name: str, own: int, cpus: int) -> None:
    assert layout.rollout_gpus(with_layout(name)) == own
    assert layout.logical_cpus(with_layout(name)) == cpus


@pytest.mark.parametrize(
    ("name", "warm_up", "expected"), [("1p1", 1, False), ("split-1p1-shared", 1, True), ("split-1p1-shared", 0, False)]
)
def test_steps_overlap_where_rollouts_are_asked_for_a_step_ahead(name: str, warm_up: int, expected: bool) -> None:
    config = changed(with_layout(name), {"trainer.v1.separate_async.num_warmup_batches": warm_up})
    assert layout.overlaps(config) == expected


def test_forked_processes_have_one_thread_each_for_sums() -> None:
    on_gpus = [name for name in EXPECTED if not name.startswith("cpu")]
    assert {with_layout(name).guidelines.environment.OMP_NUM_THREADS for name in on_gpus} == {"1"}


@pytest.mark.parametrize("name", ["split-1p2p1", "split-1p1-shared"])
def test_weights_that_come_by_nccl_reach_the_engine_through_the_runs_own_socket(name: str) -> None:
    rollout = with_layout(name).actor_rollout_ref.rollout
    extension = rollout.engine_kwargs.vllm.worker_extension_cls
    assert rollout.checkpoint_engine.custom_backend_module == extension.rpartition(".")[0] == WEIGHT_TRANSFER


def test_ray_is_told_of_cores_only_where_the_cluster_is_the_runs_own() -> None:
    own = with_layout("1p1").ray_kwargs.ray_init
    assert (own.num_cpus, own.include_dashboard) == (64, False)
    joined = with_layout("hybrid-3p1-x2").ray_kwargs.ray_init
    assert (joined.num_cpus, joined.include_dashboard) == (None, None)
