"""How a run's end is read from its log."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guidelines_core import trainer
from guidelines_core.paths import ROOT
from guidelines_core.trainer import failure_line, is_full

LOST = "guidelines_core.solver_watch.SolverLostError: the solver gave no token"


def test_our_own_exception_is_named_and_not_what_others_say_as_they_are_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        f"\x1b[36m(TaskRunner pid=1)\x1b[0m {LOST}\n"
        "\x1b[36m(vLLMHttpServer pid=7)\x1b[0m vllm.v1.engine.exceptions.EngineDeadError: see above\n"
    )
    assert failure_line(log) == LOST


def test_a_disk_is_full_when_a_checkpoint_has_no_room_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_full(tmp_path)
    monkeypatch.setattr(trainer, "FULL_BYTES", shutil.disk_usage(tmp_path).total + 1)
    assert is_full(tmp_path)
    assert not is_full(tmp_path / "gone")


# In a process of its own, for an attempt's end ends every child of its process.
ENDS = """
import json, signal, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from omegaconf import OmegaConf
from guidelines_core.trainer import Training
def outcome(code, save_freq, number=None):
    config = OmegaConf.create({"trainer": {"total_training_steps": 2, "save_freq": save_freq}})
    training = Training(config, SimpleNamespace(directory=Path(sys.argv[1])))
    training._process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    training._process.wait()
    training._signal = number
    return training.end().status
print(json.dumps([outcome(0, -1), outcome(0, 1), outcome(1, 1), outcome(137, -1), outcome(0, 1, signal.SIGTERM)]))
"""


def test_a_run_is_finished_at_its_last_step_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "-c", ENDS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ["FINISHED", "FAILED", "FAILED", "FAILED", "KILLED"]
