"""What holds for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# An example's seconds say something of the machine alone.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# As a run has it: otherwise the import of vLLM's HTTP server sets the root logger to ERROR, and the tests after it in
# the same process see no warning.
os.environ["SAGEMAKER_CONTAINER_LOG_LEVEL"] = "WARNING"
# Two workers on two cores: threads of torch and numpy would wait for one another longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compose experiments and make MLflow's stores in a fraction of the time, where tests have imported either.

    The workers of a run share what is made.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with pytest.MonkeyPatch.context() as patch:
        if "guidelines_core.config.compose" in sys.modules:
            from tests.support.composing import compose_fast

            compose_fast(patch, shared)
        if "mlflow" in sys.modules:
            from mlflow.store.db import utils

            from tests.support.stores import CopiedTables

            made = CopiedTables(utils._initialize_tables, shared / "tables.db")
            patch.setattr(utils, "_initialize_tables", made)
        yield
