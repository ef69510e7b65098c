"""Where the time of a run's start goes: its stages, one after the other, each stamped by the process that ends it."""

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

`preflight` runs from the launch to the claimed run, `imports` to the end of the driver's imports, `ray` to the first
line of verl's task runner, `data` until the problems are read, `models` until actor and reference are loaded,
`rollout` until the planner's servers answer, `weights` until they have the first weights, `solver` until its servers
answer. What goes on beside another stage counts only from that stage's end.
"""

START = "GUIDELINES_START"
"""The environment variable that hands the stages so far from a run's launcher to verl's processes."""

ENDED = "GUIDELINES_STAGES"
"""The environment variable that names the file where each process notes the stages that it ends."""

METRIC = "start/"
"""Begins the names of the stages' metrics; `start/total` is their sum."""


@dataclass
class Start:
    """The stages that have ended.

    Attributes:
        began: when the run was launched, in seconds since 1970.
        seconds: each ended stage's length, in order.
    """

    began: float
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def handed_over(cls, environ: Mapping[str, str] = os.environ) -> Start:
        """Return the stages that another process has handed over, none from now on if none has."""
        return cls(**json.loads(environ[START])) if START in environ else cls(time.time())

    def ends(self, stage: str) -> None:
        """Note that a stage ends now; a stage that has ended before is not noted again."""
        if stage not in self.seconds:
            self.seconds[stage] = max(0.0, time.time() - self.began - sum(self.seconds.values()))
            if ENDED in os.environ:
                with Path(os.environ[ENDED]).open("a") as ended:
                    ended.write(f"{stage}\n")

    def environment(self) -> dict[str, str]:
        """Return the environment variable that hands the stages over."""
        return {START: json.dumps({"began": self.began, "seconds": self.seconds})}

    def metrics(self) -> dict[str, float]:
        """Return the stages as metrics, in seconds, and their sum."""
        named = {f"{METRIC}{stage}": seconds for stage, seconds in self.seconds.items()}
        return {**named, f"{METRIC}total": sum(self.seconds.values())}


def ended_stages(file: Path) -> set[str]:
    """Return the stages whose ends were noted in `file`, by their keys."""
    return set(file.read_text().split()) if file.exists() else set()


def start_line(metrics: Mapping[str, float]) -> str | None:
    """Return one line that says where a start's time went; None if `metrics` are not a start's."""
    if f"{METRIC}total" not in metrics:
        return None
    parts = [f"{name} {metrics[METRIC + stage]:.0f} s" for stage, name in STAGES.items() if METRIC + stage in metrics]
    return f"ready after {metrics[f'{METRIC}total']:.0f} s: {' · '.join(parts)}"
