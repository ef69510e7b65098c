"""When a start is ended, and the reason that is reported."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from guidelines_core.launch import processes
from guidelines_core.launch.pending import unplaced
from guidelines_core.launch.start_watch import (
    BYTES_A_S,
    CORES,
    FIRST_STEP,
    PENDING_FILE,
    STAGES_FILE,
    Progress,
    StartWatch,
    Work,
)
from guidelines_core.paths import ROOT
from guidelines_core.runs.start import STAGES
from tests.support.warm_python import LAUNCH, warm_python

LIMITS = OmegaConf.create({"stalled_s": 60.0, "stage_s": 600.0})
IDLE = Work(0.0, 0, 0)


def test_a_stage_without_progress_reaches_its_limit() -> None:
    progress = Progress("models", IDLE)
    for _ in range(5):
        progress.update(10, "models", IDLE)
        assert progress.reached_limit(LIMITS) is None
    progress.update(10, "models", IDLE)
    reason = progress.reached_limit(LIMITS)
    assert reason is not None
    assert "its stage 'models' made no progress for 60 s (guidelines.start.stalled_s=60)" in reason


@pytest.mark.parametrize("work", [Work(CORES * 10, 0, 0), Work(0.0, int(BYTES_A_S * 10), 0), Work(0.0, 0, 1)])
def test_work_reading_and_a_new_line_are_progress(work: Work) -> None:
    progress = Progress("models", IDLE)
    progress.update(50, "models", IDLE)
    progress.update(10, "models", work)
    assert progress.idle_s == 0
    progress.update(50, "models", work)
    assert progress.idle_s == 50


def test_a_stage_that_never_ends_reaches_its_limit_and_the_next_one_is_timed_anew() -> None:
    progress = Progress("models", IDLE)
    progress.update(590, "models", Work(590, 0, 0))
    progress.update(20, "weights", Work(600, 0, 0))
    assert progress.reached_limit(LIMITS) is None
    progress.update(600, "weights", Work(1200, 0, 0))
    reason = progress.reached_limit(LIMITS)
    assert reason is not None
    assert "its stage 'weights' has lasted 600 s (guidelines.start.stage_s=600)" in reason


@given(st.lists(st.tuples(st.sampled_from(["Ray", "data"]), st.integers(0, 2)), min_size=1, max_size=30))
def test_only_checks_without_work_in_one_stage_add_up(checks: list[tuple[str, int]]) -> None:
    progress, cpu = Progress("Ray", IDLE), 0.0
    for stage, used in checks:
        cpu += used
        progress.update(10, stage, Work(cpu, 0, 0))
    idle = 0
    previous = ["Ray", *(stage for stage, _ in checks)]
    for (stage, used), before in zip(reversed(checks), reversed(previous[:-1]), strict=True):
        if used or stage != before:
            break
        idle += 10
    assert progress.idle_s == idle


def test_a_line_that_is_repeated_with_another_time_is_no_progress(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    watch = StartWatch(LIMITS, tmp_path, log, list)
    said = []
    for line in (
        "INFO 11-30 06:20:41 [shm.py:1] No available block found in 60 seconds",
        "INFO 11-30 06:21:41 [shm.py:1] No available block found in 60 seconds",
        "(autoscaler +10s) Error: No available node types",
        "(autoscaler +1m5s) Error: No available node types",
        "Loading safetensors shards: 25%",
        "Loading safetensors shards: 50%",
    ):
        with log.open("a") as file:
            file.write(line + "\n")
        said.append(watch._work().lines)
    assert said == [1, 1, 2, 2, 3, 4]


def test_what_ray_has_not_placed_is_named_with_what_the_cluster_has() -> None:
    groups = [
        {"name": "verl_group_1:0", "state": "CREATED", "bundles": {0: {"CPU": 3.0, "GPU": 1.0}}},
        {"name": "verl_group_1:1", "state": "PENDING", "bundles": {0: {"CPU": 3.0, "GPU": 1.0}, 1: {"CPU": 3.0}}},
    ]
    assert unplaced(groups, ["B", "A", "B"], {"CPU": 4.0, "GPU": 2.0, "memory": 9.0}, {"GPU": 1.0}) == (
        "placement group verl_group_1:1 of {CPU 3, GPU 1} + {CPU 3}, 1 x A, 2 x B; "
        "its cluster has 4 CPU (0 free), 2 GPU (1 free)"
    )
    assert unplaced(groups[:1], [], {}, {}) == ""


# A driver that notes the stages in the file `stage` and then hangs.
HANGS = """
import json, os, sys, time
from pathlib import Path
begin = json.loads(sys.stdin.readline())
folder = Path(os.environ["GUIDELINES_FOLDER"])
(folder / "pending").write_text("placement group one of {CPU 3}")
Path(begin["environment"]["GUIDELINES_STAGES"]).write_text(Path(sys.argv[0]).with_name("stage").read_text())
with open(begin["log"], "a") as log:
    log.write("INFO: the first word\\nthe last word\\n")
time.sleep(300)
"""
RUN = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from omegaconf import OmegaConf
from guidelines_core.launch import start_watch
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.training import PrelaunchedDriver, Training
start_watch.CHECK_S = 2.0
config = OmegaConf.create({
    "guidelines": {
        "environment": {}, "stop_within_s": 200.0, "start": {"stalled_s": float(sys.argv[2]), "stage_s": 200}
    },
    "trainer": {"total_training_steps": 1, "save_freq": 1},
})
claim = SimpleNamespace(run_id="1", tracking_uri="sqlite://")
with PrelaunchedDriver(config, "hangs") as driver, StopRequests() as stop:
    training = Training(config, SimpleNamespace(directory=Path(sys.argv[1]), claim=claim), driver, stop)
    training.start()
    print("started", flush=True)
    while training.running:
        time.sleep(0.1)
    outcome = training.end()
    print(json.dumps([outcome.status, outcome.reason, str(driver.folder), driver.folder.exists()]))
"""


def hanging(folder: Path, ended: str, stalled_s: float) -> subprocess.Popen[str]:
    """Start a run whose driver notes the stages `ended` and then hangs."""
    (folder / "logs").mkdir()
    (folder / "hangs.py").write_text(HANGS)
    (folder / "stage").write_text(ended)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    return subprocess.Popen(
        [warm_python(LAUNCH), "-c", RUN, str(folder), str(stalled_s)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_stalled_start_ends_failed_with_its_stage_and_what_it_waits_for(tmp_path: Path) -> None:
    process = hanging(tmp_path, "imports ray data", 4.0)
    said, _ = process.communicate(timeout=200)
    status, reason, folder, there = json.loads(said.splitlines()[-1])
    assert status == "FAILED"
    assert re.search(r"its stage 'models' made no progress for \d+ s \(guidelines\.start\.stalled_s=4\)", reason)
    assert "Ray waits for placement group one of {CPU 3}" in reason
    assert reason.endswith("the log ends with: the last word")
    assert not there
    assert processes.of_attempts({folder}) == []


@pytest.mark.parametrize("ended", ["imports ray", " ".join(STAGES)], ids=["in a stage", "in the first step"])
def test_sigterm_ends_a_stalled_start_within_seconds(tmp_path: Path, ended: str) -> None:
    process = hanging(tmp_path, ended, 160.0)
    deadline = time.monotonic() + 120
    log = tmp_path / "logs/attempt-1.log"
    while not (log.exists() and "last word" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    said, _ = process.communicate(timeout=300)
    assert json.loads(said.splitlines()[-1])[:2] == ["KILLED", "stopped by SIGTERM, saved at step 0"]
    assert time.monotonic() - began < 100  # less than stalled_s and stop_within_s


def test_the_stage_is_the_first_that_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    watch = StartWatch(LIMITS, tmp_path, tmp_path / "log", list)
    assert watch.stage == "imports"
    (tmp_path / STAGES_FILE).write_text("imports\nray\nmodels\n")
    assert watch.stage == "data"
    (tmp_path / STAGES_FILE).write_text("\n".join(STAGES))
    assert watch.stage == FIRST_STEP
    (tmp_path / PENDING_FILE).write_text("")
    assert watch.check() is None
