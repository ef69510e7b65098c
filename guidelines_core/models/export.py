"""Make a trained planner into a Hugging Face folder that transformers and vLLM load.

    python -m guidelines_core.models.export RUN [--checkpoint STEP|best|last] --out DIR [--register]

RUN is a checkpoint directory, a run's id, or its name, which means its newest FINISHED top-level run. `best` is the
checkpoint with the highest validation accuracy. The model is written in bfloat16. `--register` copies the folder to the
run's artifacts and makes it a version of the MLflow model of the run's name.

Exit codes: 0 made, 2 refused, 1 failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from guidelines_core.models.merge import MergeError, merge
from guidelines_core.runs.checkpoints import Checkpoint, best, fault, sealed
from guidelines_core.runs.lookup import RunError, find_run, open_store
from guidelines_core.runs.stores import tracking_uri
from guidelines_core.terminal import replace_unprintable

CHECKPOINTS = "guidelines.checkpoints"
"""The tag of a run that names its checkpoint directory."""


BASE = "actor_rollout_ref/model/path"
"""The parameter of a run that names the model it began with."""


class ExportError(ValueError):
    """An argument names something that is missing or cannot be used."""


def main() -> int:
    """Export, and register if asked; return the exit code."""
    arguments = parse_arguments()
    try:
        run = find_run(arguments.run, open_store())
        if CHECKPOINTS not in run.data.tags:
            raise ExportError(f"run {arguments.run!r} ({run.info.run_id}) has no checkpoint directory of its own")
        checkpoint = pick(sealed(Path(run.data.tags[CHECKPOINTS])), arguments.checkpoint)
        if arguments.out.exists() and any(arguments.out.iterdir()):
            raise ExportError(f"--out={arguments.out}: it holds files already; name a new folder")
        if reason := fault(checkpoint.folder):
            raise ExportError(f"{checkpoint.folder} is not whole: {reason}; name another --checkpoint")
        merge(checkpoint.folder, arguments.out.resolve(), "bfloat16", run.data.params[BASE])
    except (RunError, ExportError, MergeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"step {checkpoint.step} (validation accuracy {checkpoint.accuracy}) is in {arguments.out}")
    if arguments.register:
        version = register(run, checkpoint, arguments.out)
        print(f"registered as version {version} of {run.info.run_name}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description="Make a trained planner into a Hugging Face folder.")
    parser.add_argument("run", metavar="RUN", help="a checkpoint directory, a run's id or its name")
    parser.add_argument("--checkpoint", default="best", metavar="STEP|best|last", help="which one; best by default")
    parser.add_argument("--out", type=Path, required=True, help="the new folder")
    parser.add_argument("--register", action="store_true", help="make it a version of an MLflow model")
    return parser.parse_args()


def pick(checkpoints: list[Checkpoint], wanted: str) -> Checkpoint:
    """Return the checkpoint that `wanted` names: a step, `best`, or `last`.

    `best` is the last one if no checkpoint was validated.

    Raises:
        ExportError: there is no such checkpoint.
    """
    there = {str(checkpoint.step): checkpoint for checkpoint in checkpoints}
    if not there:
        raise ExportError("the run has no whole checkpoint")
    there["last"] = checkpoints[-1]
    there["best"] = (best(checkpoints) or [checkpoints[-1]])[0]
    if wanted not in there:
        raise ExportError(f"--checkpoint={wanted}: expected one of {', '.join(there)}")
    return there[wanted]


def register(run: MlflowRun, checkpoint: Checkpoint, folder: Path) -> str:
    """Copy `folder` to the run's artifacts and make it a version of the model of the run's name; return its number."""
    client = MlflowClient(tracking_uri())
    name, run_id = run.info.run_name, run.info.run_id
    target = f"model/step-{checkpoint.step}"
    client.log_artifacts(run_id, str(folder), target)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="a planner that writes guidelines")
    tags = {"step": str(checkpoint.step), "validation_accuracy": str(checkpoint.accuracy)}
    source = f"{run.info.artifact_uri}/{target}"
    return str(client.create_model_version(name, source=source, run_id=run_id, tags=tags).version)


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
