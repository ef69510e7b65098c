from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis.store.runs import Run, config, history, labels, manifest, resolve, resolve_all, rows
from guidelines_core.runs.journal import STEP
from guidelines_core.runs.lookup import RunError
from guidelines_core.runs.metric_names import shown

EXPERIMENT = "query-conditioned-guidelines"


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_experiment(EXPERIMENT, artifact_location=(tmp_path / "mlruns").as_uri())
    return client


def start(client: MlflowClient, name: str) -> str:
    run_id = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id, run_name=name).info.run_id
    client.set_terminated(run_id, "FINISHED")
    return str(run_id)


def test_a_run_given_twice_is_refused_and_shared_names_get_ids(client: MlflowClient) -> None:
    first, second = start(client, "a"), start(client, "a")
    with pytest.raises(RunError, match="given twice"):
        resolve_all(["a", second], client)
    assert labels(resolve_all([first, "a"], client)) == [f"a {first[:6]}", f"a {second[:6]}"]


def test_history_has_a_column_a_metric_and_the_last_word_on_a_step(client: MlflowClient) -> None:
    run_id = start(client, "a")
    client.log_batch(run_id, [Metric("x", 1.0, 10, 1), Metric("x", 9.0, 20, 2), Metric("x", 2.0, 30, 2)])
    client.log_batch(run_id, [Metric("y", float("nan"), 10, 3), Metric("z", 5.0, 10, 3)])
    table = history(resolve("a", client))
    assert table.index.tolist() == [1, 2, 3]
    assert table["x"].dropna().to_dict() == {1: 1.0, 2: 2.0}
    assert table["y"].isna().all()
    assert history(resolve("a", client), ["z", "never logged"]).to_dict() == {"z": {3: 5.0}}


def test_steps_that_a_resume_went_back_behind_are_left_out(client: MlflowClient, tmp_path: Path) -> None:
    run_id = start(client, "a")
    trained = [(1, 10), (2, 20), (3, 30), (4, 40), (3, 50)]
    client.log_batch(run_id, [Metric(shown(STEP), float(step), when, step) for step, when in trained])
    client.log_batch(run_id, [Metric("x", float(when), when, step) for step, when in trained])
    for step, _ in trained:
        file = tmp_path / f"train_{step:06d}.parquet"
        pd.DataFrame({"step": [step]}).to_parquet(file)
        client.log_artifact(run_id, str(file), "rows")
    run = resolve("a", client)
    assert history(run, ["x"])["x"].to_dict() == {1: 10.0, 2: 20.0, 3: 50.0}
    assert rows(run, "train")["step"].tolist() == [1, 2, 3]


def test_rows_come_in_the_order_of_steps_with_the_columns_and_steps_that_are_wanted(
    client: MlflowClient, tmp_path: Path
) -> None:
    run_id = start(client, "a")
    for step in (10, 2):
        file = tmp_path / f"train_{step:06d}.parquet"
        pd.DataFrame({"step": [step] * 2, "gold": ["1", None if step == 2 else "2"]}).to_parquet(file)
        client.log_artifact(run_id, str(file), "rows")
    run = resolve("a", client)
    assert rows(run, "train")["step"].tolist() == [2, 2, 10, 10]
    assert rows(run, "train", ["gold", "baseline"], steps=[10]).columns.tolist() == ["gold", "baseline"]
    assert rows(run, "train", steps=[10])["gold"].tolist() == ["1", "2"]
    assert rows(run, "validation").empty


def test_a_run_without_anything_is_empty_and_no_error(client: MlflowClient) -> None:
    start(client, "a")
    run: Run = resolve("a", client)
    assert history(run).empty
    assert history(run).index.name == "step"
    assert rows(run, "train", ["step", "gold"]).columns.tolist() == ["step", "gold"]
    assert config(run) == {}
    assert manifest(run) == {}


def test_a_configuration_keeps_its_numbers(client: MlflowClient) -> None:
    run_id = start(client, "a")
    client.log_text(run_id, "lr: 1e-06\nsteps: 300\nname: 1e6x\nnothing: null\n", "config.yaml")
    assert config(resolve("a", client)) == {"lr": 1e-06, "steps": 300, "name": "1e6x", "nothing": None}


def test_a_metric_is_read_by_its_name_in_the_journal_whichever_mlflow_has(client: MlflowClient) -> None:
    old, new, both = (start(client, name) for name in ("old", "new", "both"))
    for run_id in (old, both):
        client.log_metric(run_id, "reward/mean", 0.25, step=1)
    for run_id in (new, both):
        client.log_metric(run_id, "1_outcome/reward", 0.25, step=1)
        client.log_metric(run_id, "1_outcome/reward", 0.5, step=2)
    for run_id, steps in ((old, [1]), (new, [1, 2]), (both, [1, 2])):
        run = resolve(run_id, client)
        assert history(run, ["reward/mean"]).index.tolist() == steps
        assert list(history(run).columns) == ["reward/mean"]
        assert run.final == {"reward/mean": [0.25, 0.5][len(steps) - 1]}
