"""Rows in which nothing is killed: a busy solver, pruned checkpoints, a disk that fills at once, a requeued job."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from guidelines_core.runs.checkpoints import Checkpoint, sealed, superfluous
from tests.chaos.loop import SAVE_FREQ, STEPS, Loop
from tests.chaos.outcomes import Row, fill, own_disk, resize, resumed, undisturbed


def pressure_rows() -> dict[str, Callable[[Loop, Any], Row]]:
    """Return every row by its name."""
    return {
        "busy solver": busy_solver,
        "pruned checkpoints": pruned_checkpoints,
        "disk filled at once": disk_filled_at_once,
        "job requeued": job_requeued,
    }


def busy_solver(loop: Loop, expected: Any) -> Row:
    """Have the solver answer each request with HTTP status 429, then 503, and then slowly."""
    (loop.folder / "plan").write_text("busy")
    loop.overrides = {
        "reward.reward_manager.module.path": "pkg://tests.support.faulty_reward",
        "reward.reward_manager.name": "FaultyRewardManager",
        "+guidelines.environment.FAULTS": loop.folder,
        # All requests of a step wait for their turn at once.
        "guidelines.solver.max_concurrency": 2,
    }
    loop.start()
    code = loop.wait()
    retried = [entry.metrics.get("solver/retries", 0) for entry in loop.history() if "solver/asked" in entry.metrics]
    row = undisturbed(loop, expected, code)
    busy = len(retried) == STEPS and min(retried) > 0
    return {
        "what": "solver too busy",
        "when": "each request",
        **row,
        "retries": sum(retried),
        "passed": row["passed"] and busy,
    }


def pruned_checkpoints(loop: Loop, expected: Any) -> Row:
    """Keep the newest checkpoint and the two best, and look all the while for a moment with less than was there."""
    kept = {"guidelines.checkpoints.keep_last": 1, "guidelines.checkpoints.keep_best": 2}
    loop.overrides = {**kept, "trainer.save_freq": 1, "trainer.test_freq": 1}
    seen: dict[int, Checkpoint] = {}
    lost: list[str] = []

    def to_be_there() -> set[int]:
        return set(seen) - {checkpoint.step for checkpoint in superfluous(list(seen.values()), 1, 2)}

    def look() -> bool:
        try:
            there = {checkpoint.step: checkpoint for checkpoint in sealed(loop.directory)}
        except FileNotFoundError:  # one was renamed meanwhile
            return False
        seen.update(there)
        if missing := to_be_there() - set(there):
            lost.append(f"{sorted(missing)} missing, {sorted(there)} there")
        return False

    loop.start()
    loop.until(look, pause=0.02)
    code = loop.wait()
    look()
    left = {checkpoint.step for checkpoint in sealed(loop.directory)}
    passed = code == 0 and not lost and left == to_be_there() and set(seen) == set(range(1, STEPS + 1))
    return {
        "what": "keep_last 1, keep_best 2",
        "when": "at each step",
        "exit_code": code,
        "status": loop.status,
        "recovered": code == 0,
        "kept": sorted(left),
        "lost_checkpoints": lost,
        "accuracies": {step: checkpoint.accuracy for step, checkpoint in sorted(seen.items())},
        "passed": passed,
    }


def disk_filled_at_once(loop: Loop, expected: Any) -> Row:
    """Let another file take all of the disk within the second in which the second checkpoint is begun."""
    with own_disk(loop) as disk:
        loop.start()
        loop.until(lambda: loop.checkpoint() == SAVE_FREQ)
        loop.until(lambda: loop.steps_done() >= 2 * SAVE_FREQ - 1)
        filler = disk / "filler"
        fill(filler)
        code = loop.wait()
        filler.unlink()
        resize(disk, "2g")
        row = resumed(loop, expected, code)
        full = " is full; " in row["reason"]
        return {"what": "disk filled by another", "when": "in a step", **row, "passed": row["passed"] and full}


def job_requeued(loop: Loop, expected: Any) -> Row:
    """Ask the run to stop as a batch job's time limit does, and give the same command again, as the queue does."""
    loop.start("--resume")
    loop.until(lambda: loop.steps_done() >= 3)
    assert loop.process is not None
    loop.process.send_signal(signal.SIGTERM)
    code = loop.wait()
    saved = loop.checkpoint()
    row = resumed(loop, expected, code, may_lose=0)
    asked = code == 130 and row["status"] == "KILLED" and saved >= 3
    return {"what": "SIGTERM, started again", "when": "in a step", **row, "passed": row["passed"] and asked}
