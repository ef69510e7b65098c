"""A run on a Ray cluster that was started before it, on one machine or several.

Ray's workers there are not the run's descendants, so they get its environment through Ray; and verl's driver process
runs on the machine that launched it, which has the attempt's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from guidelines_core.runs.journal import STOP_FILE
from guidelines_core.runs.start import STAGES_PATH, START

PASSED = (
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "PYTHONUTF8",
    "SAGEMAKER_CONTAINER_LOG_LEVEL",
    "VERL_FILE_LOGGER_PATH",
    "no_proxy",
    "NO_PROXY",
    STAGES_PATH,
    START,
    STOP_FILE,
)
"""The variables of the launching process that workers get. verl prints them, so none may be a secret."""


def worker_environment(config: DictConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Ray sets for the run's workers: `PASSED` and `guidelines.environment`."""
    passed = {name: environ[name] for name in PASSED if name in environ}
    return passed | {name: str(value) for name, value in config.guidelines.environment.items()}


class OnThisNode:
    """A Ray actor class whose actor is created on the node of the calling process.

    verl creates its driver process by `remote()` alone, after it has connected to Ray.
    """

    def __init__(self, actor_class: Any) -> None:
        self._actor_class = actor_class

    def options(self, **options: Any) -> OnThisNode:
        """Return the class with other options of Ray's."""
        return OnThisNode(self._actor_class.options(**options))

    def remote(self, *arguments: Any) -> Any:
        """Create the actor and return its handle."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return self._actor_class.options(scheduling_strategy=here).remote(*arguments)
