from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis import report
from analysis.bench.compare import make_store, uri
from analysis.lifts.section import cards, chosen
from analysis.pages.cost import per_point
from analysis.store.runs import artifact, resolve, rows
from guidelines_core.runs import cost
from guidelines_core.runs.journal import STEP
from guidelines_core.runs.mlflow_sync import ALARM, ALARMS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    client = make_store(folder, ["exact", "verified"], steps=51, samples=8, problems=20, metrics=12)
    experiment = client.get_experiment_by_name("query-conditioned-guidelines").experiment_id
    client.set_terminated(client.create_run(experiment, run_name="empty").info.run_id)
    return folder


@pytest.fixture
def client(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(store))
    return MlflowClient(uri(store))


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    return report.main()


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 4}


def lift_rows() -> pd.DataFrame:
    """Two samples of four problems, with guideline and without: p0 helped, p1 harmed, p2 helped in one sample."""
    verdicts = {"none": [(0, 0), (1, 1), (0, 0), (1, 1)], "trained": [(1, 1), (0, 0), (0, 1), (1, 1)]}
    table: pd.DataFrame = pd.DataFrame(
        {
            "problem_id": f"p{problem}", "sample": sample, "question": f"question {problem}", "gold": "7",
            "guideline": "" if kind == "none" else f"<b>guideline</b> {problem}.{sample}", "solver": "S", "kind": kind,
            "solution": f"{kind} solution {problem}.{sample}", "correct": float(correct), "leak": False,
        }
        for kind, of_kind in verdicts.items() for problem, samples in enumerate(of_kind)
        for sample, correct in enumerate(samples)
    )  # fmt: skip
    return table


def lift_result() -> dict[str, Any]:
    arms = [
        {"solver": "S", "kind": kind, "accuracy": estimate(value), "leaks": 0.0, "guideline_tokens": 9.0,
         "solution_tokens": 20.0}
        for kind, value in (("none", 0.5), ("trained", 0.6))
    ]  # fmt: skip
    pair = {"solver": "S", "base": "none", "better": "trained", "helped": ["p0", "p2"], "harmed": ["p1"],
            "paired": {"difference": estimate(0.125), "only_a": None, "only_b": None, "p_value": None}}  # fmt: skip
    return {"checkpoint": 50, "problems": 4, "arms": arms, "pairs": [pair]}


def test_a_report_is_one_small_page_attached_to_its_run(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "exact", "--json", "--html", tmp_path / "page.html") == 0
    printed = capsys.readouterr()
    (found,) = json.loads(printed.out).values()
    assert found["status"] == "FINISHED"
    assert found["headline"][0] in printed.err.replace("\n", " ")
    made = (tmp_path / "page.html").read_text()
    run = resolve("exact", client)
    assert artifact(run, "report/report.html").read_text() == made
    assert artifact(run, "report/curves.svg").read_text().startswith("<?xml")
    assert len(made.encode()) < 3e6
    for sentence in (
        "Guidelines that give the gold answer away went from",
        "variance within a group at guidelines.solver.samples=4",
    ):
        assert sentence in made
    for heading in ("What it reached", "Curves", "One problem, two guidelines", "What exact match wronged", "To do it"):
        assert heading in made
    assert "Is a guideline worth anything?" not in made
    validated = rows(run, "validation")
    by_step = validated.pivot(index="problem_id", columns="step", values="math_verify_correct")
    said = printed.err
    assert f"at step 51: {by_step[51].mean():.3f} [" in said
    assert f"From step 50 it changed by {(by_step[51] - by_step[50]).mean():+.3f} [" in said


def test_a_measured_lift_is_in_the_report_with_the_guidelines_to_read_and_the_command_as_it_was_given(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = resolve("verified", client)
    client.log_dict(run.id, lift_result(), "lift/validation.json")
    lift_rows().to_parquet(tmp_path / "validation.parquet")
    client.log_artifact(run.id, str(tmp_path / "validation.parquet"), "lift")
    client.set_tag(run.id, "guidelines.command", "python experiments/run.py --name verified trainer.save_freq=7")
    assert call(monkeypatch, "verified", "--html", tmp_path / "page.html") == 0
    made = (tmp_path / "page.html").read_text()
    assert "Is a guideline worth anything? (validation)" in made
    assert "Guidelines that helped (validation): 2 of 2 problems" in made
    assert "Guidelines that harmed (validation): 1 of 1 problems" in made
    assert "+0.125 [+0.025, +0.225]" in made
    assert "&lt;b&gt;guideline&lt;/b&gt; 0.0" in made
    assert "--name verified trainer.save_freq=7" in made


def test_a_card_shows_the_sample_in_which_the_verdict_changed() -> None:
    pair = chosen(lift_result()["pairs"])
    assert pair is not None
    (made,) = cards(lift_rows(), pair, ["p2"], good=True)
    assert "guideline&lt;/b&gt; 2.1" in made
    assert "trained solution 2.1" in made
    assert "solution with guideline, trained: right" in made
    assert "solution without guideline: wrong" in made


def test_of_several_comparisons_the_trained_planners_against_none_is_read() -> None:
    pairs = [
        {"solver": solver, "base": base, "better": better}
        for solver in ("own", "other")
        for base, better in (("none", "untrained"), ("none", "trained"), ("untrained", "trained"))
    ]
    assert chosen(pairs) == pairs[1]
    assert chosen([]) is None


def test_an_empty_run_and_several_runs_have_a_page_and_a_bad_name_has_none(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "empty") == 0
    assert "empty has no step: it ended before" in capsys.readouterr().out
    assert call(monkeypatch, "exact", "empty", "--html", tmp_path / "page.html") == 0
    made = (tmp_path / "page.html").read_text()
    assert "Which is better?" in made
    assert "exact: Curves" in made
    assert "empty: Curves" not in made
    assert call(monkeypatch, "nobody") == 2


def test_a_column_that_no_row_has_is_refused(client: MlflowClient) -> None:
    run = resolve("exact", client)
    assert list(rows(run, "train", ["step", "sample"]).columns) == ["step", "sample"]
    with pytest.raises(ValueError, match="columns guidline: a graded row has problem_id, "):
        rows(run, "train", ["step", "guidline"])


def test_a_point_of_lift_costs_the_run_divided_by_the_trained_planners_gain() -> None:
    final = {cost.HOURS: 2.0, cost.GPU_HOURS: 8.0, cost.DOLLARS: 20.0}
    pairs = [
        {"solver": "S", "base": base, "better": better, "paired": {"difference": {"value": value}}}
        for base, better, value in (
            ("none", "untrained", 0.3),
            ("none", "trained", 0.32),
            ("untrained", "trained", 0.02),
        )
    ]
    assert per_point(final, pairs) == "4 GPU-hours, $10.00 (+2.0 points over the untrained planner)"
    assert per_point(final, pairs[:2]) == "0.25 GPU-hours, $0.62 (+32.0 points over no guideline)"
    pairs[2]["paired"] = {"difference": {"value": -0.01}}
    assert per_point(final, pairs) == "none was gained (-1.0 points over the untrained planner)"
    assert per_point(final, pairs[:1]) is None
    assert per_point({cost.HOURS: 1.0, cost.GPU_HOURS: 0.0}, pairs) is None


def test_a_report_says_what_the_run_cost_and_its_alarms(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = resolve("exact", client)
    for name, value in {cost.HOURS: 0.5, cost.GPU_HOURS: 2.0, cost.STEP_GPU_S: 90.0, cost.ROLLOUT_GPU_S: 3.0}.items():
        client.log_metric(run.id, name, value)
    client.set_tag(run.id, ALARMS, "leak")
    client.set_tag(run.id, f"{ALARM}.leak", "step 3: 40% of the guidelines contain the gold answer")
    assert call(monkeypatch, "exact", "--html", tmp_path / "page.html") == 0
    made = (tmp_path / "page.html").read_text()
    for words in (
        "Alarms",
        "step 3: 40% of the guidelines",
        "What it cost",
        "2 GPU-hours",
        "90 GPU-seconds",
        "3 GPU-seconds",
    ):
        assert words in made


def test_a_page_follows_a_run_that_goes_on_and_is_attached_at_its_end(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    experiment = client.get_experiment_by_name("query-conditioned-guidelines").experiment_id
    run_id = client.create_run(experiment, run_name="going-on").info.run_id
    monkeypatch.setattr(report, "POLL_S", 0.0)
    written: list[str] = []

    def write(file: Path, made: str) -> None:
        """Take a page, and let the run go on: a second step, then its end."""
        written.append(made)
        if len(written) < 3:
            client.log_metric(run_id, STEP, len(written), step=len(written))
            client.log_metric(run_id, "1_outcome/reward", len(written) / 8, step=len(written))
        else:
            client.set_terminated(run_id, "KILLED")
        file.write_text(made)

    monkeypatch.setattr(report, "write_atomically", write)
    assert call(monkeypatch, "going-on", "--watch", "--html", tmp_path / "page.html") == 0
    assert ["RUNNING" in made for made in written] == [True, True, True, False]
    assert ['http-equiv="refresh"' in made for made in written] == [True, True, True, False]
    assert "Mean reward went from 0.125 to 0.250 in 2 steps (the first step and the last)." in written[2]
    assert artifact(resolve(run_id, client), "report/report.html").read_text() == written[-1]
    assert call(monkeypatch, "going-on", "--watch", "--html", tmp_path / "page.html") == 2


@pytest.mark.parametrize("words", [["a", "b", "--html", "p.html"], ["a"], ["a", "--html", "p.html", "--json"]])
def test_one_run_is_watched_and_written_to_one_page(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        call(monkeypatch, *words, "--watch")
    assert refused.value.code == 2
