"""What surrounds a trial: causes of failures, stall_limit, leftovers, GPUs that become free."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from guidelines_core.verl_adapter.reconfigure import set_values
from sweeps import leftovers, trial
from sweeps.failures import with_cause
from sweeps.keys import differences
from sweeps.leftovers import WORKER, await_free_gpus, clear_leftovers, identity
from sweeps.trial import stall_limit


@pytest.mark.parametrize(
    ("reason", "said", "cause"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "", "out of memory"),
        ("RuntimeError: worker died", "torch.OutOfMemoryError: CUDA out of memory", "out of memory"),
        ("ValueError: No available memory for the cache blocks.", "", "out of memory"),
        ("RuntimeError: … no materializable trajectories", "SolverError: no solution within", "solver lost"),
        ("ActorDiedError: The actor died unexpectedly", "class_name: vLLMHttpServer", "solver lost"),
        ("timeout: step 3 took longer than 120 s", "out of memory", "timeout"),
        ("KeyError: 'x'", "", "error"),
    ],
)
def test_a_failure_has_a_cause(tmp_path: Path, reason: str, said: str, cause: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"begin\n{said}\n")
    assert with_cause(reason, log).startswith(f"{cause}: ")
    assert with_cause(with_cause(reason, log), log) == with_cause(reason, log)


def test_patience_follows_the_longest_step() -> None:
    assert stall_limit(0) == trial.STALL_S
    assert stall_limit(2) == trial.STALL_MIN_S
    assert stall_limit(60) == 600


def test_only_what_dead_sweeps_left_is_ended() -> None:
    ours, gone = identity(psutil.Process()), "999999:0.00"
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    kept, left = (subprocess.Popen(sleeper, env={**os.environ, WORKER: worker}) for worker in (ours, gone))
    try:
        while not all(WORKER in psutil.Process(process.pid).environ() for process in (kept, left)):
            time.sleep(0.05)
        clear_leftovers()
        assert not psutil.pid_exists(left.pid)
        assert kept.poll() is None
    finally:
        kept.kill()
        kept.wait()


def nvidia_smi(folder: Path, held_until: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a driver's program in the path that says that its one GPU is held until then."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase $1 in --query-gpu*) "
        f"[ $(date +%s) -lt {int(held_until)} ] && free=1000 || free=80000; "
        'echo "0, GPU-x, H100, 81000, $free";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_next_trial_waits_until_the_gpus_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until = int(time.time()) + 2
    nvidia_smi(tmp_path / "bin", until, monkeypatch)
    await_free_gpus()
    assert until <= time.time() < until + 5


def test_a_gpu_that_stays_held_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path / "bin", time.time() + 600, monkeypatch)
    monkeypatch.setattr(leftovers, "FREE_S", 0.5)
    with pytest.raises(RuntimeError, match=r"still held .* GPU 0"):
        await_free_gpus()


def test_differences_set_on_the_one_give_the_other() -> None:
    one = OmegaConf.create({"a": {"b": 1, "c": [1, 2]}, "d": "x"})
    other = OmegaConf.create({"a": {"b": 1, "c": [1, 3]}, "d": "x", "e": {"f": None}})
    found = differences(one, other)
    assert found == {"a.c": [1, 3], "e.f": None}
    set_values(one, found)
    assert one == other
