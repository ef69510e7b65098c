"""The energy that a run's GPUs have drawn, as their driver counts it (NVML).

The process that counts is an actor of Ray without GPUs, from which Ray hides them: the launcher hands it their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from guidelines_core.hardware.gpus import devices

GPUS = "GUIDELINES_GPUS"
"""The environment variable that hands the UUIDs of the GPUs that a run may use to the run's processes."""


def environment() -> dict[str, str]:
    """Return the environment variable that names this machine's GPUs, as far as `CUDA_VISIBLE_DEVICES` leaves them."""
    return {GPUS: ",".join(device.uuid for device in devices())}


def joules_of(gpus: int, environ: Mapping[str, str] = os.environ) -> Callable[[], float | None]:
    """Return a function that reads the energy in J that a run's GPUs have drawn since their driver was loaded.

    It returns None where that is not known: there is no NVML or no counter, or the launcher's machine lets the run use
    another number of GPUs than `gpus`, so that it is not known which are the run's or some are on other machines.
    """
    uuids = [uuid for uuid in environ.get(GPUS, "").split(",") if uuid]
    if len(uuids) != gpus or not uuids or not find_spec("pynvml"):
        return lambda: None
    return lambda: _joules(uuids)


def _joules(uuids: list[str]) -> float | None:
    """Return the sum of the counters of `nvmlDeviceGetTotalEnergyConsumption`, which are in mJ (Volta or newer)."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        return float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles)) / 1000
    except pynvml.NVMLError:
        return None
