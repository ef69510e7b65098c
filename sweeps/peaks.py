"""Records the peak memory in use, by GPU and on the host."""

from __future__ import annotations

import threading
import time

import psutil

from guidelines_core.hardware.gpus import devices

EVERY_S = 1.0


class Peaks:
    """Samples the memory every `EVERY_S` seconds, in a thread that ends with the process."""

    def __init__(self) -> None:
        self._highest: dict[str, float] = {}
        self._gpus = bool(devices())
        threading.Thread(target=self._watch, daemon=True).start()

    def restart(self) -> None:
        """Start a new measurement."""
        self._highest = {}

    def metrics(self) -> dict[str, float]:
        """Return the peaks since the last restart, in GB, by their MLflow names."""
        return dict(self._highest)

    def _watch(self) -> None:
        while True:
            memory = psutil.virtual_memory()
            seen = {"sweep/peak_memory_gb/host": (memory.total - memory.available) / 1e9}
            if self._gpus:
                used = {device.index: (device.total - device.free) * 2**20 / 1e9 for device in devices()}
                seen |= {f"sweep/peak_memory_gb/gpu{index}": gb for index, gb in used.items()}
            highest = self._highest
            for name, gb in seen.items():
                highest[name] = max(highest.get(name, 0.0), gb)
            time.sleep(EVERY_S)
