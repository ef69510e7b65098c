from __future__ import annotations

from pathlib import Path

from rich.console import Console

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.launch.console import cost_rows, duration, progress_line, summary
from guidelines_core.launch.training import Outcome, failure_line
from guidelines_core.runs import cost


def step(number: int, reward: float, seconds: float, ungraded: float = 0.0) -> dict[str, float]:
    return {
        "training/global_step": number,
        "reward/mean": reward,
        "timing_s/step": seconds,
        "reward/ungraded": ungraded,
    }


def test_the_line_says_step_reward_pace_and_time_left() -> None:
    steps = [step(1, 0.0, 60.0), step(2, 0.25, 20.0), step(3, 0.5, 30.0)]
    line = progress_line(steps, total=5, elapsed=110.0)
    for part in ("step 3 of 5", "reward 0.50", "25.0 s a step", "50 s left"):
        assert part in line
    assert "without verdict" not in line


def test_rollouts_without_verdict_are_said() -> None:
    assert "2 rollouts without verdict" in progress_line([step(1, 0.0, 1.0, ungraded=2.0)], total=5, elapsed=1.0)


def test_before_the_first_step_the_line_says_how_long_it_has_been_starting() -> None:
    assert "42 s" in progress_line([], total=5, elapsed=42.0)


def test_durations_are_said_in_their_unit() -> None:
    assert [duration(s) for s in (45, 600, 10800)] == ["45 s", "10 min", "3.0 h"]


def test_a_failure_is_named_by_its_exception(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("starting\nTraceback (most recent call last):\nValueError: too few\nstopping\n")
    assert failure_line(log) == "ValueError: too few"
    log.write_text("Killed\n")
    assert failure_line(log) == "Killed"
    log.write_text("")
    assert "empty" in failure_line(log)


def test_exit_codes_follow_from_the_end() -> None:
    assert [Outcome(status, "").exit_code for status in ("FINISHED", "FAILED", "KILLED")] == [0, 1, 130]


def test_the_closing_table_says_leaks_and_what_the_guidelines_explain() -> None:
    def graded(number: int, leak: float, between: float) -> dict[str, float]:
        shares = dict.fromkeys(("guideline/truncated", "solution/truncated"), 0.0)
        signal = {"signal/between_guidelines": between, "signal/within_guideline": 0.2, "signal/samples": 4.0}
        accuracies = {f"reward/{name}_accuracy": 0.5 for name in GRADERS}
        return {**step(number, 0.5, 1.0), **shares, **signal, **accuracies, "guideline/leak": leak}

    steps = [graded(1, 0.08, 0.05), graded(2, 0.0, 0.15)]
    console = Console(width=200, record=True)
    console.print(summary(steps, Outcome("FINISHED", "done"), "dir"))
    cells = [line.split("│") for line in console.export_text().splitlines()]
    lines = {cell[1].strip(): cell[2] for cell in cells if len(cell) > 2}
    assert "8.0% → 0.0%" in lines["guidelines that leak the gold, first → last step"]
    # Of the means: 0.1 / (0.1 + 0.2 / 4).
    assert "67%" in lines["share of the reward's variance that the guideline explains"]
    assert all(f"solver accuracy by {name}" in lines for name in GRADERS)


def paid(number: int, hours: float) -> dict[str, float]:
    metrics = {cost.HOURS: hours, cost.GPU_HOURS: 2 * hours, cost.DOLLARS: 5 * hours, "reward/graded": 10.0}
    return {**step(number, 0.5, 1800.0), **metrics, cost.STEP_GPU_S: 3600.0, cost.STEP_DOLLARS: 2.5}


def test_the_line_says_what_was_spent_and_what_it_becomes() -> None:
    line = progress_line([paid(1, 0.5), paid(2, 1.0)], total=4, elapsed=3600.0)
    assert "2 of 4 GPU-hours, $5.00 of $10.00" in line
    on_a_cpu = {**step(1, 0.5, 1.0), cost.HOURS: 1.0, cost.GPU_HOURS: 0.0}
    assert "GPU" not in progress_line([on_a_cpu], total=4, elapsed=1.0)


def test_the_cost_of_a_step_and_of_a_rollout_are_means_over_the_run() -> None:
    rows = cost_rows([paid(1, 0.5), {**paid(2, 1.0), cost.STEP_GPU_S: 7200.0}])
    assert rows["cost"] == "2 GPU-hours, $5.00"
    assert rows["cost of a step"] == "5,400 GPU-seconds, $2.50"
    assert rows["cost of a graded rollout"] == "540 GPU-seconds, $0.25"
    assert cost_rows([step(1, 0.5, 1.0)]) == {}
