"""An interpreter for tests that start one: its processes are forks of one that has done the slow imports.

`warm_python(MODULES)` takes the arguments of `python`. MLflow alone takes two seconds to import.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from functools import cache

from guidelines_core.launch.forkserver import forked_processes
from guidelines_core.paths import ROOT

LAUNCH = ("guidelines_core.launch.training",)
STARTS = (
    "guidelines_core.hardware.estimate",
    "guidelines_core.launch.resume",
    "guidelines_core.launch.start_record",
    "guidelines_core.launch.training",
    "guidelines_core.preflight",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What `experiments/run.py` imports."""

STUDIES = ("torch", "optuna.samplers._gp.sampler", "sweeps.loop", "tests.support.study")


@cache
def warm_python(modules: tuple[str, ...]) -> str:
    """Return an executable whose processes have imported `modules`; it lasts as long as this process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
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
