"""What a step takes by part, with what does not shrink with the number of GPUs.

On top of `timing` it has the network, the processes that every rollout passes, and validation. It is an estimate: no
run on more than two GPUs was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml
from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.config.compose import changed
from guidelines_core.hardware.network import training_seconds, weights_seconds
from guidelines_core.hardware.shapes import KNOWN, Gpu, Shape
from guidelines_core.hardware.timing import MEASURED, Lengths, generation, phases, run_seconds


@dataclass(frozen=True)
class Terms:
    """A step's seconds by what they are for.

    Attributes:
        generating, training: the seconds of each half, by part.
        ahead: whether both halves are done at once, the generation for the next step.
        hidden: seconds of the network that pass while training computes; in neither half.
    """

    generating: Mapping[str, float]
    training: Mapping[str, float]
    ahead: bool
    hidden: float

    @property
    def step(self) -> float:
        """Seconds of the step."""
        sides = sum(self.generating.values()), sum(self.training.values())
        return max(sides) if self.ahead else sum(sides)

    @property
    def limit(self) -> str:
        """The longest term, of the longer side where generation and training are done at once."""
        longer = max((self.generating, self.training), key=lambda side: sum(side.values()))
        terms = longer if self.ahead else {**self.generating, **self.training}
        return max(terms, key=terms.__getitem__)


def terms(config: DictConfig, planner: Shape, solver: Shape, gpu: Gpu, lengths: Lengths) -> Terms:
    """Return what a step of `config` takes, by part."""
    host = yaml.safe_load((KNOWN / "measured-host.yaml").read_text(encoding="utf-8"))
    settings, workers = config.guidelines, config.reward.num_workers
    samples = layout.solver_samples(config)
    sequences = config.data.train_batch_size * config.actor_rollout_ref.rollout.n

    def generated(config: DictConfig, count: int) -> tuple[float, float]:
        return generation(config, planner, solver, gpu, lengths, MEASURED, count, samples)

    (wrote, solved), floors = generated(config, sequences), generated(config, 1)
    unlimited = solved
    if layout.requests_in_flight(config) < sequences:
        limit = {"guidelines.solver.max_concurrency": sequences * workers}
        unlimited = generated(changed(config, limit), sequences)[1]
    found = phases(config, planner, solver, gpu, lengths, MEASURED)
    wire = training_seconds(config, planner, gpu, lengths)
    exposed = {name: max(0.0, wire[name] - found[name]) for name in wire}
    requests = (host["request_s"] + host["handing_s"] * samples) * sequences / workers
    grading = host["grading_s"] * sequences * samples / (settings.grader.workers * workers)
    generating = {
        "guidelines: token after token": floors[0],
        "guidelines: several at once": wrote - floors[0],
        "solutions: token after token": floors[1],
        "solutions: several at once": unlimited - floors[1],
        "solutions: max_concurrency": solved - unlimited,
        "requests: reward.num_workers": max(0.0, requests - solved),
        "verdicts: grader.workers": max(0.0, grading - max(solved, requests)),
        "waking and polling": found["gen"] - wrote - solved,
    }
    run = run_seconds(config, planner, solver, gpu, lengths, MEASURED)
    training = {
        "log-probs": found["old_log_prob"] + found.get("ref", 0.0),
        "update": found["update_actor"],
        "network beyond that": sum(exposed.values()),
        "weights to the engines": found["update_weights"] + weights_seconds(config, planner, gpu),
        "driver": max(MEASURED.other, host["rollout_s"] * sequences),
        "validation, a step's share": run["validations"] / config.trainer.total_training_steps,
    }
    return Terms(generating, training, layout.overlaps(config), sum(wire.values()) - sum(exposed.values()))
