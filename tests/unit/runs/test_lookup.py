from __future__ import annotations

import json
import socket
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from guidelines_core.runs.claim_file import CLAIM
from guidelines_core.runs.lookup import PARENT, RunError, find_run, open_store
from tests.support.answering_server import answering_server
from tests.support.silent_server import silent_server

EXPERIMENT = "query-conditioned-guidelines"


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
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
    assert find_run("a", client).info.run_id == newest


def test_a_finished_run_is_found_behind_any_number_of_newer_ones_that_are_not(client: MlflowClient) -> None:
    finished, failed = start(client, "a"), start(client, "a", "FAILED")
    with sqlite3.connect(client.tracking_uri.removeprefix("sqlite:///")) as database:
        for table in ("runs", "tags"):  # MLflow looks for a run's name among its tags
            rows = pd.read_sql(f"SELECT * FROM {table} WHERE run_uuid = ?", database, params=[failed])
            copies = [rows.assign(run_uuid=f"{number:032}") for number in range(100)]
            pd.concat(copies).to_sql(table, database, if_exists="append", index=False)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    assert len(client.search_runs([experiment], "attributes.run_name = 'a'")) == 102
    assert find_run("a", client).info.run_id == finished


def test_a_checkpoint_directory_means_the_run_that_owns_it(client: MlflowClient, tmp_path: Path) -> None:
    failed = start(client, "a", "FAILED")
    (tmp_path / CLAIM).write_text(json.dumps({"run_id": failed}))
    assert find_run(str(tmp_path), client).info.run_id == failed
    (tmp_path / CLAIM).write_text(json.dumps({"run_id": "0" * 32}))
    with pytest.raises(RunError, match=rf"{CLAIM} names: no run of this id"):
        find_run(str(tmp_path), client)


def test_an_id_means_its_run_whatever_its_status(client: MlflowClient) -> None:
    failed, trial = start(client, "a", "FAILED"), start(client, "a", nested=True)
    assert find_run(failed, client).info.status == "FAILED"
    assert find_run(trial, client).info.run_id == trial


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quick", "no run has this name or id; runs with similar names:\n  .*quickstart"),
        ("zzz", "no run has this name or id; the newest runs:(\n  .*)*quickstart"),
        ("f" * 32, "no run of this id"),
        ("broken", "none of this name is FINISHED; give an id.*\n  .*KILLED.*broken"),
        ("trial", "only nested runs.*give an id:\n  .*trial"),
        ("twice", "2 MLflow experiments have finished runs of this name"),
        ("it's", "expected a run's id"),
        ("", "expected a run's id"),
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
        find_run(text, client)


def test_an_empty_store_and_none_at_all_say_so(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="holds no runs yet"):
        find_run("a", client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(RunError, match="no such file"):
        open_store()
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_is_away_is_a_refusal_and_costs_no_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(RunError, match=r"MLFLOW_TRACKING_URI=http://me:\*\*\*@.*: no connection: .*start that server"):
        open_store()


def test_a_server_that_never_answers_is_a_refusal_after_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidelines_core.runs.stores.REACH_S", 0.5)
    with silent_server() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
        with pytest.raises(RunError, match=r"no answer within 0\.5 s; start that server, or unset the variable"):
            open_store()
        assert server.connections(1) == 1


def test_a_server_that_refuses_the_credentials_is_not_to_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering_server(401) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(RunError, match=r"HTTP status 401; set other credentials in [^;]*$"):
            open_store()
