"""Records the experiment and the overrides of each attempt, and finds the run that `--name … --resume` refers to."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig

from guidelines_core.config.compose import checkpoint_directory, compose, experiments
from guidelines_core.paths import CHECKPOINTS
from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.claim_file import CLAIM
from guidelines_core.runs.stores import masked, tracking_uri, unreachable
from guidelines_core.runs.tracking import CHECKPOINTS_TAG

DIRECTORY_KEY = "trainer.default_local_dir"


class UnknownRunError(ValueError):
    """No run has the name or id, or its directory has no record of its start."""


@dataclass(frozen=True)
class StartRecord:
    """What a run was started with.

    Attributes:
        experiment: the experiment's name.
        overrides: `key=value` arguments, without the checkpoint directory.
    """

    experiment: str
    overrides: list[str]

    def write(self, directory: Path, attempt: int) -> None:
        """Write the record of `attempt`, counted from 1, to the logs of the run in `directory`."""
        write_atomically(directory / "logs" / f"attempt-{attempt}.started.json", json.dumps(asdict(self), indent=1))


def read_record(directory: Path) -> StartRecord | None:
    """Return the record of the newest attempt that has one, of the run in `directory`; None if there is none."""
    if not os.path.isdir(directory):
        return None
    files = (directory / "logs").glob("attempt-*.started.json")
    newest = max(files, key=lambda file: int(re.sub(r"\D", "", file.name)), default=None)
    return StartRecord(**json.loads(newest.read_text())) if newest else None


def compose_first_start(name: str, overrides: Sequence[str]) -> tuple[DictConfig, StartRecord]:
    """Return the configuration of experiment `name` with `overrides`, and its record.

    Raises:
        ConfigError: the name, a key or a value is wrong.
        UnknownRunError: the name is that of a run, which only `--resume` accepts.
    """
    if name not in experiments() and (there := _in_checkpoints(name)):
        raise UnknownRunError(f"{name} is a run, in {there[0]}, and no experiment: --resume goes on with it")
    return compose(name, overrides), StartRecord(name, [word for word in overrides if _key(word) != DIRECTORY_KEY])


def compose_resumed(name: str, overrides: Sequence[str]) -> tuple[DictConfig, StartRecord]:
    """Return the configuration of the run `name`, and its record: its last start's, changed by `overrides`.

    `name` is an experiment's, a run's (`NAME-2`) or an MLflow run's id. For an experiment without a run, this is its
    first start.

    Raises:
        ConfigError: the experiment, a key or a value is wrong.
        UnknownRunError: no run has the name or id, or it has no record of its start.
    """
    is_experiment = name in experiments()
    # What is given now need not be valid without the last start's overrides.
    directory = checkpoint_directory(name, overrides) if is_experiment else directory_of(name)
    before = read_record(directory)
    if before is None and is_experiment:
        return compose_first_start(name, overrides)
    if before is None:
        raise UnknownRunError(
            f"{directory} has no record of how the run was started: give --name EXPERIMENT, the overrides it was "
            f"started with and {DIRECTORY_KEY}={directory}"
        )
    record = StartRecord(
        before.experiment,
        merge_overrides(before.overrides, [word for word in overrides if _key(word) != DIRECTORY_KEY]),
    )
    return compose(record.experiment, [*record.overrides, f"{DIRECTORY_KEY}={_quoted(str(directory))}"]), record


def merge_overrides(before: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the overrides `before`, with new values for the keys that `given` has, then the other ones of `given`."""
    added = {_key(word) for word in before if word.startswith("+")}
    now = {_key(word): f"+{word}" if _key(word) in added and word[0] not in "+~" else word for word in given}
    changed = [now.pop(_key(word), word) for word in before]
    return [*changed, *now.values()]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def directory_of(name: str) -> Path:
    """Return the checkpoint directory of the run whose name or MLflow run id is `name`.

    Raises:
        UnknownRunError: there is no such run, its directory is gone, or several runs have the name.
    """
    found = _in_checkpoints(name) or _in_store(name)
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(map(str, found))
        raise UnknownRunError(f"{len(found)} runs are called {name}, in {places}: give the MLflow run's id")
    raise UnknownRunError(
        f"no run or experiment is called {name!r}: expected an experiment (--list), a run with checkpoints in "
        f"{CHECKPOINTS}, or a run's name or id in {masked(tracking_uri())}"
    )


def _in_checkpoints(name: str) -> list[Path]:
    """Return the run directories of this name under the default checkpoint folder."""
    return [claim.parent for claim in CHECKPOINTS.glob(f"*/*/{CLAIM}") if claim.parent.name == name]


def _in_store(name: str) -> list[Path]:
    """Return the existing checkpoint directories of the MLflow runs with this id or name.

    Raises:
        UnknownRunError: the store does not answer, or has no run of this id.
    """
    if away := unreachable(tracking_uri()):
        raise UnknownRunError(
            f"{name!r} is no experiment, and {masked(tracking_uri())} cannot be searched for a run: {away}"
        )
    client = MlflowClient(tracking_uri())
    try:
        if re.fullmatch(r"[0-9a-f]{32}", name):
            runs = [client.get_run(name)]
        else:
            every = [experiment.experiment_id for experiment in client.search_experiments()]
            quoted = name.replace("'", "''")
            runs = list(client.search_runs(every, f"attributes.run_name = '{quoted}'")) if every else []
    except MlflowException as error:
        raise UnknownRunError(
            f"{name!r} is no experiment, and {masked(tracking_uri())} has no such run: {str(error).splitlines()[0]}"
        ) from error
    places = {run.data.tags[CHECKPOINTS_TAG] for run in runs if CHECKPOINTS_TAG in run.data.tags}
    return sorted(Path(place) for place in places if (Path(place) / CLAIM).is_file())


def resume_command(run_name: str, experiment: str, directory: Path) -> str:
    """Return the shell command that resumes the run in `directory`; its record there has the overrides."""
    usual = directory.name == run_name and directory.parent.parent == CHECKPOINTS
    words = [run_name] if usual else [experiment, f"{DIRECTORY_KEY}={_quoted(str(directory))}"]
    return shlex.join(["python", "experiments/run.py", "--name", *words, "--resume"])


def _quoted(value: str) -> str:
    """Return `value` as a value in Hydra's override grammar, quoted if needed."""
    if re.fullmatch(r"[\w/.:+-]+", value, flags=re.ASCII):
        return value
    return "'" + value.replace("'", "\\'") + "'"
