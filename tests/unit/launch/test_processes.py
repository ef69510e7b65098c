"""That nothing of a run outlives it, shown on processes that try to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from guidelines_core.launch import processes, resume, shared_memory
from guidelines_core.launch.supervisor import PARENT
from guidelines_core.launch.training import exit_text
from guidelines_core.paths import ROOT
from guidelines_core.runs.start import FOLDER

# Children and a grandchild with sessions of their own, deaf to SIGTERM, and a segment as Python leaves it when killed.
STUBBORN = """
import mmap, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
name = f"psm_{os.getpid()}"
with open(f"/dev/shm/{name}", "w+b") as segment:
    segment.truncate(64)
    mapped = mmap.mmap(segment.fileno(), 64)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
open(os.path.join(sys.argv[1], str(os.getpid())), "w").write(name)
time.sleep(600)
"""
START = """
import os, subprocess, sys
os.environ["GUIDELINES_PARENT"] = str(os.getpid())
command = [sys.executable, "-m", "guidelines_core.launch.supervisor", sys.executable, "-c", *sys.argv[1:]]
subprocess.Popen(command).wait()
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a stand-in for run.py, the supervisor and four stubborn processes; return it and the run's folder."""
    run = tmp_path / "run"
    for folder in (tmp_path / "guidelines-sockets", run / "logs"):
        folder.mkdir(parents=True)
    processes.note_folder(run, "attempt-1", tmp_path / "guidelines-sockets")
    own = {FOLDER: str(tmp_path / "guidelines-sockets"), "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **own}
    starter = subprocess.Popen([sys.executable, "-c", START, STUBBORN, str(tmp_path)], env=environment)
    wait_for(lambda: len(segments(tmp_path)) == 4)
    wait_for(lambda: bool(shared_memory.recorded(tmp_path / "guidelines-sockets")))
    assert len(processes.leftovers(run)) == 6
    yield starter, run
    for process in processes.leftovers(run):
        process.kill()
    starter.wait()
    for segment in segments(tmp_path):
        segment.unlink(missing_ok=True)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def segments(folder: Path) -> list[Path]:
    return [Path("/dev/shm") / file.read_text() for file in folder.iterdir() if file.is_file()]


def test_everything_ends_with_run_py_however_it_ends(
    started: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    starter, run = started
    assert all(segment.exists() for segment in segments(tmp_path))
    starter.kill()
    starter.wait()
    wait_for(lambda: processes.leftovers(run) == [])
    assert not any(segment.exists() for segment in segments(tmp_path))
    assert not (tmp_path / "guidelines-sockets").exists()


def test_the_next_start_finds_and_ends_what_even_the_supervisor_could_not(
    started: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    starter, run = started
    (supervisor,) = psutil.Process(starter.pid).children()
    supervisor.kill()
    starter.wait()
    assert len(processes.leftovers(run)) == 4
    taken: Any = SimpleNamespace(directory=run)
    (said,) = resume.clear(taken)
    assert "4 processes" in said
    assert processes.leftovers(run) == []
    assert not any(segment.exists() for segment in segments(tmp_path))


def test_shared_memory_in_use_is_left_alone(started: tuple[subprocess.Popen[bytes], Path], tmp_path: Path) -> None:
    starter, _ = started
    assert shared_memory.remove(shared_memory.recorded(tmp_path / "guidelines-sockets")) == []
    assert all(segment.exists() for segment in segments(tmp_path))
    starter.kill()
    starter.wait()
    wait_for(lambda: not any(segment.exists() for segment in segments(tmp_path)))


def test_a_command_that_is_killed_shows_in_the_supervisors_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "guidelines_core.launch.supervisor", sys.executable, "-c"]
    environment = {**os.environ, PARENT: str(os.getpid()), FOLDER: str(tmp_path)}
    killed = subprocess.run([*command, "import os; os.kill(os.getpid(), 9)"], cwd=ROOT, env=environment)
    assert exit_text(killed.returncode) == "was ended by SIGKILL"
    ended = subprocess.run([*command, "raise SystemExit(3)"], cwd=ROOT, env=environment)
    assert exit_text(ended.returncode) == "ended with exit code 3"


def test_a_supervisor_whose_parent_is_gone_starts_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "guidelines_core.launch.supervisor", "touch", str(tmp_path / "started")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, PARENT: "1", FOLDER: str(tmp_path)})
    assert done.returncode == 128 + signal.SIGTERM
    assert not (tmp_path / "started").exists()


def test_one_that_a_first_look_misses_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    sleeper = subprocess.Popen(["sleep", "60"])
    looks = iter([[], [], [psutil.Process(sleeper.pid)]])
    processes.end(lambda: next(looks, [psutil.Process(sleeper.pid)] if sleeper.poll() is None else []))
    assert sleeper.wait(1) == -signal.SIGKILL


def test_a_copy_of_a_runs_directory_has_none_of_its_processes(
    started: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    _, run = started
    shutil.copytree(run, tmp_path / "copy")
    assert processes.leftovers(tmp_path / "copy") == []
    run.rename(tmp_path / "moved")
    assert len(processes.leftovers(tmp_path / "moved")) == 6
    (tmp_path / "moved").rename(run)


# Ends a tree whose root ends at once and leaves a child, beside another child of its own.
TREE = """
import subprocess, sys, time
import psutil
from guidelines_core.launch import processes
processes.adopt_orphans()
processes.GRACE_S = 1.0
other = subprocess.Popen(["sleep", "60"])
root = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60 & sleep 61"])
while len(psutil.Process(root.pid).children()) < 2:
    time.sleep(0.05)
processes.end_tree(psutil.Process(root.pid))
print([child.pid == other.pid for child in psutil.Process().children()], other.poll())
other.kill()
"""


def test_a_tree_is_ended_and_no_other_child_of_its_caller() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TREE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[True] None\n"
