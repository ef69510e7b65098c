"""The machine that a sweep runs on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from guidelines_core.hardware.gpus import devices, driver_version, known_gpu
from guidelines_core.hardware.shapes import Gpu


@dataclass(frozen=True)
class Machine:
    """The GPUs and cores of a machine.

    Attributes:
        gpus: the number of GPUs.
        gpu: the figures of one GPU; of an assumed one if there is none.
        driver: the version of NVIDIA's driver, empty if there is none.
        cores: the number of CPU cores.
    """

    gpus: int
    gpu: Gpu
    driver: str = ""
    cores: int = 0

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        found = devices()
        return cls(len(found), known_gpu(found), driver_version() if found else "", os.cpu_count() or 0)

    def __str__(self) -> str:
        """Return the properties on which rates depend: GPUs and driver, or else the number of CPU cores."""
        return f"{self.gpus} x {self.gpu.name}, driver {self.driver}" if self.gpus else f"CPU, {self.cores} cores"
