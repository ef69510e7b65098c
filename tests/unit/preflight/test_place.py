"""Places that a run cannot be kept in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from guidelines_core.preflight.place import place_findings, record_findings
from tests.support.answering_server import answering_server
from tests.support.silent_server import silent_server


def test_a_place_that_can_be_made_or_is_a_runs_is_no_finding(tmp_path: Path) -> None:
    assert list(place_findings(tmp_path / "not" / "there")) == []
    (tmp_path / "claim.json").touch()
    (tmp_path / "logs").mkdir()
    assert list(place_findings(tmp_path)) == []


@pytest.mark.parametrize("place", ["x" * 300, "/".join(["x" * 100] * 40)])
def test_names_and_paths_that_are_too_long_are_refused(tmp_path: Path, place: str) -> None:
    (found,) = place_findings(tmp_path / place)
    assert str(found).startswith("error: trainer.default_local_dir=")
    assert "give names of at most 200 and a path of at most 3500 bytes" in str(found)
    assert len(str(found)) < 400


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/run"):
        (found,) = place_findings(tmp_path / place)
        assert found.reason == f"{tmp_path / 'file'} is no directory"


def test_a_directory_of_nobodys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    (found,) = place_findings(tmp_path)
    assert "belongs to no run" in found.reason


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.getuid()
    if user == 0:
        # Root may write everywhere, and os.access asks for the real user.
        os.setreuid(65534, -1)
    try:
        (found,) = place_findings(tmp_path / "run")
    finally:
        os.setreuid(user, -1)
    assert found.reason == f"{tmp_path} cannot be written to"


def test_a_store_that_does_not_answer_is_refused_after_one_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidelines_core.runs.stores.REACH_S", 2.0)
    with silent_server() as server:
        uri = f"http://127.0.0.1:{server.port}"
        claim = {"run_id": "1", "run_name": "run", "tracking_uri": uri, "directory": str(tmp_path)}
        (tmp_path / "claim.json").write_text(json.dumps(claim))
        (found,) = record_findings(tmp_path, resume=True, new=False)
        assert str(found).startswith(f"error: MLFLOW_TRACKING_URI={uri}: it cannot be used: no answer within")
        assert server.connections(1) == 1
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        (found,) = record_findings(tmp_path / "new", resume=False, new=False)
        assert found.key == "MLFLOW_TRACKING_URI"
        assert server.connections(2) == 2


def test_a_store_that_refuses_the_credentials_needs_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering_server(403) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        (found,) = record_findings(tmp_path / "new", resume=False, new=False)
    assert found.reason == "it cannot be used: it refuses access with HTTP status 403"
    assert found.remedy.startswith("set other credentials in MLFLOW_TRACKING_USERNAME")


def test_a_run_whose_store_is_gone_is_found_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    uri = f"sqlite:///{tmp_path / 'gone.db'}"
    claim = {"run_id": "1", "run_name": "run", "tracking_uri": uri, "directory": str(tmp_path)}
    (tmp_path / "claim.json").write_text(json.dumps(claim))
    (found,) = record_findings(tmp_path, resume=True, new=False)
    assert found.reason == f"its store {uri} is gone"
    assert "--resume --new continues with them as a new MLflow run" in found.remedy
    assert list(record_findings(tmp_path, resume=True, new=True)) == []
    assert not (tmp_path / "gone.db").exists()
