"""Diagnoses where a run's time went, from a recorded run or from a file of figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pandas as pd
import yaml
from omegaconf import DictConfig, OmegaConf

from analysis.diagnosis.changes import Change, best
from analysis.diagnosis.model import Model
from analysis.diagnosis.step_time import (
    CALLS,
    PHASES,
    Lane,
    Slowest,
    Step,
    in_waves,
    lanes,
    median_step,
    overlap,
    phase_seconds,
    slowest,
    solver_calls,
)
from analysis.stats import signal
from analysis.store import runs
from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.hardware.gpus import ASSUMED
from guidelines_core.hardware.shapes import Gpu, cpu, gpus
from guidelines_core.hardware.timing import MEASURED, Lengths, padded_sequences, shapes_of, step_seconds
from guidelines_core.runs.cost import HOURS
from guidelines_core.runs.lookup import RunError, open_store
from guidelines_core.runs.phases import AFTER_STEP, seconds_metric

LENGTHS = {"prompt": "prompt_length/mean", "guideline": "guideline/tokens", "solution": "solution/tokens"}
"""The metrics of a step's text lengths in tokens."""

FIGURES = "experiment, gpu, lengths {prompt, guideline, solution}, step, and maybe overrides, name, seconds by phase"


@dataclass(frozen=True)
class Diagnosis:
    """Where a run's time went.

    Attributes:
        name: the run's name.
        source: its id and status, or the file of figures.
        config: its configuration.
        step: its step of median length.
        steps: seconds of every recorded step, index the step.
        whole: seconds of the whole run by part, empty if unknown.
        hardware: the GPUs or CPU cores of the run.
        floor: seconds by phase that the hardware's peak allows, empty if the models' shapes are unknown.
        lanes: the activity of each GPU pool in the step.
        slow: the slowest solver calls, None if unknown.
        changes: what to try, the largest gain first.
        notes: assumptions and missing data, a sentence each.
    """

    name: str
    source: str
    config: DictConfig
    step: Step
    steps: pd.Series[float]
    whole: dict[str, float]
    hardware: str
    floor: dict[str, float]
    lanes: list[Lane]
    slow: Slowest | None
    changes: list[Change]
    notes: list[str] = field(default_factory=list)

    @property
    def padding(self) -> tuple[int, int]:
        """A batch's rollouts, and to how many verl pads them."""
        return padded_sequences(self.config)

    @property
    def overlap(self) -> float:
        """Seconds in which guidelines and solutions were written at the same time."""
        return overlap(self.config, self.step)

    @property
    def longest(self) -> str:
        """The phase that takes most of the step."""
        return max(self.step.seconds, key=lambda name: self.step.seconds[name])


def of_run(text: str, gpu_name: str | None = None) -> Diagnosis:
    """Return the diagnosis of the recorded run that `text` names.

    Raises:
        RunError: no such run, or it recorded no configuration or no step.
    """
    run = runs.resolve(text, open_store())
    config = OmegaConf.create(runs.config(run))
    if not config:
        raise RunError(f"run {text!r} ({run.id}, {run.status}) recorded no config.yaml: nothing says what it did")
    timed = [seconds_metric(name) for name in (*PHASES, *AFTER_STEP, "step")]
    history = runs.history(run, [*timed, *LENGTHS.values(), *signal.METRICS])
    if "timing_s/step" not in history or history["timing_s/step"].dropna().empty:
        raise RunError(f"run {text!r} ({run.id}, {run.status}) recorded no step: there is no time to divide up")
    steps = history["timing_s/step"].dropna()
    number = median_step(history)
    notes = [] if len(steps) > 1 else ["Only one step was recorded, and a first step compiles and warms up, too."]
    if (found := signal.signal_of(history)) is not None:
        notes.append(signal.in_words(found))
    graded = runs.rows(run, "train", CALLS)
    calls, recorded = _calls(graded, history.loc[steps.index], in_turns=layout.solver_in_turns(config))
    if number not in calls:
        notes.append(f"Step {number} has no graded rows: rollout and solver are taken as busy throughout.")
    elif not recorded and not layout.solver_in_turns(config):
        notes.append(
            "This run did not record when a solver call was made. It is derived: all guidelines of a step begin "
            "together and are written at one rate."
        )
    metrics = {str(name): float(value) for name, value in history.loc[number].items()}
    step = Step(number, metrics["timing_s/step"], phase_seconds(metrics),
                _lengths(metrics, graded[graded["step"] == number], config, notes),
                calls=calls.get(number))  # fmt: skip
    if layout.solver_elsewhere(config) and step.calls is not None:
        waited = float(step.calls["answered"].max() - step.calls["asked"].max())
        notes.append(
            f"The solver runs elsewhere, on none of these GPUs. Step {number} waited {waited:,.1f} s for it after the "
            "last guideline; what would shorten that is not estimated."
        )
    hardware = _hardware(config, run.tags, gpu_name, notes)
    whole = {"steps": float(steps.sum())}
    empty = pd.Series(dtype=float)
    beside = {name: float(history.get(seconds_metric(name), empty).sum()) for name in AFTER_STEP}
    whole |= {what: beside[name] for name, what in AFTER_STEP.items()}
    if (seconds := _held(run)) is not None:
        whole["start and the rest"] = max(0.0, seconds - sum(whole.values()))
    return _diagnosis(
        run.name,
        f"run {run.id}, {run.status}",
        config,
        step,
        steps,
        whole=whole,
        hardware=hardware,
        slow=slowest(graded, calls) if calls else None,
        beside={name: total / len(steps) for name, total in beside.items()},
        notes=notes,
    )


def _held(run: runs.Run) -> float | None:
    """Return the seconds of all of a run's attempts; None if they are not known.

    The time between two attempts does not count, so a run's own hours come before MLflow's begin and end.
    """
    if HOURS in run.final:
        return 3600 * run.final[HOURS]
    info = run.entity.info
    return (info.end_time - info.start_time) / 1000 if info.end_time else None


def of_figures(file: Path, gpu_name: str | None = None) -> Diagnosis:
    """Return the diagnosis of a run whose figures are in a YAML file.

    Its keys: `experiment`; optionally `overrides` and `name`; `gpu`; `lengths` (tokens of `prompt`, `guideline` and
    `solution`); `step` in s; and optionally `seconds` by phase, else the estimate's shares of `step` are used.
    `guidelines_core/hardware/known/measured-step.yaml` is an example.

    Raises:
        ConfigError: the file cannot be read, lacks a key, or its experiment does not compose.
    """
    try:
        known = yaml.safe_load(file.read_text(encoding="utf-8"))
        total, lengths = float(known["step"]), Lengths(**known["lengths"])
        hardware = gpus()[gpu_name or known["gpu"]]
        experiment, overrides = str(known["experiment"]), known.get("overrides", ())
        name = str(known.get("name", experiment))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"figures {file}: {type(error).__name__} {error}: expected a YAML with {FIGURES}") from error
    config = compose(experiment, overrides, environ={})
    notes: list[str] = []
    if measured := known.get("seconds"):
        seconds = phase_seconds(
            {"timing_s/step": total, **{f"timing_s/{key}": value for key, value in measured.items()}}
        )
        step = Step(0, total, seconds, lengths)
    else:
        model = Model(*shapes_of(config), hardware, lengths)
        estimate = model.phases(config)
        came_to = step_seconds(config, estimate, MEASURED)
        seconds = {key: estimate[key] * total / came_to for key in PHASES if key in estimate}
        seconds["other"] = max(0.0, total - sum(seconds.values()))
        wrote, solved = (part * total / came_to for part in model.generation(config))
        calls = in_waves(config, wrote, solved) if layout.solver_gpus(config) else None
        step = Step(0, total, seconds, lengths, estimated=True, calls=calls)
        notes.append(
            f"Of the step only its {total:,.0f} s are known. Its phases are the estimate's, which on {hardware.name} "
            f"and with these lengths come to {came_to:,.0f} s, scaled to that sum."
        )
    return _diagnosis(name, f"figures of {file.name}", config, step, hardware=hardware, notes=notes)


def _diagnosis(
    name: str,
    source: str,
    config: DictConfig,
    step: Step,
    steps: pd.Series[float] | None = None,
    *,
    hardware: Gpu,
    notes: list[str],
    whole: dict[str, float] | None = None,
    slow: Slowest | None = None,
    beside: Mapping[str, float] | None = None,
) -> Diagnosis:
    model = None
    try:
        model = Model(*shapes_of(config), hardware, step.lengths)
    except ConfigError as error:
        notes.append(f"No floor and fewer changes: {error}")
    return Diagnosis(
        name=name,
        source=source,
        config=config,
        step=step,
        steps=pd.Series(dtype=float) if steps is None else steps,
        whole=whole or {},
        hardware=hardware.name,
        floor=model.floor(config) if model else {},
        lanes=lanes(config, step),
        slow=slow,
        changes=best(config, step, model, slow, beside or {}),
        notes=notes,
    )


def _calls(rows: pd.DataFrame, history: pd.DataFrame, in_turns: bool) -> tuple[dict[int, pd.DataFrame], bool]:
    """Return the solver calls of every step with graded rows, and whether all their times were recorded."""
    found: dict[int, pd.DataFrame] = {}
    all_recorded = True
    for step, graded in rows.dropna(subset=["solver_s", "guideline_tokens"]).groupby("step"):
        number = int(cast(int, step))
        if number in history.index:
            metrics = {str(name): float(value) for name, value in history.loc[number].items()}
            found[number], recorded = solver_calls(graded, phase_seconds(metrics), in_turns)
            all_recorded &= recorded
    return found, all_recorded


def _lengths(metrics: Mapping[str, float], graded: pd.DataFrame, config: DictConfig, notes: list[str]) -> Lengths:
    """Return a step's lengths, the longest ones by its graded rows; an unrecorded mean is its limit, with a note."""
    limits = {
        "prompt": config.data.max_prompt_length,
        "guideline": config.data.max_response_length,
        "solution": config.guidelines.solver.max_tokens,
    }
    found = {}
    for what, metric in LENGTHS.items():
        value = metrics.get(metric, float("nan"))
        if value != value:
            notes.append(f"{metric} was not recorded: every {what} is taken to be {limits[what]} tokens, its limit.")
            value = limits[what]
        found[what] = max(1, round(value))
    for what in ("guideline", "solution"):
        found[f"longest_{what}"] = int(graded[f"{what}_tokens"].fillna(0).max() if len(graded) else 0)
    return Lengths(**found)


def _hardware(config: DictConfig, tags: Mapping[str, str], asked: str | None, notes: list[str]) -> Gpu:
    """Return the figures of the given or recorded GPU, or of the CPU's cores."""
    if config.trainer.device != "cuda":
        notes.append("On a CPU the slots share its cores: while one works, the others are slower.")
        cores = re.match(r"\d+", tags.get("hardware.cpu", ""))
        return cpu(int(cores[0]) if cores else 1)
    if asked:
        return gpus()[asked]
    recorded = tags.get("hardware.gpu", "")
    for name, gpu in gpus().items():
        if name in recorded:
            return gpu
    notes.append(f"The run recorded no known GPU: {ASSUMED} is assumed (--gpu names another).")
    return gpus()[ASSUMED]


def as_json(found: Diagnosis) -> dict[str, Any]:
    """Return the diagnosis as plain values for JSON, in seconds and shares of 1."""
    step, (real, padded) = found.step, found.padding
    answer: dict[str, Any] = {
        "run": found.name,
        "source": found.source,
        "hardware": found.hardware,
        "step": step.number or None,
        "seconds": step.total,
        "steps_in_3_hours": 3 * 3600 / step.total,
        "phases_are_estimated": step.estimated,
        "phases": {
            name: {"seconds": seconds, "share": seconds / step.total, "floor": found.floor.get(name)}
            for name, seconds in step.seconds.items()
        },
        "lengths": vars(step.lengths),
        "gpus": [
            {"label": lane.label, "gpus": lane.gpus, "busy": lane.busy, "idle_share": lane.idle(step.total)}
            for lane in found.lanes
        ],
        "overlap": found.overlap,
        "padding": {"rollouts": real, "padded": padded, "share": 1 - real / padded},
        "run_seconds": found.whole,
        "changes": [vars(change) for change in found.changes],
        "notes": found.notes,
    }
    if found.slow:
        answer["slowest_1_percent"] = {
            "calls": len(found.slow.calls),
            "of": found.slow.of,
            "from_seconds": found.slow.threshold,
            "hold_a_step_up": found.slow.held,
        }
    return answer
