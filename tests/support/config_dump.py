"""A driver whose trainer writes down the configuration that verl's trainer got."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.launch import driver
from guidelines_core.verl_adapter.task_runner import GuidelinesTaskRunner

GOT = "got.yaml"
"""The file in the run's directory."""


class DumpingTaskRunner(GuidelinesTaskRunner):
    """The run's task runner, with `trainer_class` replaced."""

    def trainer_class(self, mode: str) -> Any:
        """Return the run's trainer class with another `__init__`."""
        from guidelines_core.verl_adapter.trainer import recorded_trainer

        return type("DumpingTrainer", (Dumping, recorded_trainer(mode)), {})


class Dumping:
    """What is added to a trainer."""

    def __init__(self, config: DictConfig) -> None:
        OmegaConf.save(config, Path(config.trainer.default_local_dir) / GOT)
        super().__init__(config)  # type: ignore[call-arg]


if __name__ == "__main__":
    from tests.support.config_dump import DumpingTaskRunner as Runner
    from tests.support.once_driver import import_once

    import_once()
    driver.main(Path(sys.argv[1]), Runner)
