from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.table import Table

from analysis import benchmark
from analysis.bench.arms import Arm, config_hash, read_arms, require_steps
from analysis.bench.table import step_table
from analysis.bench.workloads import OVERRIDES
from analysis.benchmark import compare_with_first, derived, figures, with_derived_figures
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.paths import ROOT
from tests.support.tiny_run import IDLE, WITH_DRIVER
from tests.support.warm_python import STARTS, warm_python


def test_figures_are_the_medians_of_the_steps_after_the_first() -> None:
    steps = [
        {"timing_s/step": seconds, "timing_s/gen": gen, "solution/tokens": 600.0, "reward/mean": 0.5}
        for seconds, gen in ((50.0, 30.0), (10.0, 4.0), (12.0, 9.0), (20.0, 5.0))
    ]
    found = figures(steps)
    assert found["s_per_step"] == 12.0
    assert found["phases"] == {"gen": 5.0, "step": 12.0}
    assert found["every_step_s"] == [50.0, 10.0, 12.0, 20.0]
    assert found["metrics"] == {"solution/tokens": 600.0}


def test_an_arms_overrides_go_after_the_common_ones_and_the_command_lines_last(tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text("experiment: e\noverrides: [a=1]\narms:\n- name: x\n- {name: y, experiment: f, overrides: [a=2]}\n")
    assert read_arms(file, ["a=3"]) == [Arm("x", "e", ("a=1", "a=3")), Arm("y", "f", ("a=1", "a=2", "a=3"))]
    file.write_text(file.read_text() + "- name: x\n")
    with pytest.raises(ConfigError, match="one name"):
        read_arms(file)


def test_a_tailed_arm_has_two_entries_and_the_lengths_of_both(tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text("experiment: quickstart\narms:\n- {name: x, tailed: true, overrides: [data.seed=2]}\n")
    (arm,) = read_arms(file)
    assert arm.entries == ("x", "x-tailed")
    assert arm.overrides == (*OVERRIDES, "data.seed=2")
    rollout = compose(arm.experiment, arm.overrides).actor_rollout_ref.rollout
    loops = yaml.safe_load(Path(rollout.agent.agent_loop_config_path).read_text())
    assert rollout.agent.default_agent_loop in [loop["name"] for loop in loops]
    require_steps([arm])
    with pytest.raises(ConfigError, match=r"x: .*expected 5 or more"):
        require_steps([replace(arm, overrides=(*arm.overrides, "trainer.total_training_steps=4"))])
    file.write_text(file.read_text() + "- name: x-tailed\n")
    with pytest.raises(ConfigError, match="one name"):
        read_arms(file)


def test_each_workload_is_compared_with_its_own_first_arm() -> None:
    entries = [{"name": name, "s_per_step": s} for name, s in (("a", 10.0), ("a-tailed", 30.0), ("b", 8.0))]
    entries += [{"name": "b-tailed", "s_per_step": 15.0}, {"name": "c", "failed": "exit code 1"}]
    compare_with_first(entries, {"a-tailed", "b-tailed"})
    assert [entry.get("ratio_to_first") for entry in entries] == [1.0, 1.0, 0.8, 0.5, None]


def test_the_hash_follows_from_the_configuration_alone() -> None:
    plain = config_hash(Arm("a", "quickstart", ()))
    assert config_hash(Arm("b", "quickstart", ("data.train_batch_size=4",))) == plain
    assert config_hash(Arm("a", "quickstart", ("data.train_batch_size=8",))) != plain


@pytest.mark.parametrize("file", sorted((ROOT / "analysis/arms").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_arm_composes_to_a_configuration_of_its_own(file: Path) -> None:
    arms = read_arms(file)
    assert len({config_hash(arm) for arm in arms}) == len(arms)


def test_a_measured_arm_is_not_run_again_and_a_failed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms, out = tmp_path / "arms.yaml", tmp_path / "out.json"
    # The source is a file that is not there: run.py refuses the arm before anything starts.
    arms.write_text(
        "experiment: quickstart\narms:\n- name: done\n- {name: slower, overrides: [data.seed=2]}\n"
        "- {name: refused, overrides: [guidelines.data.source=no.jsonl]}\n"
    )
    script = tmp_path / "experiments/run.py"
    script.parent.mkdir()
    script.write_text(WITH_DRIVER.format(driver=IDLE))
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "executable", warm_python(STARTS))
    done, slower = (
        {"name": arm.name, "config_hash": config_hash(arm), "s_per_step": s, "phases": {"step": s}}
        for arm, s in zip(read_arms(arms), (2.0, 3.0), strict=False)
    )
    out.write_text(json.dumps({**benchmark.hardware(), "arms": [done, slower]}))
    left = tmp_path / "work/refused/run"
    left.mkdir(parents=True)
    words = ["--arms", str(arms), "--out", str(out), "--work", str(tmp_path / "work"), "--json"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    assert benchmark.main() == 1
    assert not left.exists()
    *kept, refused = json.loads(out.read_text())["arms"]
    assert kept == [{**done, "ratio_to_first": 1.0}, {**slower, "ratio_to_first": 1.5}]
    assert refused["failed"] == "exit code 2: refused before it started"
    printed = capsys.readouterr()
    assert "of the first arm's" in printed.err
    assert json.loads(printed.out[printed.out.index("{") :]) == json.loads(out.read_text())


def test_what_follows_from_an_arms_figures() -> None:
    config = compose("numinamath30k-3b-300steps", ["layout=1p1"])
    metrics = {"prompt_length/mean": 165.0, "guideline/tokens": 600.0, "solution/tokens": 600.0}
    phases = {"old_log_prob": 2.0, "ref": 2.0, "update_actor": 6.0}
    longest = {"longest_guideline": 600.0, "longest_solution": 600.0}
    found = {"s_per_step": 20.0, "phases": phases, "metrics": metrics, **longest}
    plain = derived(config, found, "none")
    assert plain == {"tokens_per_s": 120 * 1365 // 20, "padded_share": 0.375}
    more = derived(config, found, "NVIDIA H200")
    # 2 x 3.09 billion weights x 120 x 765 tokens, and attention, in 2 s of 989.5 TFLOP/s.
    assert more["mfu"] == {name: pytest.approx(0.293, abs=0.005) for name in phases}
    assert more["ratio_to_floor"] == pytest.approx(20.0 / more["floor_s"], abs=0.1)
    assert 2 < more["floor_s"] < 8
    assert set(more["estimate"]) == {"gen", "old_log_prob", "ref", "update_actor", "update_weights", "step"}
    assert more["estimate_off"] == pytest.approx(more["estimate"]["step"] / 20.0 - 1, abs=0.001)
    slower = derived(config, {**found, "peak_flops": 989.5e12 / 2}, "NVIDIA H200")
    assert slower["mfu"]["ref"] == pytest.approx(2 * more["mfu"]["ref"], rel=0.01)
    assert slower["floor_s"] == more["floor_s"]


def test_an_arm_that_extrapolates_tells_the_step_of_another() -> None:
    arm = Arm("sequential", "quickstart", (), extrapolates="reference")
    sample = {"metrics": {"reward/graded": 8.0}, "solver_s": 16.0, "solver_tokens_per_s": 300.0, "run_s": 90.0}
    sample["launch_to_first_step_s"] = 50.0
    base = {"name": "reference", "s_per_step": 60.0, "phases": {"reward": 8.0, "step": 60.0}, "solver_s": 5.0}
    base |= {"metrics": {"reward/graded": 120.0}, "floor_s": 5.0}
    found = with_derived_figures(arm, sample, {"gpu": "G", "arms": [base]})
    assert (found["s_per_step"], found["ratio_to_floor"]) == (295.0, 59.0)
    for arms in ([], [{"name": "reference", "failed": "exit code 1"}]):
        assert "no figures" in with_derived_figures(arm, sample, {"gpu": "G", "arms": arms})["failed"]


def test_the_table_compares_with_the_first_arm() -> None:
    entries = [
        {"name": name, "s_per_step": seconds, "phases": {"step": seconds}, "ratio_to_first": seconds / 50.0}
        for name, seconds in (("a", 50.0), ("b", 40.0))
    ]
    assert row(step_table({"gpu": "G", "gpu_count": 1, "arms": entries}), "step, of the first arm's") == [
        "1.00",
        "0.80",
    ]


def test_the_table_says_how_busy_each_gpu_was_and_what_is_extrapolated() -> None:
    entry = {"name": "a", "s_per_step": 50.0, "phases": {"step": 50.0}, "launch_to_first_step_s": 100.0}
    entry |= {"mfu": {"update_actor": 0.481}, "peak_flops": 7.9e14, "solver_tokens_per_s": 16250.0, "padded_share": 0.0}
    entry |= {"estimate": {"step": 45.0}, "estimate_off": -0.1}
    entry["gpus"] = [{"index": n, "idle_share": 0.1 * n, "memory_gib": 80.0 + n} for n in (1, 2)]
    sequential = {"name": "b", "s_per_step": 90.0, "phases": {"step": 90.0}, "extrapolated": {"from": "a"}}
    failed = {"name": "c", "failed": "exit code 1"}
    table = step_table({"gpu": "G", "gpu_count": 2, "arms": [entry, sequential, failed]})
    shown = {
        "step": ["50.00", "90.00", ""],
        "estimate": ["45.00", "", ""],
        "  its error": ["-10%", "", ""],
        "MFU update_actor": ["48%", "", ""],
        "  of TFLOP/s": ["790", "", ""],
        "solver_tokens_per_s": ["16,250", "", ""],
        "padded_share": ["0%", "", ""],
        "memory_gib": ["81 82", "", ""],
        "idle_share": ["10% 20%", "", ""],
        "extrapolated from": ["", "a", ""],
        "failed": ["", "", "exit code 1"],
    }
    assert {name: row(table, name) for name in shown} == shown


def row(table: Table, name: str) -> list[object]:
    """Return the cells of the row that begins with `name`."""
    cells = [list(column.cells) for column in table.columns]
    return [column[cells[0].index(name)] for column in cells[1:]]


def test_another_gpus_results_are_not_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.json"
    out.write_text(json.dumps({"gpu": "another", "gpu_count": 8, "arms": []}))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--arms", "unread.yaml", "--out", str(out)])
    assert benchmark.main() == 2
