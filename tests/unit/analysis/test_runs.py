from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis.store.runs import (
    PARENT,
    Run,
    RunError,
    config,
    history,
    labels,
    manifest,
    open_store,
    resolve,
    resolve_all,
    rows,
)

EXPERIMENT = "query-conditioned-guidelines"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; MLflow takes seconds to make one."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def client(empty: Path, tmp_path: Path) -> MlflowClient:
    shutil.copy(empty, tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_experiment(EXPERIMENT, artifact_location=(tmp_path / "mlruns").as_uri())
    return client


def start(
    client: MlflowClient, name: str, status: str = "FINISHED", nested: bool = False, where: str = EXPERIMENT
) -> str:
    tags = {PARENT: "0" * 32} if nested else {}
    run_id = client.create_run(client.get_experiment_by_name(where).experiment_id, run_name=name, tags=tags).info.run_id
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return str(run_id)


def test_a_bare_name_is_its_newest_finished_top_level_run(client: MlflowClient) -> None:
    start(client, "a")
    newest = start(client, "a")
    for status in ("FAILED", "KILLED", "RUNNING"):
        start(client, "a", status)
    start(client, "a", nested=True)
    assert resolve("a", client).id == newest


def test_an_id_means_its_run_whatever_its_status(client: MlflowClient) -> None:
    failed, trial = start(client, "a", "FAILED"), start(client, "a", nested=True)
    assert resolve(failed, client).status == "FAILED"
    assert resolve(trial, client).id == trial


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quick", "no run has this name or id; runs with similar names:\n  .*quickstart"),
        ("zzz", "no run has this name or id; the newest runs:(\n  .*)*quickstart"),
        ("f" * 32, "no run of this id"),
        ("broken", "none of this name is FINISHED; give an id.*\n  .*KILLED.*broken"),
        ("trial", "only nested runs.*give an id:\n  .*trial"),
        ("twice", "2 MLflow experiments have finished runs of this name"),
        ("it's", "expected a run's id or name"),
        ("", "expected a run's id or name"),
    ],
)
def test_what_names_no_run_is_refused_with_the_candidates(client: MlflowClient, text: str, says: str) -> None:
    client.create_experiment("other")
    start(client, "quickstart")
    start(client, "broken", "KILLED")
    start(client, "trial", nested=True)
    start(client, "twice")
    start(client, "twice", where="other")
    with pytest.raises(RunError, match=says):
        resolve(text, client)


def test_an_empty_store_and_none_at_all_say_so(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="holds no runs yet"):
        resolve("a", client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(RunError, match="no such file"):
        open_store()
    assert not (tmp_path / "none.db").exists()


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
