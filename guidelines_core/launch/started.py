"""What a run was started with, recorded with each attempt; and the run that `--name … --resume` means."""

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

from guidelines_core.config.compose import compose, experiments
from guidelines_core.paths import CHECKPOINTS
from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.claim_file import CLAIM
from guidelines_core.runs.stores import masked, tracking_uri, unreachable
from guidelines_core.runs.tracking import CHECKPOINTS_TAG

PLACE = "trainer.default_local_dir"


class UnknownRunError(ValueError):
    """No run is called so, or its directory does not say what it was started with."""


@dataclass(frozen=True)
class Started:
    """The words of a start.

    Attributes:
        experiment: the experiment's name.
        overrides: its `key=value` words, without the checkpoint directory.
    """

    experiment: str
    overrides: list[str]

    def record(self, directory: Path, attempt: int) -> None:
        """Write the words among the logs of the run in `directory`."""
        write_atomically(directory / "logs" / f"attempt-{attempt}.started.json", json.dumps(asdict(self), indent=1))


def recorded(directory: Path) -> Started | None:
    """Return what the run's newest attempt with a record was started with; None if no attempt has one."""
    if not os.path.isdir(directory):
        return None
    files = (directory / "logs").glob("attempt-*.started.json")
    newest = max(files, key=lambda file: int(re.sub(r"\D", "", file.name)), default=None)
    return Started(**json.loads(newest.read_text())) if newest else None


def first_start(name: str, overrides: Sequence[str]) -> tuple[DictConfig, Started]:
    """Compose experiment `name` with `overrides`.

    Raises:
        ConfigError: the name, a key or a value is wrong.
        UnknownRunError: the name is a run's, which a first start cannot mean.
    """
    if name not in experiments() and (there := _here(name)):
        raise UnknownRunError(f"{name} is a run, in {there[0]}, and no experiment: --resume goes on with it")
    return compose(name, overrides), Started(name, [word for word in overrides if _key(word) != PLACE])


def resumed(name: str, overrides: Sequence[str]) -> tuple[DictConfig, Started]:
    """Compose what the run called `name` was last started with, changed by `overrides`; a first start if there is none.

    `name` is an experiment's, a run's (`NAME-2`) or an MLflow run's id.

    Raises:
        ConfigError: the experiment, a key or a value is wrong.
        UnknownRunError: there is no such run, or it has no record of its start.
    """
    config = compose(name, overrides) if name in experiments() else None
    directory = Path(config.trainer.default_local_dir) if config is not None else directory_of(name)
    before = recorded(directory)
    if before is None and config is not None:
        return first_start(name, overrides)
    if before is None:
        raise UnknownRunError(
            f"{directory} has no record of how the run was started: give --name EXPERIMENT, the overrides it was "
            f"started with and {PLACE}={directory}"
        )
    started = Started(before.experiment, merged(before.overrides, [word for word in overrides if _key(word) != PLACE]))
    return compose(started.experiment, [*started.overrides, f"{PLACE}={_quoted(str(directory))}"]), started


def merged(before: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the earlier overrides with those of the same keys replaced, and the other given ones behind them."""
    added = {_key(word) for word in before if word.startswith("+")}
    now = {_key(word): f"+{word}" if _key(word) in added and word[0] not in "+~" else word for word in given}
    kept = [now.pop(_key(word), word) for word in before]
    return [*kept, *now.values()]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def directory_of(name: str) -> Path:
    """Return the checkpoint directory of the run called `name`, or with that MLflow run id.

    Raises:
        UnknownRunError: there is none, its directory is gone, or several are called so.
    """
    found = _here(name) or _in_store(name)
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(map(str, found))
        raise UnknownRunError(f"{len(found)} runs are called {name}, in {places}: give the MLflow run's id")
    raise UnknownRunError(
        f"nothing is called {name!r}: expected an experiment (--list), a run with checkpoints in {CHECKPOINTS}, or a "
        f"run's name or id in {masked(tracking_uri())}"
    )


def _here(name: str) -> list[Path]:
    """Return the directories of this name in the usual place that belong to a run."""
    return [claim.parent for claim in CHECKPOINTS.glob(f"*/*/{CLAIM}") if claim.parent.name == name]


def _in_store(name: str) -> list[Path]:
    """Return the checkpoint directories, as far as they are there, of the store's runs with this id or name."""
    if away := unreachable(tracking_uri()):
        raise UnknownRunError(
            f"{name!r} is no experiment, and {masked(tracking_uri())} cannot be asked for a run: {away}"
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
            f"{name!r} is no experiment, and {masked(tracking_uri())} was asked for a run: {str(error).splitlines()[0]}"
        ) from error
    places = {run.data.tags[CHECKPOINTS_TAG] for run in runs if CHECKPOINTS_TAG in run.data.tags}
    return sorted(Path(place) for place in places if (Path(place) / CLAIM).is_file())


def command(run_name: str, experiment: str, directory: Path) -> str:
    """Return the shell's line that goes on with the run in `directory`; its directory has the overrides."""
    usual = directory.name == run_name and directory.parent.parent == CHECKPOINTS
    words = [run_name] if usual else [experiment, f"{PLACE}={_quoted(str(directory))}"]
    return shlex.join(["python", "experiments/run.py", "--name", *words, "--resume"])


def _quoted(value: str) -> str:
    """Return text as a value of Hydra's override grammar."""
    if re.fullmatch(r"[\w/.:+-]+", value, flags=re.ASCII):
        return value
    return "'" + value.replace("'", "\\'") + "'"
