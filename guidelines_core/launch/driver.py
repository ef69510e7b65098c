"""Starts Ray and verl's task runner: `python -m guidelines_core.launch.driver CONFIG.yaml`.

It imports verl while preflight checks the composed configuration, then waits for one line of JSON on standard input,
`{"config", "log", "environment"}`: the configuration file to train, the log file to write to, and variables to add to
the environment. It exits if standard input closes first. `launch.training` starts it and owns its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.launch.cluster import OnThisNode, worker_environment
from guidelines_core.launch.environment import own_cluster
from guidelines_core.launch.forkserver import forked_processes
from guidelines_core.launch.pending import record_pending
from guidelines_core.launch.processes import end_with
from guidelines_core.launch.supervisor import PARENT
from guidelines_core.runs.start import Start
from guidelines_core.verl_adapter.task_runner import GuidelinesTaskRunner
from guidelines_core.verl_adapter.validation import validate

WARM_MODULES = (
    "torch._dynamo",
    "torch.distributed.fsdp",
    "tensordict",
    "transformers.generation",
    "transformers.models.auto",
    "transformers.models.llama.modeling_llama",
    "peft",
    "datasets",
    "pandas",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "math_verify",
    "vllm.entrypoints.openai.api_server",
)
"""The slow imports that most of a run's processes share. None of them loads Ray's library: it reads a worker's identity
from the environment when it is loaded (`RayConfig::JOB_ID`), so each process must load its own."""

WARM_MODULES_CPU = ("vllm.v1.worker.cpu_worker",)
"""Further imports on a CPU. With them on a GPU, vLLM failed during compilation: "'_EventPlaceholder' object has no
attribute 'elapsed_time'"; this module is the suspected cause."""


def main(composed: Path, task_runner: type[GuidelinesTaskRunner] = GuidelinesTaskRunner) -> None:
    """Import what the configuration in `composed` needs, wait, and train to the end; `task_runner` is verl's driver."""
    end_with(int(os.environ[PARENT]), signal.SIGKILL)
    expected = OmegaConf.load(composed)
    with contextlib.ExitStack() as stack:
        python: Path | None = None
        if expected.guidelines.fork_processes:
            python = stack.enter_context(forked_processes(warm_modules(expected.trainer.device)))
            if expected.trainer.device == "cuda":
                stack.enter_context(inspecting_models(python, expected))
        # After the fork of the server and while it imports, see WARM_MODULES.
        import verl.trainer.main_ppo  # noqa: F401

        config = receive_job()
        start = Start.handed_over()
        start.ends("imports")
        os.environ.update(start.environment())
        if python is not None:
            OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.py_executable", str(python), force_add=True)
        train(config, task_runner)


@contextlib.contextmanager
def inspecting_models(python: Path, config: Any) -> Iterator[None]:
    """Inspect the model classes for vLLM in a process forked by `python`, while this process imports verl."""
    solver = set() if layout.solver_elsewhere(config) else {config.guidelines.solver.model}
    models = {config.actor_rollout_ref.model.path, *solver}
    process = subprocess.Popen([str(python), "-m", "guidelines_core.verl_adapter.model_class", *sorted(models)])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def receive_job() -> DictConfig:
    """Wait for the line on standard input, redirect all output to its log, and return its configuration."""
    line = sys.stdin.readline()
    if not line:
        sys.exit()
    job = json.loads(line)
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.environ.update(job["environment"])
    config = OmegaConf.load(job["config"])
    assert isinstance(config, DictConfig)
    return config


def warm_modules(device: str) -> tuple[str, ...]:
    """Return the modules to import before a run on `device` forks its processes; none of them initializes CUDA."""
    return (*WARM_MODULES, *(WARM_MODULES_CPU if device == "cpu" else ()))


def train(config: DictConfig, task_runner: type[GuidelinesTaskRunner]) -> None:
    """Start Ray and the task runner, and wait until it has trained to the last step of `config`."""
    import ray
    from verl.trainer.main_ppo import run_ppo

    validate(config)
    record_pending()
    runner = ray.remote(task_runner)
    if not own_cluster(config):
        for name, value in worker_environment(config, os.environ).items():
            OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{name}", value, force_add=True)
        runner = OnThisNode(runner)
    run_ppo(config, task_runner_class=runner)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
