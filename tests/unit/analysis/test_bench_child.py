"""That a benchmark which is interrupted ends the run that it measures, and exits with 130."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from analysis import benchmark
from analysis.bench import child, quickstart, recording, start
from analysis.bench.arms import Arm
from analysis.bench.child import exit_code, measured_process
from guidelines_core.launch.stop import SIGNALS
from guidelines_core.paths import ROOT

RUN = """
import signal, sys, time
from pathlib import Path
def end(number, _):
    with Path(__file__).with_name("ended").open("a") as file:
        file.write(signal.Signals(number).name)
    sys.exit(130)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
Path(__file__).with_name("started").touch()
time.sleep(120)
"""
"""A stand-in for run.py."""

DEAF = ["sh", "-c", "trap '' INT TERM; echo ready; exec sleep 120"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handle SIGUSR1 as Ctrl-C, and SIGINT as at a terminal; restore all handlers afterwards."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGUSR1)}
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt_when(holds: Callable[[], bool]) -> None:
    """Interrupt this process as soon as `holds` does."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize(
    ("bench", "measure"),
    [
        (quickstart, lambda folder: quickstart.measure(folder, [])),
        (recording, lambda folder: recording.measure(folder, "quickstart", [])),
        (start, lambda folder: start.one_start(folder, "run", "quickstart", [], [])),
        (benchmark, lambda folder: benchmark.measure(Arm("a", "quickstart", ()), folder / "arm")),
    ],
)
def test_a_benchmark_that_is_interrupted_ends_its_run(
    bench: ModuleType, measure: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "experiments"
    scripts.mkdir()
    (scripts / "run.py").write_text(RUN)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    interrupt_when((scripts / "started").exists)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path)
    assert (scripts / "ended").read_text() == "SIGINT"


def run_until(failing: Callable[[subprocess.Popen[bytes]], None], command: Sequence[str]) -> int:
    """Return how the process of `command` ended, whose block ran `failing`."""
    with contextlib.suppress(KeyboardInterrupt, OSError), measured_process(command, stdout=subprocess.PIPE) as process:
        failing(process)
    return int(process.returncode)


def test_a_terminals_ctrl_c_reaches_the_benchmark_alone() -> None:
    def interrupted(process: subprocess.Popen[bytes]) -> None:
        assert os.getsid(process.pid) == process.pid
        raise KeyboardInterrupt

    assert run_until(interrupted, ["sleep", "120"]) == -signal.SIGINT


def test_a_process_that_has_inherited_an_ignored_sigint_is_ended_by_sigterm() -> None:
    def failing(_: object) -> None:
        raise OSError("the disk is full")

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run_until(failing, ["sleep", "120"]) == -signal.SIGTERM


@pytest.mark.timeout(60)
def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "END_S", 0.1)
    assert run_until(interrupted, DEAF) == -signal.SIGKILL


@pytest.mark.timeout(60)
def test_a_second_interruption_kills_the_process() -> None:
    def interrupted(process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        again = time.monotonic() + 0.3
        interrupt_when(lambda: time.monotonic() > again)
        raise KeyboardInterrupt

    assert run_until(interrupted, DEAF) == -signal.SIGKILL


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_benchmark_with_130_and_a_sentence(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        os.kill(os.getpid(), number)
        time.sleep(60)
        return 0

    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    assert exit_code(main) == 130
    assert capsys.readouterr().err.startswith("Interrupted")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("bench/quickstart.py", []),
        ("bench/recording.py", []),
        ("bench/start.py", ["--name", "quickstart"]),
        ("benchmark.py", ["--arms", "{folder}/arms.yaml", "--out", "{folder}/out.json"]),
    ],
)
def test_every_benchmark_of_a_run_exits_so(
    file: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child, "measured_process", interrupted)
    (tmp_path / "arms.yaml").write_text("experiment: quickstart\narms:\n- name: a\n")
    monkeypatch.setattr(sys, "argv", [file, *(word.format(folder=tmp_path) for word in words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "analysis" / file), run_name="__main__")
    assert ended.value.code == 130
