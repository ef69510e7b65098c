"""The energy that this machine's GPUs have drawn, as their driver counts it (NVML)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from guidelines_core.hardware.gpus import devices


def joules_of(gpus: int) -> Callable[[], float | None]:
    """Return a function that reads the energy in J that a run's GPUs have drawn since their driver was loaded.

    It returns None where that is not known: there is no NVML or no counter, or this machine lets the run use another
    number of GPUs than `gpus`, so that it is not known which are the run's or some are on other machines.
    """
    found = devices() if gpus and find_spec("pynvml") else []
    if len(found) != gpus or not found:
        return lambda: None
    return lambda: _joules([device.uuid for device in found])


def _joules(uuids: list[str]) -> float | None:
    """Return the sum of the counters of `nvmlDeviceGetTotalEnergyConsumption`, which are in mJ (Volta or newer)."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        return float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles)) / 1000
    except pynvml.NVMLError:
        return None
