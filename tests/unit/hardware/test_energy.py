from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from guidelines_core.hardware import energy
from guidelines_core.hardware.gpus import Device


class NVMLError(Exception):
    pass


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A driver with two GPUs, and their counters in mJ."""
    counters = {"GPU-a": 1_000, "GPU-b": 2_500}

    def counter(uuid: str) -> int:
        if uuid not in counters:
            raise NVMLError("GPU is lost")
        return counters[uuid]

    driver = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=counter,
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(energy, "find_spec", lambda name: object())
    monkeypatch.setattr(energy, "devices", lambda: [Device(i, uuid, "H100", 1, 1) for i, uuid in enumerate(counters)])
    # As Ray leaves it to an actor without GPUs.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, value in energy.environment().items():
        monkeypatch.setenv(name, value)
    return counters


def test_the_counters_of_all_gpus_are_added_up_in_joules(two_gpus: dict[str, int]) -> None:
    read = energy.joules_of(2)
    assert read() == 3.5
    two_gpus["GPU-b"] += 1_000
    assert read() == 4.5


def test_a_lost_gpu_says_nothing(two_gpus: dict[str, int]) -> None:
    read = energy.joules_of(2)
    del two_gpus["GPU-a"]
    assert read() is None


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_nothing_is_said_where_the_runs_gpus_are_not_those_of_this_machine(two_gpus: dict[str, int], gpus: int) -> None:
    assert energy.joules_of(gpus)() is None


def test_without_nvml_nothing_is_said(two_gpus: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert energy.joules_of(2)() is None


def test_where_the_launcher_handed_no_gpus_over_nothing_is_said(two_gpus: dict[str, int]) -> None:
    assert energy.joules_of(2, {})() is None
    assert energy.joules_of(0, {energy.GPUS: ""})() is None
