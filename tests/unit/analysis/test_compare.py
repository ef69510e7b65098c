from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis import compare
from analysis.bench.compare import ANSWERS, make_store, uri
from analysis.stats.comparison import accuracies, notes, paired
from analysis.stats.summary import GPU_HOURS, curves, figures, gpus_of
from analysis.stats.verdicts import Judged, by_problem, examples, judge, pairs_to_grade, tally
from analysis.store.differences import differing
from analysis.store.runs import config, resolve, rows
from guidelines_core.config.compose import compose
from guidelines_core.grading.pool import GradingPool


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two long runs' shape, small: `base` by exact match, `other` by math-verify, and broken ones."""
    folder = tmp_path_factory.mktemp("store")
    client = make_store(folder, ["base", "other"], steps=12, samples=40, problems=60, metrics=30, others=4)
    experiment = client.get_experiment_by_name("query-conditioned-guidelines").experiment_id
    empty = client.create_run(experiment, run_name="empty")
    client.set_terminated(empty.info.run_id)
    failed = client.create_run(experiment, run_name="failed", tags={"guidelines.end": "verl ended with exit code 1"})
    client.log_metric(failed.info.run_id, "reward/mean", 0.5, step=1)
    client.set_terminated(failed.info.run_id, "FAILED")
    return folder


@pytest.fixture
def client(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(store))
    return MlflowClient(uri(store))


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
    return compare.main()


def validation(problems: list[str], math_verify: list[int], exact: list[int] | None = None) -> pd.DataFrame:
    right = [float(verdict) for verdict in math_verify]
    same = [float(verdict) for verdict in exact or math_verify]
    table: pd.DataFrame = pd.DataFrame(
        {"step": 50, "problem_id": problems, "acc": right, "math_verify_correct": right, "exact_match_correct": same}
    )
    return table


def test_the_whole_comparison_as_json_agrees_with_the_stored_rows(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "base", "other", "--json", "--html", tmp_path / "page.html") == 0
    said = json.loads(capsys.readouterr().out)
    stored = [rows(resolve(name, client), "validation") for name in ("base", "other")]
    finals = [table[table["step"] == 12].set_index("problem_id").sort_index() for table in stored]
    for name, table in zip(("base", "other"), finals, strict=True):
        assert said["accuracy"][name]["math-verify"] == pytest.approx(table["math_verify_correct"].mean())
        assert said["accuracy"][name]["exact match"] == pytest.approx(table["exact_match_correct"].mean())
        everything = pd.concat([rows(resolve(name, client), "train"), rows(resolve(name, client), "validation")])
        wronged = (everything["math_verify_correct"] == 1) & (everything["exact_match_correct"] == 0)
        assert said["verdicts"][name]["all"]["wronged"] == int(wronged.sum()) > 0
        assert said["verdicts"][name]["all"]["answers"] == len(everything)
    difference = (finals[1]["math_verify_correct"] - finals[0]["math_verify_correct"]).mean()
    assert said["pairs"]["other"]["difference"] == pytest.approx(difference)
    assert said["pairs"]["other"]["problems"] == 60
    assert said["grader"] == {"base": "exact_match", "other": "math_verify"}
    assert said["differences"]["guidelines.grader.name"] == {"base": "exact_match", "other": "math_verify"}
    assert not [key for key in said["differences"] if "experiment_name" in key or "local_dir" in key]
    kinds = {example["kind"] for example in said["examples"]}
    assert "fraction" in kinds
    for example in said["examples"]:
        assert (example["gold"], example["answer"]) in ANSWERS
    assert (tmp_path / "page.html").stat().st_size < 3e6


def test_a_validation_before_the_first_step_is_no_step() -> None:
    """Of two runs of two steps, one was validated before; a third ended after such a validation."""
    validated, plain = (
        pd.DataFrame({"reward/mean": values, "validation/accuracy": 0.5}, index=range(3 - len(values), 3))
        for values in ([np.nan, 0.1, 0.2], [0.1, 0.2])
    )
    histories = {"validated": validated, "plain": plain}
    named: Any = {name: SimpleNamespace(status="FINISHED") for name in (*histories, "ended")}
    none = Judged(validation([], []), pd.DataFrame(), pd.DataFrame(), None, 1)

    def said(histories: dict[str, pd.DataFrame]) -> str:
        runs = {name: named[name] for name in histories}
        return " ".join(notes(runs, {key: {"a": 1} for key in runs}, histories, dict.fromkeys(runs, none)))

    assert "step" not in said(histories)
    words = said({**histories, "ended": validated.head(1)})
    assert "ended has no step: it ended before its first one was recorded" in words
    assert "different lengths: validated 2 steps, plain 2 steps, ended 0 steps" in words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["base"], "one RUN alone"),
        (["base", "base"], "given twice"),
        (["base", "trial-1"], "only nested runs"),
        (["base", "nobody"], "no run has this name"),
        (["base", "failed"], "none of this name is FINISHED"),
        (["base", "other", "--html", "nowhere/page.html"], "there is no folder"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    assert call(monkeypatch, *words) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_empty_and_failed_runs_are_compared_as_far_as_they_go(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    failed = client.search_runs(["1"], "attributes.run_name = 'failed'")[0].info.run_id
    page = tmp_path / "page.html"
    assert call(monkeypatch, "base", "empty", failed, "--json", "-", "--html", page) == 0
    said = json.loads(capsys.readouterr().out)
    words = " ".join(said["notes"])
    assert "empty has no step: it ended before" in words
    assert "empty has no config.yaml" in words
    assert "failed is FAILED (verl ended with exit code 1)" in words
    assert "different lengths: base 12 steps, empty 0 steps, failed 1 steps" in words
    assert "empty has no graded rows" in words
    assert said["accuracy"]["empty"]["math-verify"] is None
    assert said["accuracy"]["base"]["problems"] == 60
    assert "no validation problem in common" in said["answer"][0]
    assert "NaN" not in json.dumps(said)
    assert "nan" not in page.read_text().split("</style>")[1].replace("finance", "")


def test_regrading_finds_a_verdict_that_is_not_the_graders(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = client.create_run("1", run_name="forged").info.run_id
    table = rows(resolve("other", client), "validation")
    table.loc[table.index[:3], "math_verify_correct"] = 1 - table["math_verify_correct"].head(3)
    table.to_parquet(tmp_path / "validation_000012.parquet")
    client.log_artifact(run, str(tmp_path / "validation_000012.parquet"), "rows")
    client.set_terminated(run)
    assert call(monkeypatch, "base", "forged", "--json", "-", "--regrade") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdicts_changed"]["base"] == {"math_verify_correct": 0, "exact_match_correct": 0}
    assert said["verdicts_changed"]["forged"] == {"math_verify_correct": 3, "exact_match_correct": 0}


def test_progress_counts_every_pair_once(client: MlflowClient) -> None:
    run = resolve("base", client)
    done: list[int] = []
    with GradingPool() as pool:
        judged = judge(run, pool, done.append)
    assert sum(done) == pairs_to_grade(run) == judged.pairs


def test_the_tally_by_hand() -> None:
    table = pd.DataFrame(
        {
            "kind": ["integer", "integer", "fraction", "fraction", "fraction", "integer"],
            "math_verify_correct": [1.0, 0.0, 1.0, 1.0, 0.0, np.nan],
            "exact_match_correct": [1.0, 0.0, 0.0, 0.0, 1.0, np.nan],
        }
    )
    counts = tally(table)
    assert counts.index.tolist() == ["fraction", "integer", "all"]
    assert counts.loc["fraction"].to_dict() == {
        "answers": 3, "math_verify": 2, "exact_match": 1, "wronged": 2, "wronged_share": 1.0, "exact_only": 1,
    }  # fmt: skip
    assert counts.loc["all", ["answers", "math_verify", "wronged"]].tolist() == [5, 3, 2]
    assert tally(table.head(0)).loc["all"].isna().sum() == 1


def test_runs_are_compared_on_the_problems_that_they_share() -> None:
    a = validation(["p", "q", "r"], [1, 0, 1])
    b = validation(["q", "r", "s"], [1, 1, 1], [0, 1, 1])
    found = paired({"a": a, "b": b})
    assert found.loc["b", ["problems", "difference", "only_first", "only_this"]].tolist() == [2, 0.5, 0, 1]
    assert accuracies({"a": a, "b": b}).loc["b", ["problems", "math-verify", "exact match"]].tolist() == [2, 1.0, 0.5]
    assert by_problem([a, validation(["p", "p"], [1, 0])]).to_numpy().tolist() == [[1.0, 0.5]]


def test_a_difference_is_shown_only_where_interval_and_test_agree() -> None:
    problems = [str(number) for number in range(200)]
    worse, better = validation(problems, [0] * 100 + [1] * 100), validation(problems, [1] * 150 + [0] * 50)
    # Five problems gained and none lost: the interval is above 0, but McNemar's p is 2 / 2^5 = 0.0625.
    slightly = validation(problems, [1] * 5 + [0] * 95 + [1] * 100)
    found = paired({"a": worse, "better": better, "slightly": slightly})
    assert found["low"].tolist()[1] > 0
    assert found["better"].tolist() == ["better", ""]
    # With two answers a problem there is no test, and the interval alone decides.
    halves = pd.concat([worse, better])
    found = paired({"halves": halves, "same": validation(problems, [1] * 125 + [0] * 75), "b": better})
    assert found["p"].isna().all()
    assert found["better"].tolist() == ["", "b"]
    assert paired({"b": better, "worse": worse}).loc["worse", "better"] == "b"


def test_gpu_hours_are_the_steps_hours_on_all_gpus() -> None:
    history = pd.DataFrame({"timing_s/step": [1800.0, 1800.0], "reward/mean": [0.2, 0.4]}, index=[1, 2])
    table = figures(history, 4)
    assert table.loc[GPU_HOURS, "final"] == pytest.approx(4.0)
    assert table.loc["reward/mean"].tolist() == pytest.approx([0.4, 0.3])
    assert figures(pd.DataFrame(), None).loc[[GPU_HOURS], "final"].isna().all()


def test_final_is_the_mean_of_the_last_tenth() -> None:
    history = pd.DataFrame({"reward/mean": np.arange(40.0)}, index=range(1, 41))
    assert figures(history, 0).loc["reward/mean", "final"] == pytest.approx((36 + 37 + 38 + 39) / 4)


def test_gpus_are_those_of_every_role(client: MlflowClient) -> None:
    assert gpus_of(config(resolve("base", client))) == 4
    assert gpus_of({"trainer": {"device": compose("quickstart").trainer.device}}) == 0
    assert gpus_of({}) is None


def test_only_what_differs_is_shown_and_nothing_of_the_attempt(client: MlflowClient) -> None:
    runs = [resolve(name, client) for name in ("base", "other")]
    same = config(runs[0])
    table = differing(runs, ["a", "b"], [same, {**same, "seed": 1, "trainer": {**same["trainer"], "nnodes": 2}}])
    assert table.to_dict("index") == {"trainer.nnodes": {"a": "1", "b": "2"}, "seed": {"a": "", "b": "1"}}


def test_examples_are_answers_that_exact_match_wronged(client: MlflowClient) -> None:
    run = resolve("base", client)
    table = rows(run, "train").assign(split="train", kind="any")
    found = examples(run, table)
    assert 0 < len(found) <= 3
    assert not (found["gold"] == found["answer"]).any()


@pytest.mark.parametrize("steps", [[5], [1, 2], [10, 300]])
def test_a_curves_axis_has_whole_steps_also_for_one(steps: list[int]) -> None:
    history = pd.DataFrame({"reward/mean": [0.5] * len(steps)}, index=steps)
    figure = curves({"run": history}, ["reward/mean"])
    assert figure is not None
    (axes,) = figure.axes
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
