"""The machine that a sweep runs on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from guidelines_core.hardware.gpus import devices, driver_version, known_gpu
from guidelines_core.hardware.shapes import Gpu


@dataclass(frozen=True)
class Machine:
    """The GPUs of a machine; a layout on a CPU asks for none of them.

    Attributes:
        gpus: their number.
        gpu: the figures of one; of an assumed one where there is none.
        driver: the version of NVIDIA's driver, empty where there is none.
        cores: of the CPU.
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
        """What rates depend on: the GPUs and their driver, or the CPU's cores where there are none."""
        return f"{self.gpus} x {self.gpu.name}, driver {self.driver}" if self.gpus else f"CPU, {self.cores} cores"
