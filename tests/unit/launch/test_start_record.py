from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from omegaconf import DictConfig

from experiments.run import parse_arguments
from guidelines_core.config.compose import ConfigError
from guidelines_core.launch import start_record
from guidelines_core.launch.resume import requested_changes
from guidelines_core.launch.start_record import (
    UnknownRunError,
    compose_first_start,
    compose_resumed,
    merge_overrides,
    resume_command,
)
from guidelines_core.runs.claim import claim
from guidelines_core.runs.tracking import Run
from tests.support.silent_server import silent_server

NAME = "quickstart"
OVERRIDES = ["data.train_batch_size=8", "guidelines.description='two words, \"quoted\"'", "+guidelines.environment.A=1"]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's file, whose tables take seconds to make."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(autouse=True)
def places(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(start_record, "CHECKPOINTS", tmp_path / "checkpoints")


def start(directory: Path, overrides: Sequence[str] = (), *, new: bool = False) -> Run:
    """Claim a run as a first start with `overrides` does, record its start and leave it."""
    quoted = str(directory).replace("'", "\\'")
    config, record = compose_first_start(NAME, [*overrides, f"trainer.default_local_dir='{quoted}'"])
    run = claim(config, resume=False, new=new)
    (run.directory / "logs").mkdir()
    record.write(run.directory, 1)
    run.release()
    return run


def printed(line: str, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """Return the configuration of a printed line, read by a shell and by run.py's parser."""
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    interpreter, script, *arguments = words.stdout.splitlines()
    assert (interpreter, script) == ("python", "experiments/run.py")
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    parsed = parse_arguments()
    assert parsed.resume
    return compose_resumed(parsed.name, parsed.overrides)[0]


def test_a_run_goes_on_as_it_was_started_and_only_what_is_given_changes(tmp_path: Path) -> None:
    run = start(tmp_path / "checkpoints/project/quickstart", OVERRIDES)
    place = f"trainer.default_local_dir={run.directory}"
    config, record = compose_resumed(NAME, [place, "trainer.save_freq=2"])
    assert config.data.train_batch_size == 8
    assert config.guidelines.description == 'two words, "quoted"'
    assert config.guidelines.environment.A == "1"
    assert config.trainer.save_freq == 2
    record.write(run.directory, 2)
    assert compose_resumed(NAME, [place])[0].trainer.save_freq == 2
    assert compose_resumed(NAME, [place, "data.train_batch_size=4"])[0].data.train_batch_size == 4


def test_what_is_given_now_is_checked_with_the_overrides_of_the_last_start(tmp_path: Path) -> None:
    elsewhere = ["layout=cpu-train-only", "guidelines.solver.url=http://127.0.0.1:1/v1"]
    run = start(tmp_path / "checkpoints/project/quickstart", elsewhere)
    place = f"trainer.default_local_dir={run.directory}"
    config, _ = compose_resumed(NAME, [place, "guidelines.solver.key_env=OTHER"])
    assert config.guidelines.solver.key_env == "OTHER"
    with pytest.raises(ConfigError, match=r"key_env=OTHER: the run's own servers have no key"):
        compose_resumed(NAME, [f"{place}-2", "guidelines.solver.key_env=OTHER"])


@pytest.mark.parametrize(("folder", "by"), [("checkpoints/project", "name"), ("else", "name"), ("else", "id")])
def test_the_second_run_of_an_experiment_is_meant_by_its_name_or_its_id(tmp_path: Path, folder: str, by: str) -> None:
    start(tmp_path / folder / NAME)
    second = start(tmp_path / folder / NAME, ["data.train_batch_size=8"], new=True)
    assert second.claim.run_name == "quickstart-2"
    config, record = compose_resumed("quickstart-2" if by == "name" else second.claim.run_id, [])
    assert record.experiment == NAME
    assert config.data.train_batch_size == 8
    again = claim(config, resume=True, new=False)
    assert again.claim.run_id == second.claim.run_id
    assert requested_changes(config, again) == ([], [])


@pytest.mark.parametrize("folder", ["checkpoints/project", "with space, it's", "$HOME {x} a=b,c"])
def test_the_printed_line_goes_on_with_the_run(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path / folder / NAME, OVERRIDES)
    second = start(tmp_path / folder / NAME, OVERRIDES, new=True)
    config = printed(resume_command(second.claim.run_name, NAME, second.directory), monkeypatch)
    assert config.data.train_batch_size == 8
    assert claim(config, resume=True, new=False).claim.run_id == second.claim.run_id


def test_the_line_of_a_run_in_its_usual_place_is_its_name(tmp_path: Path) -> None:
    line = resume_command("quickstart-2", NAME, tmp_path / "checkpoints/project/quickstart-2")
    assert line == "python experiments/run.py --name quickstart-2 --resume"


def test_a_name_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownRunError, match=r"no run or experiment is called 'quickstart-7'.*--list"):
        compose_resumed("quickstart-7", [])
    with pytest.raises(UnknownRunError, match=r"'0{32}' is no experiment.*not found"):
        compose_resumed("0" * 32, [])
    start(tmp_path / "checkpoints/project/quickstart-2")
    with pytest.raises(UnknownRunError, match=r"quickstart-2 is a run, .*--resume goes on"):
        compose_first_start("quickstart-2", [])
    with pytest.raises(ConfigError, match="no experiment is called 'quickstart-3'"):
        compose_first_start("quickstart-3", [])


def test_a_name_in_a_store_that_never_answers_is_refused_after_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidelines_core.runs.stores.REACH_S", 0.5)
    with silent_server() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
        with pytest.raises(UnknownRunError, match=r"cannot be searched for a run: no answer within 0\.5 s"):
            compose_resumed("quickstart-7", [])
        assert server.connections(1) == 1


def test_two_runs_of_one_name_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    for place in ("a", "b"):
        start(tmp_path / place / "quickstart-2")
    client = MlflowClient()
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        client.update_run(run.info.run_id, name="quickstart-2")
    with pytest.raises(UnknownRunError, match=r"2 runs are called quickstart-2, in .*a/.*b/.*id"):
        compose_resumed("quickstart-2", [])


def test_a_run_without_a_record_says_how_it_is_named(tmp_path: Path) -> None:
    run = start(tmp_path / "checkpoints/project/quickstart-2")
    (run.directory / "logs/attempt-1.started.json").unlink()
    with pytest.raises(UnknownRunError, match=f"--name EXPERIMENT.*trainer.default_local_dir={run.directory}"):
        compose_resumed("quickstart-2", [])


KEYS = st.sampled_from(["a.b", "c", "layout", "d.e.f"])
WORDS = st.lists(st.builds("{}={}".format, KEYS, st.integers(0, 9)), unique_by=lambda word: word.split("=")[0])


@given(WORDS, WORDS)
def test_the_newer_of_two_overrides_counts_and_each_key_stands_once(before: list[str], now: list[str]) -> None:
    words = [word.split("=") for word in merge_overrides(before, now)]
    assert len({key for key, _ in words}) == len(words)
    assert dict(words) == dict(word.split("=") for word in [*before, *now])


def test_a_key_that_was_added_is_added_with_its_new_value() -> None:
    assert merge_overrides(["+new.key=1", "a=2"], ["new.key=3"]) == ["+new.key=3", "a=2"]
