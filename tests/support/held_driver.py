"""A driver whose trainer waits in a step until the run is asked to stop, so that no stop comes too late."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from guidelines_core.launch import driver
from guidelines_core.verl_adapter.task_runner import GuidelinesTaskRunner

HELD = 3
"""The step that waits, with its rollouts under way."""

WITHIN_S = 300.0
"""After so long the step goes on, and the run ends as if it had not been asked."""


class HeldTaskRunner(GuidelinesTaskRunner):
    """The run's task runner, with `trainer_class` replaced."""

    def trainer_class(self, mode: str) -> Any:
        """Return the run's trainer class with another `on_sample_begin`."""
        from guidelines_core.verl_adapter.trainer import recorded_trainer

        return type("HeldTrainer", (Held, recorded_trainer(mode)), {})


class Held:
    """What is added to a trainer."""

    global_steps: int

    def on_sample_begin(self) -> None:
        """Wait in the step `HELD`."""
        from guidelines_core.verl_adapter.step_log import stop_asked

        super().on_sample_begin()  # type: ignore[misc]
        deadline = time.monotonic() + WITHIN_S
        while self.global_steps == HELD and not stop_asked() and time.monotonic() < deadline:
            time.sleep(0.01)


if __name__ == "__main__":
    from tests.support.held_driver import HeldTaskRunner as Runner
    from tests.support.once_driver import import_once

    import_once()
    driver.main(Path(sys.argv[1]), Runner)
