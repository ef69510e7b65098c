"""A driver that trains nothing: it records the steps and saves the last one, or the one in which it is asked to stop.

`STUB_SIGNAL`, a signal's number, has it send that signal to `run.py` in its second step, and wait for the request.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil
import yaml

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.runs.checkpoints import seal
from guidelines_core.runs.journal import STEP, STOP_FILE
from guidelines_core.runs.start import STAGES, STAGES_PATH

SIGNAL = "STUB_SIGNAL"
WAIT_S = 120.0
"""Seconds to wait for a request to stop."""


def main() -> None:
    """Wait for the job and train to the last step, or to the step in which the run is asked to stop."""
    job = json.loads(sys.stdin.readline())
    config, environment = yaml.safe_load(Path(job["config"]).read_text()), job["environment"]
    Path(environment[STAGES_PATH]).write_text("\n".join(STAGES))
    directory, total = Path(config["trainer"]["default_local_dir"]), config["trainer"]["total_training_steps"]
    number = int(os.environ.get(SIGNAL, "0"))
    for step in range(1, total + 1):
        stopped = step == 2 and number > 0 and stop_asked(number, Path(environment[STOP_FILE]))
        with Path(environment["VERL_FILE_LOGGER_PATH"]).open("a") as journal:
            journal.write(json.dumps({"step": step, "data": metrics(step)}) + "\n")
        if stopped or step == total:
            folder = directory / f"global_step_{step}"
            folder.mkdir()
            (folder / "weights").write_text("none")
            seal(folder)
        if stopped:
            sys.exit(1)


def stop_asked(number: int, stop_file: Path) -> bool:
    """Send `run.py`, the parent of this process's supervisor, a signal, and return whether it asks to stop."""
    psutil.Process().parents()[1].send_signal(number)
    deadline = time.monotonic() + WAIT_S
    while not stop_file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return stop_file.exists()


def metrics(step: int) -> dict[str, float]:
    """Return a step's metrics."""
    return {
        STEP: step,
        "reward/mean": 0.5,
        "timing_s/step": 0.1,
        "guideline/leak": 0.0,
        "guideline/truncated": 0.0,
        "solution/truncated": 0.0,
        **{f"reward/{grader}_accuracy": 0.5 for grader in GRADERS},
    }


if __name__ == "__main__":
    main()
