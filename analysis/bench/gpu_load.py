"""The GPUs' load while an arm runs, from `nvidia-smi`: the share of time without a kernel, and memory."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from guidelines_core.hardware.gpus import Device

EVERY_MS = 200
QUERY = "index,timestamp,utilization.gpu,memory.used"


@contextlib.contextmanager
def sampled(file: Path, of: Sequence[Device]) -> Iterator[None]:
    """Write a line for each of these GPUs and each `EVERY_MS` to `file` until the block ends."""
    chosen = ",".join(device.uuid for device in of)
    command = ["nvidia-smi", f"--id={chosen}", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    command += [f"--loop-ms={EVERY_MS}"]
    with file.open("w") as lines, subprocess.Popen(command, stdout=lines) as process:
        try:
            yield
        finally:
            process.terminate()


def load(lines: Sequence[str], began: float, ended: float) -> list[dict[str, Any]]:
    """Return each GPU's `index`, `idle_share` and highest `memory_gib` between two times, in seconds since 1970.

    Idle is the time in which no kernel ran, as the driver counts it (`utilization.gpu`).
    """
    seen: dict[int, list[tuple[float, float]]] = {}
    for line in lines:
        words = line.split(",")
        if len(words) != len(QUERY.split(",")):
            continue  # an incomplete last line
        at = datetime.strptime(words[1].strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
        if began <= at <= ended:
            seen.setdefault(int(words[0]), []).append((float(words[2]), float(words[3])))
    return [
        {
            "index": index,
            "idle_share": round(1 - sum(busy for busy, _ in samples) / len(samples) / 100, 4),
            "memory_gib": round(max(used for _, used in samples) / 1024, 1),
        }
        for index, samples in sorted(seen.items())
    ]
