"""What a guideline is worth, measured on the checkpoint of the one run that `conftest.py` makes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from guidelines_core.grading.pool import GradingPool
from guidelines_core.models.merge import MergeError, merge
from guidelines_core.paths import MODELS, ROOT
from tests.e2e.conftest import Loop
from tests.support.tiny_run import PROBLEMS, PROMPTS, STEPS
from tests.support.warm_python import engine_python

pytestmark = pytest.mark.e2e


def lift(loop: Loop, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    problems = loop.directory.parent / "odd.jsonl"
    words = [
        loop.stored.info.run_id,
        "--data",
        str(problems),
        "--samples",
        "2",
        "--out",
        str(out),
        "--json",
        "-",
        *more,
    ]
    return subprocess.run(
        [engine_python(), str(ROOT / "analysis/lift.py"), *words],
        env={**os.environ, "MLFLOW_TRACKING_URI": loop.uri},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lift")


@pytest.fixture(scope="module")
def result(loop: Loop, out: Path) -> dict[str, Any]:
    done = lift(loop, out, "--html", str(out / "page.html"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["odd"]
    return found


def test_every_arm_answers_the_problems_that_were_not_trained_on(result: dict[str, Any]) -> None:
    assert result["checkpoint"] == STEPS
    assert result["left_out_of_data"] == {"seen_in_training": STEPS * PROMPTS}
    assert result["problems"] + sum(result["left_out"].values()) == PROBLEMS - STEPS * PROMPTS
    assert [arm["kind"] for arm in result["arms"]] == ["none", "untrained", "trained"]
    assert all(arm["solution_tokens"] > 0 for arm in result["arms"])
    assert [arm["guideline_tokens"] > 0 for arm in result["arms"]] == [False, True, True]


def test_the_rows_hold_what_the_grader_says(result: dict[str, Any], loop: Loop) -> None:
    client = MlflowClient(loop.uri)
    rows = pd.read_parquet(client.download_artifacts(loop.stored.info.run_id, "lift/odd.parquet"))
    assert len(rows) == (PROBLEMS - STEPS * PROMPTS) * 2 * 3
    with GradingPool() as pool:
        verdicts = [pool.submit(gold, text) for gold, text in zip(rows["gold"], rows["solution"], strict=True)]
        assert [float(verdict.result()["math_verify"].correct) for verdict in verdicts] == rows["correct"].tolist()
    means = rows.groupby("kind")["correct"].mean()
    for arm in result["arms"]:
        assert arm["accuracy"]["value"] == pytest.approx(means[arm["kind"]])
    written = rows[rows["kind"] == "trained"].set_index(["problem_id", "sample"])["guideline"]
    untrained = rows[rows["kind"] == "untrained"].set_index(["problem_id", "sample"])["guideline"]
    assert (written != untrained).any(), "the trained planner writes something else"


def test_the_run_has_the_result(result: dict[str, Any], loop: Loop) -> None:
    client, run_id = MlflowClient(loop.uri), loop.stored.info.run_id
    assert json.loads(Path(client.download_artifacts(run_id, "lift/odd.json")).read_text()) == result
    difference = result["pairs"][1]["paired"]["difference"]["value"]
    assert loop.metric("lift/odd/trained_over_none") == {STEPS: pytest.approx(difference)}
    assert loop.stored.info.status == "FINISHED"


def test_the_same_again_asks_for_what_is_missing_alone(result: dict[str, Any], loop: Loop, out: Path) -> None:
    (file,) = out.glob("solutions-none-*.jsonl")
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:-1]) + whole[-1][:9])
    before = {other: other.stat().st_mtime_ns for other in out.glob("*.jsonl") if other != file}
    assert len(before) == 4
    assert json.loads(lift(loop, out).stdout)["odd"] == result
    assert {other: other.stat().st_mtime_ns for other in before} == before
    lines = file.read_text().splitlines(keepends=True)
    assert lines[:-1] == whole[:-1]
    assert json.loads(lines[-1])["id"] == json.loads(whole[-1])["id"]


def test_the_merged_planner_has_the_checkpoints_weights(loop: Loop, tmp_path: Path) -> None:
    checkpoint = loop.directory / f"global_step_{STEPS}"
    weights = load_file(merge(checkpoint, tmp_path / "planner") / "model.safetensors")
    trained = torch.load(checkpoint / "actor/model_world_size_1_rank_0.pt", weights_only=False)
    untrained = load_file(MODELS / "tiny-random/model.safetensors")
    for name, weight in weights.items():
        kept = getattr(trained[name], "_local_tensor", trained[name])
        assert weight.dtype == torch.float32
        assert torch.equal(weight, kept), name
        assert not torch.equal(weight, untrained[name].float()), f"{name} was not trained"
    with pytest.raises(MergeError, match="is there already"):
        merge(checkpoint, tmp_path / "planner")
    with pytest.raises(MergeError, match="is no checkpoint"):
        merge(loop.directory, tmp_path / "other")
