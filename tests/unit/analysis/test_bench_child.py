"""That a benchmark which is interrupted ends the run that it measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from analysis.bench import quickstart, recording, start

RUN = """
import signal, sys, time
from pathlib import Path
def end(*_):
    Path(__file__).with_name("ended").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, end)
Path(__file__).with_name("started").touch()
time.sleep(120)
"""
"""A stand-in for run.py."""


def interrupt_when(file: Path) -> None:
    """Wait until `file` exists, then raise KeyboardInterrupt."""
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("bench", "measure"),
    [
        (quickstart, lambda folder: quickstart.measure(folder, [])),
        (recording, lambda folder: recording.measure(folder, "quickstart", [])),
        (start, lambda folder: start.one_start(folder, "run", "quickstart", [], [])),
    ],
)
def test_a_benchmark_that_is_interrupted_ends_its_run(
    bench: ModuleType, measure: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "experiments"
    scripts.mkdir()
    (scripts / "run.py").write_text(RUN)
    monkeypatch.setattr(bench, "ROOT", tmp_path)

    def interrupt(_: object) -> None:
        interrupt_when(scripts / "started")

    if bench is quickstart:
        monkeypatch.setattr(bench, "tree_pss", interrupt)
    else:
        monkeypatch.setattr(bench, "time", SimpleNamespace(time=time.time, sleep=interrupt))
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path)
    assert (scripts / "ended").exists()
