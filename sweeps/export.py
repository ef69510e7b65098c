"""Writes a study's best point as a named experiment, and measures its gain over the reference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from scipy import stats

from guidelines_core.config.compose import ConfigError, changed, compose
from guidelines_core.paths import CONF
from sweeps.attributes import RATE, REFERENCE
from sweeps.axes import LAYOUT, Point
from sweeps.keys import differences
from sweeps.loop import TrialRequest
from sweeps.objective import Measured
from sweeps.space import Space
from sweeps.study import best, reference

PAIRS = 3
"""How often the best point and the reference are measured again in alternation."""

EPOCHS = "trainer.total_epochs"

NAMES = frozenset({
    "guidelines.description", "trainer.experiment_name", "trainer.default_local_dir",
    "actor_rollout_ref.rollout.trace.experiment_name",
})  # fmt: skip
"""Keys that identify an experiment and do not change its training."""


class ExportError(RuntimeError):
    """The best point cannot be written as an experiment."""


def origin(study_name: str) -> str:
    """Return the comment by which an exported experiment names its study."""
    return f"# The best point of the study {study_name}"


def export_file(name: str, study_name: str) -> Path:
    """Return the file for an experiment that the study writes.

    Raises:
        ExportError: the file belongs to an experiment that the study has not written.
    """
    file = CONF / f"{name}.yaml"
    if file.exists() and origin(study_name) not in file.read_text(encoding="utf-8"):
        raise ExportError(f"--export {name}: {file} is there already: give another name")
    return file


def export(study: Study, space: Space, name: str, overrides: Sequence[str]) -> str:
    """Write the best point as the file of experiment `name` for `experiments/run.py`, and return its path.

    Args:
        study: the study.
        space: the study's space.
        name: the new experiment's name.
        overrides: `key=value` arguments to include; those of every trial, without the trial's own.

    Raises:
        ExportError: there is no best point, or the name is another experiment's.
    """
    top = best(study)
    if top is None:
        raise ExportError("no trial kept the limits: raise --trials, or --truncated, or widen the space")
    file = export_file(name, study.study_name)
    trial_space = Space(space.experiment, tuple(overrides), space.axes, space.machine)
    as_it_is = REFERENCE in top.user_attrs
    wanted = trial_space.config(None if as_it_is else top.params)
    # Only the keys that a person would write; all others are derived.
    keys = [
        *([] if as_it_is else trial_space.values(top.params)),
        *(override.split("=")[0].lstrip("+") for override in overrides),
    ]
    values = {key: OmegaConf.select(wanted, key) for key in keys if key != LAYOUT}
    values |= more_epochs(wanted)
    wanted = changed(wanted, {EPOCHS: values.get(EPOCHS, wanted.trainer.total_epochs)})
    first = reference(study)
    gain = f", {top.user_attrs[RATE] / first.user_attrs[RATE]:.2f} times the reference" if first else ""
    values["guidelines.description"] = (
        f"{space.experiment} as a sweep found it fastest: {top.user_attrs[RATE]:.3g} rollouts/s{gain}"
    )
    defaults: list[Any] = [space.experiment, "_self_"]
    if LAYOUT in top.params:
        defaults.append({"override layout": top.params[LAYOUT]})
    text = yaml.safe_dump({"defaults": defaults, **_nested(values)}, sort_keys=False, width=120, allow_unicode=True)
    file.write_text(f"# @package _global_\n{origin(study.study_name)}, trial {top.number}.\n{text}", encoding="utf-8")
    try:
        left = set(differences(compose(name), wanted)) - NAMES
    except ConfigError as error:
        left = {str(error)}
    if left:
        file.unlink()
        raise ExportError(f"--export {name}: the experiment would differ from the trial in {', '.join(sorted(left))}")
    return str(file)


def more_epochs(config: DictConfig) -> dict[str, int]:
    """Return the number of epochs if the experiment needs more of them to reach its last step, else nothing.

    A point with larger batches reaches the end of the problems sooner.
    """
    prepared = Path(config.data.train_files)
    problems = pq.read_metadata(prepared).num_rows if prepared.is_file() else config.guidelines.data.size
    needed = math.ceil(config.trainer.total_training_steps / (problems // config.data.train_batch_size))
    return {EPOCHS: needed} if needed > config.trainer.total_epochs else {}


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    config = OmegaConf.create({})
    for key, value in values.items():
        OmegaConf.update(config, key, value, force_add=True)
    return OmegaConf.to_container(config)  # type: ignore[return-value]


@dataclass(frozen=True)
class Ratio:
    """A ratio of two rates, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """The ratio in words."""
        return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


def confirm(study: Study, space: Space, measure: Callable[[TrialRequest], Measured], label: str) -> Ratio:
    """Measure the best point and the reference again, `PAIRS` times each, and return the ratio of their rates.

    The order changes from pair to pair, so that a machine that becomes slower favors neither. `label` is part of the
    trials' names.

    Raises:
        ExportError: there is no best point.
    """
    top = best(study)
    if top is None:
        raise ExportError("no trial kept the limits: there is nothing to confirm")
    rates: dict[str, list[float]] = {"best": [], "reference": []}
    points: dict[str, Point] = {"best": top.params, "reference": space.reference}
    as_it_is = {"best": REFERENCE in top.user_attrs, "reference": True}
    for pair in range(PAIRS):
        for which in ("best", "reference") if pair % 2 else ("reference", "best"):
            request = TrialRequest(f"confirm-{label}-{pair}-{which}", points[which], as_it_is[which], lambda *_: None)
            rates[which].append(measure(request).value)
    return ratio(rates["best"], rates["reference"])


def ratio(ones: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the geometric mean of pairs' ratios with Student's 95 % interval of their logarithms.

    The interval of one pair is from 0 to infinity.
    """
    logs = [math.log(one / other) for one, other in zip(ones, others, strict=True)]
    middle, half = statistics.mean(logs), math.inf
    if len(logs) > 1:
        half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
