"""What reaches MLflow of a run's journal and rows, against real stores that come and go."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from guidelines_core.runs.claim import claim
from guidelines_core.runs.journal import LOGGED_AT, STEP, sanitized
from guidelines_core.runs.mlflow_sync import ALARM, ALARMS, Recorder
from guidelines_core.runs.tracking import Run


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}")
    (tmp_path / "store").mkdir()
    return OmegaConf.create(
        {
            "trainer": {
                "default_local_dir": str(tmp_path / "name"),
                "experiment_name": "name",
                "project_name": "project",
            }
        }
    )


@pytest.fixture
def run(config: DictConfig) -> Run:
    run = claim(config, resume=False, new=False)
    (run.directory / "logs").mkdir()
    (run.directory / "rows").mkdir()
    return run


def trained(run: Run, attempt: int, step: int, loss: float | None, **more: float) -> None:
    """Add a step to an attempt's journal, as verl's file logger does."""
    data = {STEP: step, "actor/loss": loss, "val/mean@1": 0.5, LOGGED_AT: 1_699_999_000 + 1000 * attempt + step, **more}
    with (run.directory / f"logs/attempt-{attempt}.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "data": data}) + "\n")


def rows(run: Run, step: int, solution: str) -> None:
    columns = {"question": "q", "guideline": "g", "solution": solution, "gold": "1", "reason": "correct", "score": 1.0}
    pd.DataFrame([{"step": step, **columns}]).to_parquet(run.directory / f"rows/train_{step:06d}.parquet")


def shown(run: Run) -> pd.DataFrame:
    path = run.client.download_artifacts(run.claim.run_id, "train_rows.json")
    return pd.read_json(path, orient="split")


def history(run: Run, key: str = "actor/loss") -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in run.client.get_metric_history(run.claim.run_id, key)]


def test_every_entry_is_copied_once_however_often_it_is_asked(run: Run) -> None:
    recorder = Recorder(run)
    for step in (1, 2):
        trained(run, 1, step, loss=step / 10)
        assert recorder.copy()
    assert Recorder(run).copy()
    assert history(run) == [(1, 0.1), (2, 0.2)]
    assert history(run, "val/mean_at_1") == [(1, 0.5), (2, 0.5)]
    first = run.client.get_metric_history(run.claim.run_id, "actor/loss")[0]
    assert first.timestamp == 1_700_000_001_000, "the time at which the step ended, not at which it was copied"
    assert LOGGED_AT not in run.client.get_run(run.claim.run_id).data.metrics


def test_the_first_metrics_of_a_run_that_is_followed_come_together_and_sorted(run: Run) -> None:
    def held() -> list[str]:
        return list(run.client.get_run(run.claim.run_id).data.metrics)

    def journal(line: dict[str, object]) -> None:
        with (run.directory / "logs/attempt-1.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    journal({"step": 0, "data": {"start/total": 60.0, "validation/accuracy": 0.5}})
    recorder = Recorder(run)
    recorder.start()
    time.sleep(1.5)
    assert held() == []
    trained(run, 1, 1, loss=0.1, **{"reward/mean": 0.25, "timing_s/step": 9.0})
    deadline = time.monotonic() + 60
    while not held() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert held() == [
        "1_outcome/reward", "1_outcome/validation_accuracy", "4_cost/start_seconds/total", "4_cost/step_s",
        "actor/loss", "training/global_step", "val/mean_at_1",
    ]  # fmt: skip
    recorder.stop()


def test_a_run_that_ends_before_its_first_step_has_its_start(run: Run) -> None:
    line = json.dumps({"step": 0, "data": {"start/total": 60.0}})
    (run.directory / "logs/attempt-1.jsonl").write_text(line + "\n")
    recorder = Recorder(run)
    recorder.start()
    recorder.stop()
    assert history(run, "4_cost/start_seconds/total") == [(0, 60.0)]


def test_a_line_that_is_being_written_waits(run: Run) -> None:
    recorder = Recorder(run)
    trained(run, 1, 1, loss=0.1)
    journal = run.directory / "logs/attempt-1.jsonl"
    whole = journal.read_text()
    journal.write_text(whole + whole.replace('"step": 1', '"step": 2')[:40])
    assert recorder.copy()
    assert history(run) == [(1, 0.1)]


def test_a_value_that_is_no_number_is_kept_and_not_written_twice(run: Run) -> None:
    trained(run, 1, 1, loss=None)
    assert Recorder(run).copy()
    assert Recorder(run).copy()
    ((step, value),) = history(run)
    assert step == 1
    assert math.isnan(value)


def test_a_step_trained_again_stands_after_its_first_try(run: Run) -> None:
    recorder = Recorder(run)
    for step in (1, 2, 3):
        trained(run, 1, step, loss=step / 10, same=1.0)
    rows(run, 3, "first try")
    assert recorder.copy()
    trained(run, 2, 3, loss=0.9, same=1.0)
    rows(run, 3, "second try")
    assert Recorder(run).copy()
    assert sorted(history(run)) == [(1, 0.1), (2, 0.2), (3, 0.3), (3, 0.9)]
    assert history(run, "same") == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert run.client.get_run(run.claim.run_id).data.metrics["actor/loss"] == 0.9
    path = run.client.download_artifacts(run.claim.run_id, "rows/train_000003.parquet")
    assert pd.read_parquet(path)["solution"].tolist() == ["second try"]
    assert shown(run)["solution"].tolist() == ["second try"]


def test_what_was_cut_off_by_a_resume_is_not_replayed(run: Run) -> None:
    for step in (1, 2, 3, 4):
        trained(run, 1, step, loss=step / 10)
    trained(run, 2, 3, loss=0.9)
    assert Recorder(run).copy()
    assert history(run) == [(1, 0.1), (2, 0.2), (3, 0.9)]


def test_a_store_that_goes_and_comes_back_gets_everything_once(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(run)
    trained(run, 1, 1, loss=0.1)
    assert recorder.copy()
    store = tmp_path / "store"
    store.rename(tmp_path / "away")
    store.touch()
    for step in (2, 3):
        trained(run, 1, step, loss=step / 10)
        rows(run, step, "kept")
        assert not recorder.copy()
    assert recorder.failure
    assert run.finish("FAILED", "a reason", run.directory / "logs/attempt-1.jsonl") is not None
    store.unlink()
    (tmp_path / "away").rename(store)
    assert recorder.copy()
    assert recorder.failure is None
    assert history(run) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert len(run.client.list_artifacts(run.claim.run_id, "rows")) == 2
    said = [record.message for record in caplog.records if record.name == "guidelines_core.runs.mlflow_sync"]
    assert [line.split(" (")[0].split(":")[0] for line in said] == [
        "MLflow does not accept the records",
        "MLflow accepts records again",
    ]
    assert run.status == "RUNNING"
    run.settle()
    assert run.status == "FAILED"
    assert run.client.get_run(run.claim.run_id).data.tags["guidelines.end"] == "a reason"


def test_stop_copies_what_is_left(run: Run) -> None:
    recorder = Recorder(run)
    recorder.start()
    trained(run, 1, 1, loss=0.1)
    recorder.stop()
    assert history(run) == [(1, 0.1)]


def test_names_are_made_as_verl_makes_them() -> None:
    assert sanitized("val-core//a/mean@4?") == "val-core/a/mean_at_4_"


def test_alarms_are_tags_of_the_run_and_follow_the_journal(run: Run) -> None:
    limits = {"guidelines": {"alarms": {"limits": {"leak": {"steps": 1, "above": 0.2}, "nan": {}}}}}
    OmegaConf.save(OmegaConf.create(limits), run.directory / "logs/attempt-1.yaml")
    (run.directory / "logs/attempt-1.jsonl").touch()
    recorder = Recorder(run)

    def tags() -> dict[str, str]:
        assert recorder.copy()
        found = run.client.get_run(run.claim.run_id).data.tags
        return {name: text for name, text in found.items() if name.startswith(ALARM)}

    assert tags() == {}
    trained(run, 1, 1, loss=0.1, **{"guideline/leak": 0.1})
    assert tags() == {ALARMS: "none"}
    for step, leak in ((2, 0.3), (3, 0.3), (4, 0.0), (5, 0.4)):
        trained(run, 1, step, loss=0.1, **{"guideline/leak": leak})
    trained(run, 1, 6, loss=None)
    found = tags()
    assert found.pop(ALARMS) == "leak, nan"
    assert found == {
        f"{ALARM}.leak": "steps 2 to 3: 30% of the guidelines contain the gold answer; "
        "step 5: 40% of the guidelines contain the gold answer",
        f"{ALARM}.nan": "step 6: not a number: actor/loss",
    }
    assert Recorder(run).copy()


def test_a_run_from_before_there_were_alarms_gets_no_word_of_them(run: Run) -> None:
    (run.directory / "logs/attempt-1.yaml").write_text("guidelines: {description: old}")
    trained(run, 1, 1, loss=None)
    assert Recorder(run).copy()
    assert ALARMS not in run.client.get_run(run.claim.run_id).data.tags


def test_metrics_have_mlflows_names_there_and_a_resumed_older_run_gets_them_too(run: Run) -> None:
    run.client.log_metric(run.claim.run_id, "reward/mean", 0.25, step=1, timestamp=1)
    trained(run, 1, 1, loss=0.1, **{"reward/mean": 0.25})
    trained(run, 1, 2, loss=0.1, **{"reward/mean": 0.5})
    assert Recorder(run).copy()
    assert history(run, "1_outcome/reward") == [(1, 0.25), (2, 0.5)]
    assert history(run, "reward/mean") == [(1, 0.25)]
