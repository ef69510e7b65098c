"""The GPUs of this machine, as `nvidia-smi` lists them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from guidelines_core.config.compose import ConfigError
from guidelines_core.hardware.shapes import Gpu, gpus

ASSUMED = "H100"
"""The GPU that memory is estimated for on a machine without one."""


@dataclass(frozen=True)
class Device:
    """A GPU of this machine.

    Attributes:
        index, uuid, name: as in `nvidia-smi`.
        total, free: memory in MiB.
        processes: the processes that compute on it, each as `PID name`.
    """

    index: int
    uuid: str
    name: str
    total: int
    free: int
    processes: tuple[str, ...] = ()


def devices(environ: Mapping[str, str] = os.environ) -> list[Device]:
    """Return the GPUs that a run may use; none without a driver."""
    asked = "index,uuid,name,memory.total,memory.free"
    rows = _nvidia_smi(f"--query-gpu={asked}")
    apps = _nvidia_smi("--query-compute-apps=gpu_uuid,pid,process_name") if rows else []
    return visible(parse_devices(rows, apps), environ.get("CUDA_VISIBLE_DEVICES"))


def driver_version() -> str:
    """Return the version of NVIDIA's driver; empty where there is none."""
    return next(iter(_nvidia_smi("--query-gpu=driver_version")), "").strip()


def named_machine(text: str) -> list[Device]:
    """Return the GPUs of a machine named like `4xH100`, all free.

    Raises:
        ConfigError: the name has another form, or the GPU is unknown.
    """
    known = gpus()
    count, _, name = text.partition("x")
    if not count.isdigit() or int(count) < 1 or name not in known:
        raise ConfigError(
            f"--for {text}: expected a number and a GPU, such as 4xH100; known are {', '.join(sorted(known))} "
            "(guidelines_core/hardware/known/gpus.yaml)"
        )
    memory = int(1024 * known[name].memory)
    return [Device(index, "", name, memory, memory) for index in range(int(count))]


def _nvidia_smi(query: str) -> list[str]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def parse_devices(rows: Sequence[str], apps: Sequence[str]) -> list[Device]:
    """Return the GPUs of `nvidia-smi`'s lines: `index, uuid, name, total, free` and `uuid, pid, name`."""
    users: dict[str, list[str]] = {}
    for line in apps:
        uuid, process, name = (field.strip() for field in line.split(",", 2))
        users.setdefault(uuid, []).append(f"{process} {name}")
    found = []
    for line in rows:
        index, uuid, name, total, free = (field.strip() for field in line.split(","))
        found.append(Device(int(index), uuid, name, int(total), int(free), tuple(users.get(uuid, ()))))
    return found


def visible(found: Sequence[Device], chosen: str | None) -> list[Device]:
    """Return the GPUs that `CUDA_VISIBLE_DEVICES` leaves: numbers or the beginnings of UUIDs, up to the first wrong."""
    if chosen is None:
        return list(found)
    left: list[Device] = []
    for word in (word.strip() for word in chosen.split(",")):
        device = next((d for d in found if word and (word == str(d.index) or d.uuid.startswith(word))), None)
        if device is None:
            break
        left.append(device)
    return left


def known_gpu(found: Sequence[Device]) -> Gpu:
    """Return the figures of this machine's first GPU, with its own memory; of `ASSUMED` where there is none."""
    known = gpus()
    if not found:
        return known[ASSUMED]
    like = next((gpu for name, gpu in known.items() if name in found[0].name), known[ASSUMED])
    return replace(like, name=found[0].name, memory=found[0].total / 1024)
