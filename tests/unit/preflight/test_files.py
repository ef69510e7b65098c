"""A model's folder or a file of problems that cannot be used is refused by what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from guidelines_core.config.compose import compose
from guidelines_core.hardware.estimate import forecast
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.hardware.shapes import find_shape, gpus
from guidelines_core.models.bundled import ensure_model
from guidelines_core.paths import MODELS
from guidelines_core.preflight import layout_table
from guidelines_core.preflight.files import file_findings
from guidelines_core.preflight.inside import _hub_findings
from guidelines_core.preflight.model_files import model_fault

SHARDS = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a whole model's folder with a name of its own."""
    ensure_model(MODELS / "tiny-random")
    return Path(shutil.copytree(MODELS / "tiny-random", tmp_path / "mine"))


def truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 9\n")


def shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-2.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(SHARDS))


def base_model(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    "half a config": (
        lambda folder: (folder / "config.json").write_text('{"hidden_size": 6'),
        "config.json is no JSON",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    "half the weights": (truncate, "model.safetensors has 397327 bytes and is not whole"),
    "a pointer": (pointer, "and is not whole"),
    "a shard missing": (shard, "1 of 2 files of its weights are missing (model-1.safetensors)"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer"),
    "a base model": (base_model, "has no chat template"),
}


def test_a_whole_model_has_no_fault(folder: Path) -> None:
    assert model_fault(folder) is None
    assert find_shape(str(folder)) is not None


@pytest.mark.parametrize("case", BROKEN)
def test_what_a_model_lacks_is_said(case: str, folder: Path) -> None:
    break_it, reason = BROKEN[case]
    break_it(folder)
    gpu = gpus()["H100"]
    overrides = [f"actor_rollout_ref.model.path={folder}", f"guidelines.solver.model={folder}"]
    config = with_cache_sizes(compose("gsm8k-1.5b", overrides, environ={}), lambda: gpu)
    layout_table(config, gpu)
    forecast(config, gpu)
    found = {finding.key: finding for finding in file_findings(config) if finding.severity == "error"}
    assert found.keys() == {"actor_rollout_ref.model.path", "guidelines.solver.model"}
    assert reason in found["guidelines.solver.model"].reason
    assert found["guidelines.solver.model"].remedy


def test_a_model_that_is_half_in_the_hubs_cache_is_to_be_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("guidelines_core.preflight.inside.config_file", lambda model: folder / "config.json")
    config = compose("gsm8k-1.5b", ["guidelines.data.source=word-problems"], environ={})
    assert list(_hub_findings(config)) == []
    truncate(folder)
    found = {finding.key: finding.reason for finding in _hub_findings(config)}
    assert found.keys() == {"actor_rollout_ref.model.path", "guidelines.solver.model"}
    assert "it is not whole on this machine" in found["guidelines.solver.model"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("columns.csv", "q,a\nWhat is 1 + 1?,2\n", "has the columns q, a and no problem or question"),
        ("empty.jsonl", "", "it has no row"),
        ("broken.json", '[{"problem": "1 + 1"', "begins like a JSON array but is not one"),
        ("none.parquet", "PAR", "cannot be read as parquet"),
    ],
)
def test_problems_that_cannot_be_read_are_refused_before_they_are_prepared(
    name: str, content: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    config = compose("tiny", [f"guidelines.data.source={tmp_path / name}"], environ={})
    (finding,) = [finding for finding in file_findings(config) if finding.severity == "error"]
    assert finding.key == "guidelines.data.source"
    assert reason in finding.reason
    assert finding.remedy


def test_a_named_column_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("q,answer\nWhat is 1 + 1?,2\n")
    own = [f"guidelines.data.source={tmp_path / 'own.csv'}", "guidelines.data.columns.problem=q"]
    assert list(file_findings(compose("tiny", own, environ={}))) == []
