from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.compose import compose
from guidelines_core.runs import tracking
from guidelines_core.runs.claim import claim, record_fault
from guidelines_core.runs.claim_file import ClaimError
from guidelines_core.runs.description import NOTE, about
from guidelines_core.runs.metric_names import meanings
from guidelines_core.runs.provenance import provenance
from guidelines_core.runs.stores import masked, tracking_uri
from tests.support.answering_server import answering_server
from tests.support.problems import write_problems
from tests.support.silent_server import silent_server


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return OmegaConf.create(
        {
            "trainer": {
                "default_local_dir": str(tmp_path / "checkpoints" / "name"),
                "experiment_name": "name",
                "project_name": "project",
            }
        }
    )


def test_a_claim_is_recorded_in_the_run_and_in_the_directory(config: DictConfig) -> None:
    run = claim(config, resume=False, new=False)
    recorded = json.loads((run.directory / "claim.json").read_text())
    assert recorded["run_id"] == run.claim.run_id
    assert run.client.get_run(run.claim.run_id).data.tags["guidelines.checkpoints"] == str(run.directory)


def test_a_run_says_what_it_trains_and_how_it_was_called(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--name", "name", "guidelines.description=a b"])
    run = claim(config, resume=False, new=False)
    recorded = run.client.get_run(run.claim.run_id)
    assert recorded.data.tags["guidelines.command"] == (
        "python experiments/run.py --name name 'guidelines.description=a b'"
    )
    experiment = run.client.get_experiment(recorded.info.experiment_id)
    assert "Metrics come in groups" in experiment.tags["mlflow.note.content"]
    tags = about(compose("quickstart-exactmatch", ["data.train_batch_size=8"]))
    assert tags["guidelines.grader"] == "exact_match"
    assert tags["guidelines.solver"] == "SmolLM2-135M-Instruct"
    for words in ("graded by exact match", "| reward | exact_match |", "8 prompts x 4 rollouts", meanings()):
        assert words in tags["mlflow.note.content"]


def test_a_description_that_a_person_changed_outlives_a_resume(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_problems(tmp_path / "rows.parquet", "1 + 1?")
    files = [f"data.{kind}_files={tmp_path / 'rows.parquet'}" for kind in ("train", "val")]
    whole = compose("quickstart", [*files, f"trainer.default_local_dir={tmp_path / 'run'}"])
    run = claim(whole, resume=False, new=False)
    run.record(whole, attempt=1, note="from the first step")
    assert "| reward | math_verify |" in run.client.get_run(run.claim.run_id).data.tags[NOTE]
    run.client.set_tag(run.claim.run_id, NOTE, "mine")
    run.record(whole, attempt=2, note="resumed")
    tags = run.client.get_run(run.claim.run_id).data.tags
    assert tags[NOTE] == "mine"
    assert tags["guidelines.grader"] == "math_verify"


def test_a_directory_in_use_is_refused_even_to_a_resume(config: DictConfig) -> None:
    held = claim(config, resume=False, new=False)
    with pytest.raises(ClaimError, match="in use by an active run"):
        claim(config, resume=True, new=False)
    held.release()


def test_a_taken_name_is_refused_and_new_stands_beside_it(config: DictConfig) -> None:
    first = claim(config, resume=False, new=False)
    first.finish("FINISHED", "done", first.directory / "claim.json")
    first.release()
    with pytest.raises(ClaimError, match=r"FINISHED.*\n.*--resume.*--new"):
        claim(config, resume=False, new=False)
    second = claim(config, resume=False, new=True)
    assert second.claim.run_name == "name-2"
    assert second.claim.run_id != first.claim.run_id
    assert second.directory == first.directory.with_name("name-2")


def test_a_resume_is_the_same_run_and_a_stale_running_is_corrected(config: DictConfig) -> None:
    first = claim(config, resume=False, new=False)
    assert first.status == "RUNNING"
    first.release()
    again = claim(config, resume=True, new=False)
    assert again.claim.run_id == first.claim.run_id
    assert again.status == "FAILED"


def test_a_directory_of_nobody_is_refused(config: DictConfig) -> None:
    Path(config.trainer.default_local_dir).mkdir(parents=True)
    with pytest.raises(ClaimError, match="belongs to no run"):
        claim(config, resume=True, new=False)


def test_a_machine_without_git_names_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(provenance()["mlflow.source.git.commit"]) == 40
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["mlflow.source.git.commit"] == "none"


def test_an_end_that_mlflow_did_not_hear_of_is_told_by_the_next_start(config: DictConfig) -> None:
    first = claim(config, resume=False, new=False)
    (first.directory / "logs").mkdir()
    log = first.directory / "logs/attempt-1.log"
    log.write_text("\n".join(f"line {number}" for number in range(300)))
    (first.directory / "end.json").write_text(
        json.dumps({"status": "KILLED", "reason": "stopped by SIGINT", "log": log.name})
    )
    first.release()
    again = claim(config, resume=True, new=False)
    assert again.status == "KILLED"
    assert again.client.get_run(again.claim.run_id).data.tags["guidelines.end"] == "stopped by SIGINT"
    tail = Path(again.client.download_artifacts(again.claim.run_id, "log_tail/attempt-1.log")).read_text()
    assert tail.splitlines() == [f"line {number}" for number in range(100, 300)]
    assert not (again.directory / "end.json").exists()


def test_an_end_is_recorded_though_the_disk_is_full(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    run = claim(config, resume=False, new=False)
    monkeypatch.setattr("guidelines_core.runs.tracking.write_atomically", full)
    assert run.finish("FAILED", "no space", run.directory / "logs/none.log") is None
    assert run.status == "FAILED"


def test_a_start_that_fails_after_its_run_was_made_leaves_none_that_says_running(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tracking, "write_claim", fail)
    with pytest.raises(OSError, match="no space"):
        claim(config, resume=False, new=False)
    client = MlflowClient(tracking_uri())
    (run,) = client.search_runs([tracking.experiment_id(client, config.trainer.project_name)])
    assert run.info.status == "FAILED"


def test_a_start_whose_store_fails_leaves_no_directory(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/mlflow.db")
    with pytest.raises(Exception, match="proc"):
        claim(config, resume=False, new=False)
    assert not Path(config.trainer.default_local_dir).exists()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:s3:cr@t@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("https://me:secret@host/path", "https://me:***@host/path"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////a/b:c@d.db", "sqlite:////a/b:c@d.db"),
    ],
)
def test_a_password_in_an_address_is_masked(uri: str, shown: str) -> None:
    assert masked(uri) == shown


def test_a_copy_of_a_living_project_touches_nothing_of_the_original(config: DictConfig, tmp_path: Path) -> None:
    original = claim(config, resume=False, new=False)
    shutil.copytree(original.directory, tmp_path / "copy" / "checkpoints" / "name")
    config.trainer.default_local_dir = str(tmp_path / "copy" / "checkpoints" / "name")
    for resume in (False, True):
        with pytest.raises(ClaimError, match=rf"is a copy of {original.directory}, .*{original.claim.run_id}.*--new"):
            claim(config, resume=resume, new=False)
    assert original.status == "RUNNING"
    beside = claim(config, resume=False, new=True)
    assert beside.claim.run_id != original.claim.run_id


def test_a_copy_whose_original_is_out_of_sight_says_nothing_about_the_run(config: DictConfig, tmp_path: Path) -> None:
    original = claim(config, resume=False, new=False)
    shutil.copytree(original.directory, tmp_path / "copy")
    original.directory.rename(tmp_path / "away")
    shutil.copytree(tmp_path / "copy", original.directory)  # the same path, as on another machine
    with pytest.raises(ClaimError, match="RUNNING"):
        claim(config, resume=False, new=False)
    assert original.status == "RUNNING"


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied, original gone"])
def test_a_moved_project_resumes_in_its_own_store(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old / 'mlflow.db'}")
    config.trainer.default_local_dir = str(old / "checkpoints" / "name")
    first = claim(config, resume=False, new=False)
    # Not by the client: MLflow remembers in a process where a run's artifacts lie.
    artifacts = Path(first.client.get_run(first.claim.run_id).info.artifact_uri.removeprefix("file://"))
    artifacts.mkdir(parents=True)
    (artifacts / "before.txt").touch()
    first.release()
    if copied:
        shutil.copytree(old, new)
        shutil.rmtree(old)
    else:
        old.rename(new)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{new / 'mlflow.db'}")
    config.trainer.default_local_dir = str(new / "checkpoints" / "name")
    again = claim(config, resume=True, new=False)
    run_id = again.claim.run_id
    assert run_id == first.claim.run_id
    assert again.directory == new / "checkpoints" / "name"
    assert again.status == "FAILED"
    assert again.client.get_run(run_id).data.tags["guidelines.checkpoints"] == str(again.directory)
    again.client.log_text(run_id, "after", "after.txt")
    assert {item.path for item in again.client.list_artifacts(run_id)} == {"before.txt", "after.txt"}
    assert not old.exists()
    written = json.loads((again.directory / "claim.json").read_text())
    assert written["directory"] == str(again.directory)
    assert written["tracking_uri"] == f"sqlite:///{new / 'mlflow.db'}"


def test_a_store_that_is_gone_is_named(config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(config, resume=False, new=False).release()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    (tmp_path / "mlflow.db").unlink()
    with pytest.raises(ClaimError, match=r"its store sqlite:.*mlflow\.db is gone: bring it back; or .*--resume --new"):
        claim(config, resume=True, new=False)


def test_a_store_that_is_gone_is_named_though_the_configured_one_never_answers(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidelines_core.runs.stores.REACH_S", 0.5)
    claim(config, resume=False, new=False).release()
    (tmp_path / "mlflow.db").unlink()
    with silent_server() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
        with pytest.raises(ClaimError, match=r"its store sqlite:.*mlflow\.db is gone: bring it back"):
            claim(config, resume=True, new=False)
        assert server.connections(1) == 1


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "set other credentials in "), (404, "start an MLflow server there, or give the ")]
)
def test_a_runs_store_that_answers_with_a_refusal_has_its_own_remedy(
    config: DictConfig, status: int, remedy: str
) -> None:
    run = claim(config, resume=False, new=False)
    run.release()
    with answering_server(status) as uri:
        fault = str(record_fault(replace(run.claim, tracking_uri=uri)))
    assert fault.startswith(f"its store {uri} cannot be used: ")
    assert f"HTTP status {status}; {remedy}" in fault
    assert "bring it back" not in fault


GONE = {
    "its store": "its store sqlite:.* is gone: bring it back; or .*--resume --new",
    "its run": "MLflow run [0-9a-f]{32} was deleted: restore it .mlflow runs restore --run-id .*--resume --new",
    "its experiment": "was deleted: restore it .*--resume --new",
    "all of it": "has no MLflow run .*--resume --new",
}


@pytest.mark.parametrize("what", GONE)
def test_a_run_that_mlflow_has_no_more_is_refused_and_its_checkpoints_go_on_as_a_new_one(
    config: DictConfig, tmp_path: Path, what: str
) -> None:
    first = claim(config, resume=False, new=False)
    first.release()
    client, run_id = MlflowClient(tracking_uri()), first.claim.run_id
    with pytest.raises(ClaimError, match=r"give --resume .* or --new"):
        claim(config, resume=True, new=True)
    if what == "its store":
        (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    elif what == "its run":
        client.delete_run(run_id)
    elif what == "its experiment":
        client.delete_experiment(client.get_run(run_id).info.experiment_id)
        config.trainer.project_name = "another"
    else:
        other = json.loads((first.directory / "claim.json").read_text()) | {"run_id": "0" * 32}
        (first.directory / "claim.json").write_text(json.dumps(other))
    for _ in range(2):  # the first refusal changes nothing
        for resume in (True, False):
            with pytest.raises(ClaimError, match=GONE[what]):
                claim(config, resume=resume, new=False)
    assert (tmp_path / "mlflow.db").exists() == (what != "its store")
    if what == "its store":
        return  # MLflow's client keeps the file that was there open
    again = claim(config, resume=True, new=True)
    assert again.directory == first.directory
    assert again.claim.run_id != run_id
    assert again.claim.run_name == first.claim.run_name
    assert again.status == "RUNNING"
    again.release()
    assert claim(config, resume=True, new=False).claim.run_id == again.claim.run_id


def test_a_deleted_experiment_takes_no_run_and_says_how_it_is_restored(config: DictConfig) -> None:
    client = MlflowClient(tracking_uri())
    client.delete_experiment(client.create_experiment("project"))
    with pytest.raises(
        ClaimError, match=r"project_name=project: this MLflow experiment was deleted.*mlflow experiments restore"
    ):
        claim(config, resume=False, new=False)
    assert not Path(config.trainer.default_local_dir).exists()


@pytest.mark.parametrize("place", ["file/run", "file", "x" * 300])
def test_a_directory_that_cannot_be_made_is_refused(config: DictConfig, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    config.trainer.default_local_dir = str(tmp_path / place)
    with pytest.raises(ClaimError, match=r"trainer.default_local_dir=.*give a directory that can be created"):
        claim(config, resume=False, new=False)


def test_a_store_that_was_copied_with_its_artifacts_leaves_the_originals_alone(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = claim(config, resume=False, new=False)
    first.client.log_text(first.claim.run_id, "before", "before.txt")
    shutil.copytree(tmp_path, tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}")
    config.trainer.default_local_dir = str(tmp_path / "copy" / "checkpoints" / "name")
    second = claim(config, resume=False, new=True)
    second.client.log_text(second.claim.run_id, "mine", "mine.txt")
    assert second.client.get_run(second.claim.run_id).info.artifact_uri.startswith((tmp_path / "copy").as_uri())
    assert sorted(path.name for path in (tmp_path / "mlruns").iterdir()) == [first.claim.run_id]


def test_without_git_nobody_knows_whether_files_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance()["git.changed"] in ("true", "false")
    monkeypatch.setattr("guidelines_core.runs.provenance.ROOT", tmp_path)  # in no repository
    assert provenance()["git.changed"] == "unknown"
    assert provenance()["mlflow.source.git.commit"] == "none"
