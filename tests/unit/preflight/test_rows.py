"""Problems that are too few or too long are found before a run is claimed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from guidelines_core.config.compose import changed, compose
from guidelines_core.data.manifest import Manifest
from guidelines_core.models.bundled import ensure_model
from guidelines_core.paths import ROOT
from guidelines_core.preflight import PreflightError, prepare
from guidelines_core.preflight.rows import row_findings, unprepared

MODEL = ROOT / "models" / "tiny-random"


def config(*overrides: str) -> DictConfig:
    return compose("tiny", ["trainer.total_training_steps=4", *overrides], environ={})


def manifest(
    train: dict[str, int], val: dict[str, int], unit: str = str(MODEL), measured: dict[str, Any] | None = None
) -> Manifest:
    rows = (sum(train.values()), sum(val.values()))
    return Manifest(6, "rows", None, 0, 240, 16, "v", {}, True, {}, None, measured, sum(rows), {}, 0, *rows, {}, {},
                    unit, {"train": train, "val": val}, {})  # fmt: skip


def test_enough_that_are_short_enough_are_no_finding() -> None:
    assert list(row_findings(config(), manifest({"512": 16}, {"512": 1}))) == []


def test_left_out_problems_are_said_with_their_counts() -> None:
    (finding,) = row_findings(config(), manifest({"500": 16, "513": 4}, {"500": 1, "900": 2}))
    assert (finding.severity, finding.key, finding.value) == ("warning", "data.max_prompt_length", 512)
    assert "4 of 20 training and 2 of 3 validation problems are longer, the longest has 900" in finding.reason
    assert "data.max_prompt_length=900" in finding.remedy


@pytest.mark.parametrize(
    ("overrides", "train", "val", "key", "reason", "remedy"),
    [
        ((), {"500": 15}, {"500": 1}, "guidelines.data.source", "15 training problems in batches of 4 last for 3 of 4",
         "raise trainer.total_epochs to 2"),
        (("trainer.total_epochs=2",), {"500": 3}, {"500": 1}, "guidelines.data.source", "last for 0 of 4 steps in 2",
         "lower data.train_batch_size to 3"),
        ((), {"500": 8, "600": 24}, {"500": 1}, "data.max_prompt_length", "8 training problems in batches of 4 last",
         "give data.max_prompt_length=600"),
        ((), {"600": 32}, {"500": 1}, "data.max_prompt_length", "0 training problems", "data.max_prompt_length=600"),
        ((), {"500": 16}, {"600": 4}, "data.max_prompt_length", "no validation problem is left", "=600"),
    ],
)  # fmt: skip
def test_too_few_problems_are_an_error(
    overrides: tuple[str, ...], train: dict[str, int], val: dict[str, int], key: str, reason: str, remedy: str
) -> None:
    (finding,) = row_findings(config(*overrides), manifest(train, val))
    assert (finding.severity, finding.key) == ("error", key)
    assert reason in finding.reason
    assert remedy in finding.remedy


def test_prompts_that_verl_would_cut_are_said() -> None:
    (finding,) = row_findings(config("data.filter_overlong_prompts=False"), manifest({"600": 16}, {"500": 1}))
    assert finding.severity == "warning"
    assert "cuts off" in finding.reason


def test_the_lengths_of_another_tokenizer_say_nothing() -> None:
    assert list(row_findings(config(), manifest({"600": 16}, {"600": 1}, "another"))) == []


def test_a_first_start_is_refused_before_anything_is_claimed(tmp_path: Path) -> None:
    ensure_model(MODEL)
    lines = [{"problem": f"What is {n} and {'one ' * 200 * (n % 4 > 0)}more?", "answer": str(n)} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mostly_long = config(
        f"guidelines.data.source={tmp_path / 'rows.jsonl'}",
        f"data.train_files={tmp_path / 'data/train.parquet'}",
        f"data.val_files={tmp_path / 'data/val.parquet'}",
    )
    with pytest.raises(PreflightError, match=r"the prompts of \d+ of 32 training .* last for \d of 4 steps"):
        prepare(mostly_long, [])
    assert prepare(changed(mostly_long, {"data.max_prompt_length": 2000}), []) == []


def test_pass_rates_of_another_solver_are_said() -> None:
    enough = ({"512": 16}, {"512": 1})
    ours = {"model": str(MODEL), "temperature": 1.0, "max_tokens": 16, "style": "instruct", "grader": "math_verify",
            "prompts_version": "v", "samples": 8}  # fmt: skip
    assert list(row_findings(config(), manifest(*enough, measured=ours))) == []
    [finding] = row_findings(config(), manifest(*enough, measured={**ours, "temperature": 0.7, "model": "other"}))
    assert finding.severity == "warning"
    assert "model other there, tiny-random here; temperature 0.7 there, 1.0 here" in str(finding)


def test_a_dry_run_says_that_problems_are_not_counted_yet(tmp_path: Path) -> None:
    file = tmp_path / "data/train.parquet"
    words = (f"data.train_files={file}", "guidelines.data.source=mine.jsonl")
    assert "guidelines.data.source=mine.jsonl when the run starts" in unprepared(config(*words))
    file.parent.mkdir()
    (file.parent / "manifest.json").touch()
    assert unprepared(config(*words)) == ""
