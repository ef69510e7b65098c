"""Bring what a run kept while MLflow was away into MLflow: `python -m guidelines_core.runs.replay RUN_DIRECTORY`.

Metrics, graded rows and how the run ended; what the store holds already is not written again. Exit codes: 0 all is
there, 2 the directory is no run's or the run is alive and does this itself, 1 the store did not take it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guidelines_core.runs.mlflow_sync import Recorder
from guidelines_core.runs.stores import masked
from guidelines_core.runs.tracking import ClaimError, owned
from guidelines_core.terminal import replace_unprintable


def main() -> int:
    """Replay one run; return the exit code."""
    parser = argparse.ArgumentParser(description="Bring what a run kept while MLflow was away into MLflow.")
    parser.add_argument("directory", type=Path, help="the run's checkpoint directory")
    directory = parser.parse_args().directory.resolve()
    try:
        run = owned(directory)
    except (ClaimError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    recorder = Recorder(run)
    if not recorder.copy():
        print(f"MLflow at {masked(run.claim.tracking_uri)} does not take it: {recorder.failure}", file=sys.stderr)
        return 1
    run.settle()
    print(f"{run.claim.run_name} (MLflow run {run.claim.run_id}): all is recorded, {run.status}")
    run.release()
    return 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
