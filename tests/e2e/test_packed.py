"""verl's own workers on the same rollouts: padded rows, packed rows, and packed rows without logits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from guidelines_core.paths import ROOT

pytestmark = pytest.mark.e2e

SMALL = (
    "data.max_prompt_length=256", "data.max_response_length=160", "guidelines.environment.OMP_NUM_THREADS='1'",
)  # fmt: skip


def test_packed_rows_give_the_padded_ones_log_probs_loss_and_gradient(tmp_path: Path) -> None:
    out = tmp_path / "update.json"
    command = [
        sys.executable,
        "-m",
        "analysis.bench.update",
        "--arms",
        "analysis/arms/update-cpu.yaml",
        "--out",
        str(out),
        *SMALL,
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    padded, *others = json.loads(out.read_text())["arms"]
    assert padded["grad_norm"] > 0.01
    assert [arm["name"] for arm in others] == ["packed", "packed-fused"]
    for arm in others:
        assert arm["log_probs_off_padded"]["max"] < 1e-4
        assert arm["loss"] == pytest.approx(padded["loss"], abs=1e-5)
        assert arm["grad_norm"] == pytest.approx(padded["grad_norm"], rel=1e-4)
        assert arm["even"]["update"]["padded_share"] == 0
    assert {"old_log_prob", "ref", "update"} == set(others[0]["tailed"])
