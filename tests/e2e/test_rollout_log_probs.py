"""Old log-probs taken from the rollout change no result: the run of `conftest.py` once more, with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guidelines_core.runs.journal import Journal
from guidelines_core.verl_adapter.old_log_probs import FROM_ROLLOUT
from tests.chaos.loop import CLOCKED
from tests.e2e.conftest import STEPS, Loop, start

pytestmark = pytest.mark.e2e

OF_THE_MEASUREMENT = re.compile(r"^training/|^actor/entropy$")
"""Metrics that only a step which computes old log-probs has."""


def test_the_rollouts_log_probs_give_the_same_run(tmp_path: Path, unbroken: Loop) -> None:
    wanted = ("guidelines.old_log_probs.agreement=0.01", "guidelines.old_log_probs.check_every=3")
    attempt = start(tmp_path, *wanted)
    assert attempt.exit_code == 0, attempt.output
    ours = [entry.metrics for entry in Journal(tmp_path / "run/logs/attempt-1.jsonl").entries()]
    steps = [metrics for metrics in ours if FROM_ROLLOUT in metrics]
    assert [metrics[FROM_ROLLOUT] for metrics in steps] == [0.0, 1.0, 1.0, 0.0][:STEPS]
    assert steps[1]["timing_s/old_log_prob"] < steps[0]["timing_s/old_log_prob"] / 4
    compared = [name for name in steps[0] if not CLOCKED.search(name) and not OF_THE_MEASUREMENT.search(name)]
    assert {"actor/loss", "actor/grad_norm", "critic/advantages/max", "reward/mean"} <= set(compared)
    for name in compared:
        history = unbroken.metric(name)
        theirs = [history[step] for step in range(1, STEPS + 1)]
        assert [metrics[name] for metrics in steps] == pytest.approx(theirs, abs=1e-5, rel=1e-5), name
