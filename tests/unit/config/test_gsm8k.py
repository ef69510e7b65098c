"""The experiments that learn within an hour, on the layouts that they are for."""

from __future__ import annotations

import pytest

from guidelines_core.config.compose import compose
from guidelines_core.config.layout import solver_samples
from guidelines_core.hardware.timing import padded_sequences
from guidelines_core.preflight import config_findings


@pytest.mark.parametrize("layout", ["colocated-1", "1p1"])
@pytest.mark.parametrize("size", ["0.5b", "1.5b"])
def test_nothing_is_refused_or_padded(size: str, layout: str) -> None:
    config = compose(f"gsm8k-{size}", [f"layout={layout}"], environ={})
    assert [finding for finding in config_findings(config) if finding.severity == "error"] == []
    real, padded = padded_sequences(config)
    assert real == padded
    assert config.guidelines.solver.model == config.actor_rollout_ref.model.path
    assert config.guidelines.solver.model.endswith(f"{size.upper()}-Instruct")
    # The graphs reach to what is in flight at once.
    assert config.actor_rollout_ref.rollout.cudagraph_capture_sizes[-1] == real
    assert config.reward.reward_model.rollout.cudagraph_capture_sizes[-1] == real * solver_samples(config)
    assert config.reward.reward_model.rollout.max_num_seqs >= real * solver_samples(config)
    assert config.guidelines.solver.max_concurrency >= real
