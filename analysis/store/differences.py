"""The differences between runs' configurations and origins, without those of any two starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.store.runs import Run, manifest
from guidelines_core.config.flat import flat

ATTEMPT = frozenset(
    {
        "trainer.experiment_name",
        "trainer.default_local_dir",
        "actor_rollout_ref.rollout.trace.experiment_name",
        "guidelines.description",
        "data.train_files",  # replaced by the problems' checksums
        "data.val_files",
    }
)
"""Keys of one attempt: names, folders, description."""

COPIES = (
    "distillation.",
    "reward.custom_reward_function.reward_kwargs.",
    "actor_rollout_ref.rollout.prompt_length",
    "actor_rollout_ref.rollout.response_length",
)
"""Keys that copy the values of other keys."""

ORIGIN = ("mlflow.source.git.commit", "git.changed", "guidelines.prompts", "python", "version.", "hardware.")
"""The prefixes of the tags of a run's origin."""


def differing(runs: Sequence[Run], names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the keys whose values differ: a row a key, a column a run under its name, nothing where a run lacks it.

    The keys are those of the composed configuration, then the problems' checksums, then the origin's tags.
    """
    sides = [described(run, config) for run, config in zip(runs, configs, strict=True)]
    keys = dict.fromkeys(key for side in sides for key in side)
    rows = {key: [side.get(key) for side in sides] for key in keys}
    unlike = {key: values for key, values in rows.items() if len(set(map(repr, values))) > 1}
    cells = {key: ["" if value is None else str(value) for value in values] for key, values in unlike.items()}
    table: pd.DataFrame = pd.DataFrame.from_dict(cells, orient="index", columns=list(names))
    table.index.name = "key"
    return table


def described(run: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration, problems and origin, by flat keys."""
    keys = {
        key: value
        for key, value in flat(config).items()
        if key not in ATTEMPT and not key.startswith(COPIES) and value is not None
    }
    problems = {f"problems, {file}": checksum[:12] for file, checksum in manifest(run).get("sha256", {}).items()}
    return {**keys, **problems, **origin(run)}


def origin(run: Run) -> dict[str, str]:
    """Return the tags of a run's origin."""
    return {
        key.removeprefix("mlflow.source."): value for key, value in sorted(run.tags.items()) if key.startswith(ORIGIN)
    }
