"""Pass rates by the real engine; `test_loop.py` has the run that is trained on problems chosen by them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from analysis.lifts.answers import engine_of
from guidelines_core.config.compose import compose
from guidelines_core.data.dataset import prepare
from guidelines_core.models.bundled import ensure_model
from guidelines_core.paths import MODELS, ROOT
from tests.support.tiny_run import PASS_RATES, PROBLEMS, problems
from tests.support.warm_python import engine_python

pytestmark = pytest.mark.e2e

TINY = MODELS / "tiny-random"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    ensure_model(TINY)
    config = compose("tiny", environ={})
    out = folder / "measured.jsonl"
    words = ["--source", str(problems(folder / "odd.jsonl")), "--model", str(TINY), "--out", str(out)]
    words += ["--samples", "8", "--temperature", "1.0", "--max-tokens", "16"]
    words += ["--engine", json.dumps(engine_of(config, config.reward.reward_model.rollout))]
    done = subprocess.run(
        [engine_python(), "-m", "guidelines_core.data.pass_rate", *words],
        env={**os.environ, **config.guidelines.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_problem_has_been_answered_with_different_solutions(source: Path) -> None:
    rows = pd.read_json(source, lines=True)
    assert len(rows) == PROBLEMS
    assert rows["pass_rate"].isin([0, 0.25, 0.5, 0.75, 1]).all()
    assert 0 < rows["pass_rate"].mean() < 1
    assert (rows["pass_rate"] != rows["baseline"]).any()
    assert json.loads(source.with_name("measured.jsonl.json").read_text())["accuracy"] == rows["pass_rate"].mean()


def test_training_problems_are_chosen_by_them(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path, size=PROBLEMS, seed=0, val_size=4, pass_rate=PASS_RATES)
    known = pd.read_json(source, lines=True).set_index("problem")
    chosen = pd.DataFrame(list(pd.read_parquet(tmp_path / "train.parquet")["extra_info"]))
    assert known.loc[chosen["question"], "pass_rate"].between(*PASS_RATES).all()
    assert known.loc[chosen["question"], "baseline"].tolist() == chosen["baseline"].tolist()
