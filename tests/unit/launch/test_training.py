"""How a run's end is read from its log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from guidelines_core.launch import processes
from guidelines_core.launch import training as trainer
from guidelines_core.launch.training import failure_line, is_full
from guidelines_core.paths import ROOT
from tests.support.warm_python import LAUNCH, warm_python

LOST = "guidelines_core.solver.watch.SolverLostError: the solver gave no token"


def test_our_own_exception_is_named_and_not_what_others_say_as_they_are_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        f"\x1b[36m(TaskRunner pid=1)\x1b[0m {LOST}\n"
        "\x1b[36m(vLLMHttpServer pid=7)\x1b[0m vllm.v1.engine.exceptions.EngineDeadError: see above\n"
    )
    assert failure_line(log) == LOST


def test_the_cause_is_named_and_not_that_another_process_failed_of_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cause = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB"
    dead = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue"
    log.write_text(f"{cause}\n{dead}\nray.exceptions.RayTaskError(EngineDeadError): ray::run()\n{dead}\n")
    assert failure_line(log) == cause
    log.write_text(f"{dead}\nlast\n")
    assert failure_line(log) == dead


@pytest.mark.parametrize(
    "handled",
    [
        "[WARNING] container_standards - function_loader.py:71: Failed to load: HandlerFileNotFoundError: File",
        "\x1b[36m(vLLMHttpServer pid=7)\x1b[0m WARNING 11-30 16:28:05 [utils.py:2] retried after ValueError: no",
        "(EngineCore pid=5) INFO 11-30 16:28:05 [core.py:1] KeyError: 'x' is no problem",
        "2026-11-30 16:28:10,761 - WARNING - cache.py:6 - OSError: not there",
    ],
)
def test_an_exception_that_was_handled_is_not_named(tmp_path: Path, handled: str) -> None:
    log = tmp_path / "log"
    died = "ray.exceptions.NodeDiedError: the raylet died"
    log.write_text(f"{died}\n{handled}\n")
    assert failure_line(log) == died
    log.write_text("(EngineCore pid=5) ERROR 11-30 16:28:05 [core.py:1] RuntimeError: too late\n")
    assert failure_line(log).endswith("RuntimeError: too late")


def test_a_disk_is_full_when_a_checkpoint_has_no_room_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_full(tmp_path)
    monkeypatch.setattr(trainer, "FULL_BYTES", shutil.disk_usage(tmp_path).total + 1)
    assert is_full(tmp_path)
    assert not is_full(tmp_path / "gone")


# In a process of its own, whose end is that of a run.
ENDS = """
import json, signal, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from omegaconf import OmegaConf
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.training import Training
def outcome(code, save_freq, number=None):
    config = OmegaConf.create({"trainer": {"total_training_steps": 2, "save_freq": save_freq}})
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    process.wait()
    driver = SimpleNamespace(process=process, folder=Path(sys.argv[1]) / "sockets", output=str, end=lambda: None)
    stop = StopRequests()
    stop.last = number
    training = Training(config, SimpleNamespace(directory=Path(sys.argv[1])), driver, stop)
    return training.end().status
print(json.dumps([outcome(0, -1), outcome(0, 1), outcome(1, 1), outcome(137, -1), outcome(0, 1, signal.SIGTERM)]))
"""


def test_a_run_is_finished_at_its_last_step_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    command = [warm_python(LAUNCH), "-c", ENDS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ["FINISHED", "FAILED", "FAILED", "FAILED", "KILLED"]


# A start that preflight refuses; and one whose driver dies before it gets a configuration to train.
REFUSED = """
import sys, time
from pathlib import Path
from omegaconf import OmegaConf
from guidelines_core.launch.training import PrelaunchedDriver
driver = PrelaunchedDriver(OmegaConf.create({"guidelines": {"environment": {}}, "trainer": {}}), sys.argv[1])
while "here" not in driver.output():
    time.sleep(0.05)
print(driver.folder)
"""
DIES = """
import sys
from pathlib import Path
from types import SimpleNamespace
from omegaconf import OmegaConf
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.training import PrelaunchedDriver, Training
limits = {"stalled_s": 300, "stage_s": 300}
config = OmegaConf.create(
    {"guidelines": {"environment": {}, "start": limits}, "trainer": {"total_training_steps": 1, "save_freq": 1}}
)
driver = PrelaunchedDriver(config, "there_is_no_such_module")
driver.process.wait()
claim = SimpleNamespace(run_id="1", tracking_uri="sqlite://")
training = Training(config, SimpleNamespace(directory=Path(sys.argv[1]), claim=claim), driver, StopRequests())
training.start()
assert not training.running
outcome = training.end()
print(outcome.status, outcome.reason)
"""
# A caller with a child and no wish to adopt orphans, that makes an attempt.
CALLER = """
import subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
import psutil
from omegaconf import OmegaConf
from guidelines_core.launch import processes
from guidelines_core.launch.stop import StopRequests
from guidelines_core.launch.training import PrelaunchedDriver, Training
child = subprocess.Popen(["sleep", "60"])
limits = {"stalled_s": 300, "stage_s": 300}
config = OmegaConf.create(
    {"guidelines": {"environment": {}, "start": limits}, "trainer": {"total_training_steps": 1, "save_freq": 1}}
)
driver = PrelaunchedDriver(config, "waits")
while "here" not in driver.output():
    time.sleep(0.05)
claim = SimpleNamespace(run_id="1", tracking_uri="sqlite://")
training = Training(config, SimpleNamespace(directory=Path(sys.argv[1]), claim=claim), driver, StopRequests())
training.start()
if sys.argv[2] == "without its supervisor":
    driver.process.kill()
    while psutil.pid_exists(int(Path(sys.argv[1], "waits").read_text())) and not psutil.Process().children()[1:]:
        time.sleep(0.05)
training.end()
print(child.poll(), processes.adopts_orphans(), [each.pid == child.pid for each in psutil.Process().children()])
print(driver.folder.exists())
processes.clear = None
driver.end()
child.kill()
"""
WAITS = """
import os, sys, time
from pathlib import Path
file = Path(sys.argv[0]).with_name("waits")
file.touch()
if os.fork() == 0:
    os.setsid()
    file.write_text(str(os.getpid()))
    time.sleep(60)
while not file.read_text():
    time.sleep(0.02)
print("here", flush=True)
time.sleep(60)
"""


def test_the_prelaunched_driver_ends_with_a_start_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(
        "import sys\nprint('here', flush=True)\nsys.stdin.read()\nimport time; time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [warm_python(LAUNCH), "-c", REFUSED, "waits"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    folder = Path(done.stdout.strip())
    (tmp_path / "logs").mkdir()
    processes.note_folder(tmp_path, "attempt-1", folder)
    deadline = time.monotonic() + 10
    while (folder.exists() or processes.leftovers(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert processes.leftovers(tmp_path) == []


def test_the_reason_of_a_driver_that_died_before_it_had_a_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    command = [warm_python(LAUNCH), "-c", DIES, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("FAILED verl ended with exit code 1: ")
    assert done.stdout.rstrip().endswith("No module named there_is_no_such_module")
    assert "there_is_no_such_module" in (tmp_path / "logs" / "attempt-1.log").read_text()


@pytest.mark.parametrize("how", ["with its supervisor", "without its supervisor"])
def test_an_attempt_leaves_its_caller_as_it_was(tmp_path: Path, how: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "waits.py").write_text(WAITS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [warm_python(LAUNCH), "-c", CALLER, str(tmp_path), how]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["None False [True]", "False"]
    assert not psutil.pid_exists(int((tmp_path / "waits").read_text()))
