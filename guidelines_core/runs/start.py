"""Times the stages of a run's start; the process that ends a stage records its length."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STAGES = {
    "preflight": "preflight",
    "imports": "imports",
    "ray": "Ray",
    "data": "data",
    "models": "models",
    "rollout": "rollout server",
    "weights": "weights",
    "solver": "solver",
}
"""The stages in their order, with their names on the terminal.

`preflight` lasts from the launch until the run is claimed, `imports` until the driver has imported verl, `ray` until
verl's task runner starts, `data` until the problems are read, `models` until actor and reference are loaded, `rollout`
until the planner's servers answer, `weights` until they have the first weights, `solver` until its servers answer.
Each stage is timed from the end of the one before, so work that overlaps an earlier stage is not counted twice.
"""

FOLDER = "GUIDELINES_FOLDER"
"""The environment variable that names an attempt's temporary folder, in each of its processes."""

START = "GUIDELINES_START"
"""The environment variable by which verl's processes receive the stages so far."""

STAGES_PATH = "GUIDELINES_STAGES"
"""The environment variable with the path of the file to which each process adds the stages that it ends."""

METRIC = "start/"
"""The prefix of the stages' metrics; `start/total` is their sum."""


@dataclass
class Start:
    """The stages that have ended.

    Attributes:
        began: when the run was launched, in seconds since 1970.
        seconds: the length of each ended stage, in order.
    """

    began: float
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def handed_over(cls, environ: Mapping[str, str] = os.environ) -> Start:
        """Return the stages that the environment holds; without any, a start that begins now."""
        return cls(**json.loads(environ[START])) if START in environ else cls(time.time())

    def ends(self, stage: str) -> None:
        """Record that `stage` ends now; does nothing if it has ended before."""
        if stage not in self.seconds:
            self.seconds[stage] = max(0.0, time.time() - self.began - sum(self.seconds.values()))
            if STAGES_PATH in os.environ:
                with Path(os.environ[STAGES_PATH]).open("a") as ended:
                    ended.write(f"{stage}\n")

    def environment(self) -> dict[str, str]:
        """Return the environment variable for `handed_over` in another process."""
        return {START: json.dumps({"began": self.began, "seconds": self.seconds})}

    def metrics(self) -> dict[str, float]:
        """Return the stages as metrics, in seconds, and their sum."""
        named = {f"{METRIC}{stage}": seconds for stage, seconds in self.seconds.items()}
        return {**named, f"{METRIC}total": sum(self.seconds.values())}


def ended_stages(file: Path) -> set[str]:
    """Return the keys of the stages that `file` lists as ended; empty if there is no such file."""
    return set(file.read_text().split()) if file.exists() else set()


def start_line(metrics: Mapping[str, float]) -> str | None:
    """Return a start's total and the seconds of each stage in one line; None if `metrics` are not a start's."""
    if f"{METRIC}total" not in metrics:
        return None
    parts = [f"{name} {metrics[METRIC + stage]:.0f} s" for stage, name in STAGES.items() if METRIC + stage in metrics]
    return f"ready after {metrics[f'{METRIC}total']:.0f} s: {' · '.join(parts)}"
