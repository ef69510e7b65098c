"""An interpreter for tests that start one: its processes are forks of one that has done the slow imports.

`warm_python(MODULES)` takes the arguments of `python`. MLflow alone takes two seconds to import.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from functools import cache

from guidelines_core.config.compose import compose
from guidelines_core.launch.forkserver import forked_processes
from guidelines_core.paths import ROOT

LAUNCH = ("guidelines_core.launch.training",)
STARTS = (
    "guidelines_core.hardware.estimate",
    "guidelines_core.launch.resume",
    "guidelines_core.launch.start_record",
    "guidelines_core.launch.training",
    "guidelines_core.preflight.inside",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What `experiments/run.py` and its preflight import."""

DRY_RUNS = (
    *STARTS,
    "guidelines_core.verl_adapter.reward_manager",
    "verl.trainer.main_ppo",
    "tests.support.warm_children",
)
"""What a dry run and the checks in its own process import; verl as it is without a layout's environment."""

ENGINES = (
    "analysis.lift",
    "guidelines_core.models.export",
    "math_verify",
    "mlflow.store.tracking.sqlalchemy_store",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.worker.cpu_worker",
    "tests.support.warm_children",
)
"""What programs that start vLLM import; their engines are forks as well."""

STUDIES = ("torch", "optuna.samplers._gp.sampler", "sweeps.loop", "tests.support.study")


def engine_python() -> str:
    """Return a warm executable for programs that start vLLM on a CPU."""
    own = compose("tiny", environ={}).guidelines.environment
    return warm_python(ENGINES, tuple((str(name), str(value)) for name, value in own.items()))


@cache
def warm_python(modules: tuple[str, ...], variables: tuple[tuple[str, str], ...] = ()) -> str:
    """Return an executable whose processes have imported `modules`; it lasts as long as this process.

    `variables` are those that the modules read when they are imported.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **dict(variables)}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.warm_python", *modules],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    # At the end of its input the server ends.
    atexit.register(server.stdin.close)
    return server.stdout.readline().strip()


if __name__ == "__main__":
    with forked_processes(sys.argv[1:]) as executable:
        print(executable, flush=True)
        sys.stdin.read()
