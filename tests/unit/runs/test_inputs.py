"""Other content of a run's files is seen, and another place of the same is not."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from guidelines_core.config.compose import compose
from guidelines_core.runs import inputs
from tests.support.problems import write_problems


def made(folder: Path) -> DictConfig:
    """Compose a run whose model and data lie in `folder`."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    for name in ("train", "val"):
        write_problems(folder / f"{name}.parquet", name)
    return config_in(folder)


def config_in(folder: Path) -> DictConfig:
    model = folder / "model"
    keys = ("actor_rollout_ref.model.path", "guidelines.solver.model")
    files = [f"data.{name}_files={folder / name}.parquet" for name in ("train", "val")]
    return compose("tiny", [*(f"{key}={model}" for key in keys), *files], environ={})


def test_every_input_has_a_digest_that_its_place_does_not_change(tmp_path: Path) -> None:
    first = inputs.digests(made(tmp_path / "a"))
    assert set(first) == {"data.train_files", "data.val_files", *inputs.MODELS}
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert inputs.digests(config_in(tmp_path / "b")) == first


def test_a_folder_with_the_name_of_a_solver_elsewhere_is_no_input(tmp_path: Path) -> None:
    made(tmp_path)
    words = ["layout=cpu-train-only", "guidelines.solver.url=http://host:8000/v1"]
    own, elsewhere = (
        compose("tiny", [*more, f"guidelines.solver.model={tmp_path / 'model'}"], environ={}) for more in ([], words)
    )
    assert "guidelines.solver.model" in inputs.digests(own)
    assert "guidelines.solver.model" not in inputs.digests(elsewhere)


def test_other_content_is_a_change(tmp_path: Path) -> None:
    config = made(tmp_path)
    first = inputs.digests(config)
    write_problems(tmp_path / "val.parquet", "lav")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(bytes(reversed(weights.read_bytes())))
    assert set(inputs.changed(first, inputs.digests(config))) == {"data.val_files", *inputs.MODELS}


def test_what_a_later_version_writes_beside_a_problem_is_no_change(tmp_path: Path) -> None:
    write_problems(tmp_path / "old.parquet", "2 + 2?")
    write_problems(tmp_path / "new.parquet", "2 + 2?", baseline=0.5)
    assert inputs.problems_digest(tmp_path / "old.parquet") == inputs.problems_digest(tmp_path / "new.parquet")


def test_what_is_not_there_is_no_change() -> None:
    assert inputs.changed({"a": "1", "b": "2"}, {"b": "2", "c": "3"}) == []


def test_the_newest_attempts_record_counts(tmp_path: Path) -> None:
    config = made(tmp_path / "files")
    assert inputs.recorded(tmp_path) == {}
    for attempt in (1, 9, 10):
        inputs.record(config, tmp_path, attempt)
        write_problems(tmp_path / "files" / "train.parquet", str(attempt))
    assert inputs.recorded(tmp_path)["data.train_files"] != inputs.digests(config)["data.train_files"]
    inputs.record(config, tmp_path, 11)
    assert inputs.recorded(tmp_path) == inputs.digests(config)
