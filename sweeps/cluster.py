"""Runs the workers of a study as tasks of a Ray cluster, each with the sweep's own command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError
from guidelines_core.hardware.host import GB, MEMORY_GB
from guidelines_core.launch.processes import TEMPORARY
from guidelines_core.launch.supervisor import PARENT
from guidelines_core.paths import ROOT
from guidelines_core.runs.start import FOLDER
from guidelines_core.runs.stores import tracking_uri

RESOURCE_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU"}
"""Ray's names of a machine's resources, by those of a task's options."""

PASSED_ON = ("VERL_GUIDELINES_", "MLFLOW_TRACKING_")
"""Prefixes of the environment variables that a worker inherits from the command."""

CLUSTER_VARIABLES = "RAY_"
"""The prefix of the variables that describe the cluster; removed for workers, whose trainers start their own Ray."""


def refuse_local_stores(storage: str | None, tracking: str) -> None:
    """Raise a `ConfigError` if the workers could not share the study's database or the MLflow store."""
    for name, url in (("--storage", storage or "sqlite"), ("MLFLOW_TRACKING_URI", tracking)):
        if not url.startswith(("postgresql", "mysql", *(["http"] if name != "--storage" else []))):
            raise ConfigError(
                f"{name}={url.partition(':')[0]}: with --ray, expected an address that every machine reaches, "
                "such as postgresql://USER:PASSWORD@HOST/DATABASE"
            )


def environment() -> dict[str, str]:
    """Return the environment variables that a worker needs from this process."""
    found = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return {**found, "MLFLOW_TRACKING_URI": tracking_uri()}


def worker_resources(config: DictConfig) -> dict[str, Any]:
    """Return the Ray resources of one worker: its layout's GPUs, or the bytes of memory of a run on a CPU."""
    if config.trainer.device == "cuda":
        return {"num_cpus": 0, "num_gpus": layout.gpus_needed(config)}
    return {"num_cpus": 0, "memory": int(MEMORY_GB * GB)}


def run_workers(
    address: str, command: Sequence[str], workers: int, resources: Mapping[str, Any], variables: Mapping[str, str]
) -> list[int]:
    """Run `command` in `workers` tasks, each where `resources` are free, and return their exit codes.

    Their output is printed here with the task's process and machine as prefix. Ctrl-C stops all of them. Ray restarts
    a task on another machine if its own is lost.

    Raises:
        ConfigError: there is no such cluster, or none of its machines has the resources.

    Args:
        address: the Ray cluster's, such as `auto` or HOST:6379.
        command: a worker's command; the repository has the same path on every machine.
        workers: the number of workers.
        resources: see `worker_resources`.
        variables: added to the environment of each task.
    """
    # Ray reads a process's identity when it is imported, so a sweep that trains in this process must not import it.
    import ray

    # A task imports this module by its name.
    places = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    try:
        ray.init(address=address, log_to_driver=True, configure_logging=False, runtime_env=places)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"--ray {address}: {error}; start one with `ray start --head`") from error
    try:
        wanted = {RESOURCE_NAMES.get(name, name): amount for name, amount in resources.items() if name != "resources"}
        wanted |= resources.get("resources", {})
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            raise ConfigError(f"--ray {address}: a worker needs {wanted}, and no machine of the cluster has that")
        task = ray.remote(run_worker).options(**resources, scheduling_strategy="SPREAD")
        tasks = [task.remote(list(command), dict(variables)) for _ in range(workers)]
        try:
            return list(ray.get(tasks))
        except KeyboardInterrupt:
            for each in tasks:
                ray.cancel(each)
            ray.wait(tasks, num_returns=len(tasks), timeout=60)
            raise
    finally:
        ray.shutdown()


def run_worker(command: list[str], variables: dict[str, str]) -> int:
    """Run one worker and return its exit code; the worker ends with this process, even if that is killed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(CLUSTER_VARIABLES)}
    # The supervisor removes this folder when it ends.
    folder = tempfile.mkdtemp(prefix=TEMPORARY)
    worker = subprocess.Popen(
        [sys.executable, "-m", "guidelines_core.launch.supervisor", *command],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), **variables, FOLDER: folder, PARENT: str(os.getpid())},
    )
    try:
        # Ray's interrupt does not end a wait in the kernel.
        while worker.poll() is None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        worker.send_signal(signal.SIGTERM)
    return worker.wait()
