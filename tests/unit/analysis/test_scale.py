"""The divisions of GPUs that are compared, and the command that compares them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from unittest.mock import patch

import pytest

from analysis.diagnosis.divisions import MODES, Mode, divide, refusal, splits, writable
from analysis.scale import main
from guidelines_core.config.compose import changed, compose
from guidelines_core.hardware.shapes import find_shape, gpus
from guidelines_core.paths import ROOT
from tests.support.divided import FAST, base, divided

H200 = gpus()["H200"]
FOUND = find_shape("Qwen/Qwen2.5-3B-Instruct")
assert FOUND is not None
SHAPE = FOUND
IN_TURNS, APART, BESIDE, POOLS = MODES


def test_a_nodes_gpus_are_divided_in_every_way_once() -> None:
    assert splits(4, 1) == [(4,)]
    assert splits(4, 2) == [(1, 3), (2, 2), (3, 1)]
    assert splits(4, 3) == [(1, 1, 2), (1, 2, 1), (2, 1, 1)]
    assert len(splits(8, 3)) == 21


@pytest.mark.parametrize(
    ("values", "mode", "split", "why"),
    [
        ({"guidelines.reference_beside_solver": True}, IN_TURNS, (8,), "guidelines.reference_beside_solver=True"),
        ({"guidelines.reference_beside_solver": True}, APART, (5, 3), None),
        ({"guidelines.reference_beside_solver": True}, BESIDE, (2, 6), "guidelines.reference_beside_solver=True"),
        ({"algorithm.filter_groups.enable": True}, IN_TURNS, (8,), "algorithm.filter_groups.enable=True"),
        ({"algorithm.filter_groups.enable": True}, POOLS, (2, 3, 3), None),
        ({"trainer.v1.separate_async.parameter_sync_step": 2}, BESIDE, (2, 6), None),
        ({"trainer.v1.separate_async.parameter_sync_step": 4}, BESIDE, (2, 6),
         "actor_rollout_ref.actor.ppo_mini_batch_size=7: separate_async needs data.train_batch_size=30 = 4"),
        ({}, APART, (7, 1), "data.train_batch_size=30: its 120 rollouts must divide by 7 training GPUs"),
    ],
)  # fmt: skip
def test_what_fits_is_what_preflight_accepts(
    values: Mapping[str, object], mode: Mode, split: tuple[int, ...], why: str | None
) -> None:
    own = changed(base(mode), values)
    config = writable(own)
    divide(config, own, mode, split, 1)
    found = refusal(config, SHAPE, H200)
    assert found is None if why is None else found is not None and found[1].startswith(why)


def test_micro_batches_that_do_not_fill_the_training_gpus_are_refused() -> None:
    own = compose("numinamath30k-3b-300steps", [f"layout={POOLS.layout}"], environ={})
    config = writable(own)
    divide(config, own, POOLS, (2, 1, 1), 1)
    found = refusal(config, SHAPE, H200)
    assert found is not None
    assert found[1].startswith("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8")


def test_memory_is_the_reason_where_nothing_else_is() -> None:
    config, small = divided(IN_TURNS, (8,), 1), replace(H200, memory=8.0)
    assert refusal(config, SHAPE, small) == (0, "memory: training takes 14 of 8 GiB")
    found = refusal(divided(APART, (7, 1), 1), SHAPE, small)
    assert found is not None
    assert found[0] > 0


def test_a_larger_batch_trains_for_as_many_steps() -> None:
    config = divided(IN_TURNS, (8,), 64, 128)
    steps = config.guidelines.data.size // config.data.train_batch_size * config.trainer.total_epochs
    assert steps >= config.trainer.total_training_steps


Row = tuple[str, ...]


@pytest.fixture(scope="module")
def printed() -> list[Row]:
    """The cells of what the command of `docs/cluster.md` prints, with more numbers of GPUs."""
    words = ["guidelines.solver.max_concurrency=16384", "reward.num_workers=32"]
    with redirect_stdout(io.StringIO()) as out, patch.dict(os.environ, {"COLUMNS": "200"}):
        assert main(["--name", FAST, "--gpu", "H200", "--gpus", "2,8,16,64,512", *words]) == 0
    return [tuple(cell.strip() for cell in line.strip("│\n").split("│")) for line in out.getvalue().splitlines()]


def rows(printed: list[Row], count: int) -> list[dict[str, Row]]:
    """Return the rows of so many GPUs by mode: with the experiment's batch, and with one that grows."""
    names = [mode.name for mode in MODES]
    mine = [row for row in printed if len(row) == 7 and row[0] == str(count) and row[2] in names]
    return [{row[2]: row for row in mine[i : i + len(MODES)]} for i in (0, len(MODES))]


def test_the_documented_table_is_what_the_command_says(printed: list[Row]) -> None:
    documented = (ROOT / "docs/cluster.md").read_text()
    for count in (8, 64, 512):
        for found in rows(printed, count):
            cells = []
            for mode in MODES[:3]:
                _, _, _, gpus_, seconds, _, _ = found[mode.name]
                refused = gpus_ == "refused"
                words = f"**{seconds}**" if mode is BESIDE else seconds
                cells.append("refused" if refused else words + (f" ({gpus_})" if mode.pools > 1 else ""))
            rollouts = next((row[1] for row in found.values() if row[1]), "120")
            assert f"| {count} | {rollouts} | {' | '.join(cells)} |" in documented


def test_a_refused_mode_says_why(printed: list[Row]) -> None:
    found = rows(printed, 512)[0][IN_TURNS.name]
    assert found[3:6] == ("refused", "", "")
    assert found[6].startswith("data.train_batch_size=30: its 120 rollouts must divide by 512")


def test_a_batch_grows_from_the_experiments_own_gpus(printed: list[Row]) -> None:
    assert [rows(printed, count)[1][IN_TURNS.name][1] for count in (2, 8, 16)] == ["120", "240", "480"]


def test_the_parts_of_the_fastest_steps_are_printed(printed: list[Row]) -> None:
    parts = {row[0] for row in printed}
    assert {"solutions: token after token", "driver", "network, hidden by computing", "generating"} <= parts


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--gpus", "8,12"], "--gpus 12: expected 2 to 8, or whole nodes"),
        (["--gpus", "1"], "--gpus 1: expected 2 to 8"),
        (
            ["--gpus", "8", "layout=train-only-4", "guidelines.solver.url=http://a:1/v1"],
            "expected a layout with a solver",
        ),
        (["--gpus", "8", "layout=cpu"], "trainer.device=cpu: only runs on GPUs are estimated"),
    ],
)
def test_the_command_refuses(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--name", FAST, *words]) == 2
    assert expected in capsys.readouterr().err


def test_no_number_is_a_usage_error() -> None:
    with pytest.raises(SystemExit):
        main(["--name", FAST, "--gpus", "many"])
