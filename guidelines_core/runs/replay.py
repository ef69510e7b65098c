"""Copy a run's records into MLflow later: `python -m guidelines_core.runs.replay RUN_DIRECTORY`.

For runs whose store was unreachable. Copies metrics, graded rows and the run's end; nothing is written twice. Exit
codes: 0 everything is in MLflow, 2 the directory belongs to no run or the run is still active, 1 the store did not
accept it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guidelines_core.runs.claim import owned
from guidelines_core.runs.claim_file import ClaimError
from guidelines_core.runs.mlflow_sync import Recorder
from guidelines_core.runs.stores import masked, unreachable
from guidelines_core.terminal import replace_unprintable


def main() -> int:
    """Replay one run; return the exit code."""
    parser = argparse.ArgumentParser(description="Bring what a run kept while MLflow was away into MLflow.")
    parser.add_argument("directory", type=Path, help="the run's checkpoint directory")
    directory = parser.parse_args().directory.resolve()
    if not directory.is_dir():
        print(f"{directory}: there is no such directory; expected a run's, as run.py prints it", file=sys.stderr)
        return 2
    try:
        run = owned(directory)
    except ClaimError as error:
        print(error, file=sys.stderr)
        return 2
    recorder = Recorder(run)
    if failure := unreachable(run.claim.tracking_uri) or (None if recorder.copy() else recorder.failure):
        print(f"MLflow at {masked(run.claim.tracking_uri)} does not take it: {failure}", file=sys.stderr)
        return 1
    run.settle()
    print(f"{run.claim.run_name} (MLflow run {run.claim.run_id}): all is recorded, {run.status}")
    run.release()
    return 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
