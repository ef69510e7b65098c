from __future__ import annotations

import stat
import time
from datetime import datetime
from pathlib import Path

import pytest

from analysis.bench.gpu_load import load, sampled
from guidelines_core.hardware.gpus import Device


def line(index: int, at: float, busy: int, used: int) -> str:
    return f"{index}, {datetime.fromtimestamp(at):%Y/%m/%d %H:%M:%S}.{round(at % 1 * 1000):03d}, {busy}, {used}"


def test_idle_share_and_memory_of_each_gpu_between_two_times() -> None:
    lines = [line(gpu, 1000 + 0.25 * n, busy, used)
             for n, (busy, used) in enumerate([(0, 99999), (100, 10240), (50, 20480), (0, 99999)])
             for gpu in (0, 1)]  # fmt: skip
    assert load([*lines, "1, 2026/"], 1000.2, 1000.6) == [
        {"index": gpu, "idle_share": 0.25, "memory_gib": 20.0} for gpu in (0, 1)
    ]


def test_the_given_gpus_are_sampled_until_the_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n'
        "while :; do echo '0, 2026/01/01 12:00:00.000, 7, 1024'; sleep 0.1; done\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = tmp_path / "gpus.csv"
    with sampled(file, [Device(index, uuid, "", 0, 0) for index, uuid in ((0, "GPU-a"), (3, "GPU-d"))]):
        time.sleep(0.5)
    assert "--id=GPU-a,GPU-d" in (tmp_path / "asked").read_text().split()
    taken = file.read_text()
    assert taken.count("12:00:00.000") >= 2
    time.sleep(0.3)
    assert file.read_text() == taken
