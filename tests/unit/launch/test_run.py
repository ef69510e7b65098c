"""How `run.py` ends on a signal and where nothing can be printed, with a driver that trains nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from guidelines_core.data.problems import Problem
from guidelines_core.data.verl_rows import write_rows
from guidelines_core.paths import ROOT
from guidelines_core.prompts import planner_messages
from guidelines_core.runs.checkpoints import last_checkpoint
from tests.support.stub_driver import SIGNAL
from tests.support.warm_python import STARTS, warm_python

STEPS = 3
EXPERIMENT = "query-conditioned-guidelines"

PROGRAM = """
import os, signal, sys
sys.path.insert(0, "experiments")
import run
from guidelines_core.launch.training import PrelaunchedDriver
from guidelines_core.terminal import keep_output
closed, signalled, number = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
if closed == "stderr closed":
    os.close(2)
    sys.stderr = None
# The tests' shell may ignore them.
for each in (signal.SIGINT, signal.SIGHUP):
    signal.signal(each, signal.SIG_DFL)
def signal_in(stage, result):
    if stage == signalled:
        os.kill(os.getpid(), number)
    return result
claim, summary = run.claim, run.summary
run.PrelaunchedDriver = lambda config, **more: PrelaunchedDriver(config, "tests.support.stub_driver", **more)
run.check = lambda *args, **more: signal_in("preflight", [])
run.prepare = lambda *args: []
run.claim = lambda *args, **more: signal_in("claim", claim(*args, **more))
run.summary = lambda *args: signal_in("end", summary(*args))
keep_output()
sys.exit(run.main())
"""
"""run.py without preflight and data, which sends itself a signal at the end of a stage."""


def ended(
    folder: Path, output: str = "", closed: str = "", stage: str = "", number: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `tiny` with its store in `folder`; `output` is what a shell does with its output."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment(EXPERIMENT, artifact_location=(folder / "mlruns").as_uri())
    problem = Problem("How much is 1 + 1?", "2", "word problems")
    write_rows(folder / "rows.parquet", [problem], "train", "word problems", planner_messages)
    words = [f"{key}={folder / 'rows.parquet'}" for key in ("data.train_files", "data.val_files")]
    words += [f"trainer.default_local_dir={folder / 'run'}", f"trainer.total_training_steps={STEPS}"]
    command = [warm_python(STARTS), "-c", PROGRAM, closed, stage, str(number), "--name", "tiny", *words]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        **({SIGNAL: str(number)} if stage == "step" else {}),
    }
    shell = ["bash", "-c", f'"$@" {output}; exit ${{PIPESTATUS[0]}}', "bash", *command]
    return subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def recorded(folder: Path) -> list[Run]:
    """Return the runs in the store."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_claim_leaves_no_run(tmp_path: Path, number: int) -> None:
    done = ended(tmp_path, stage="preflight", number=number)
    assert done.returncode == 130, done.stderr
    assert "Interrupted before anything was started." in done.stderr
    assert recorded(tmp_path) == []
    assert not (tmp_path / "run").exists()


def test_a_hangup_between_claim_and_start_ends_the_run_killed(tmp_path: Path) -> None:
    done = ended(tmp_path, stage="claim", number=signal.SIGHUP)
    assert done.returncode == 130, done.stderr
    [run] = recorded(tmp_path)
    assert run.info.status == "KILLED"
    assert run.data.tags["guidelines.end"] == "stopped by SIGHUP, saved at step 0"


def test_a_terminal_that_hangs_up_leaves_the_step_saved(tmp_path: Path) -> None:
    done = ended(tmp_path, "2>&1 | head -1", stage="step", number=signal.SIGHUP)
    assert done.returncode == 130
    [run] = recorded(tmp_path)
    assert run.info.status == "KILLED"
    assert run.data.tags["guidelines.end"] == "stopped by SIGHUP, saved at step 2"
    assert last_checkpoint(tmp_path / "run") == 2


@pytest.mark.parametrize(("output", "closed"), [("| head -1", "stderr closed"), ("> /dev/full 2>&1", "")])
def test_a_run_whose_output_goes_nowhere_finishes(tmp_path: Path, output: str, closed: str) -> None:
    # A hangup after the last step changes nothing.
    done = ended(tmp_path, output, closed, stage="end", number=signal.SIGHUP)
    assert done.returncode == 0, done.stderr
    [run] = recorded(tmp_path)
    assert (run.info.status, run.data.tags["guidelines.end"]) == ("FINISHED", f"all {STEPS} steps done")
    assert last_checkpoint(tmp_path / "run") == STEPS


def test_ctrl_c_during_the_imports_ends_without_a_traceback() -> None:
    def as_in_a_shell() -> None:
        # The tests' shell may ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    command = [sys.executable, "-X", "importtime", str(ROOT / "experiments/run.py"), "--list"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_shell) as process:
        assert process.stderr is not None
        # An import of run.py's own, long before the last.
        next(line for line in process.stderr if line.endswith("guidelines_core.paths\n"))
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert "Traceback" not in rest
    assert process.returncode == -signal.SIGINT
