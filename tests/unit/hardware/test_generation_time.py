"""The estimated seconds of rollouts and solutions against those that were measured."""

from __future__ import annotations

import json

import pytest

from guidelines_core.config.compose import compose
from guidelines_core.config.layout import solver_samples
from guidelines_core.hardware.shapes import gpus
from guidelines_core.hardware.timing import MEASURED, Lengths, generation, shapes_of
from guidelines_core.paths import ROOT

MEASURED_ON = [
    ("one-gpu-h200", "reference-optimizer-kept"),
    ("one-gpu-h200", "fast"),
    ("two-gpus-h200", "fast"),
    ("two-gpus-h200", "hybrid-2-shared"),
    ("gsm8k-h200", "as-it-stands"),
]
"""A file of analysis/results, and an arm in it whose texts are all equally long."""


@pytest.mark.parametrize(("file", "name"), MEASURED_ON)
def test_rollouts_and_solutions_take_about_what_was_measured(file: str, name: str) -> None:
    arms = json.loads((ROOT / f"analysis/results/{file}.json").read_text())["arms"]
    arm = next(entry for entry in arms if entry["name"] == name)
    words = [word for word in arm["overrides"] if "models/random-" not in word and not word.startswith("+")]
    config = compose(arm["experiment"], words, environ={})
    planner, solver = shapes_of(config)
    means = ("prompt_length/mean", "guideline/tokens", "solution/tokens")
    lengths = Lengths(*(round(arm["metrics"][key]) for key in means))
    rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    wrote, solved = generation(
        config, planner, solver, gpus()["H200"], lengths, MEASURED, rollouts, solver_samples(config)
    )
    assert wrote == pytest.approx(arm["rollout_s"], rel=0.25)
    assert solved == pytest.approx(arm["solver_s"], rel=0.2)
    assert wrote + solved == pytest.approx(arm["rollout_s"] + arm["solver_s"], rel=0.15)
