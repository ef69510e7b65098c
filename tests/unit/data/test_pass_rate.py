"""Pass rates: what is asked, what is kept, how they come into a data set. The model is a script that answers."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from guidelines_core.data import pass_rate
from guidelines_core.data.dataset import prepare
from guidelines_core.data.manifest import Manifest
from guidelines_core.data.pass_rate import main, share_right
from guidelines_core.data.problems import DatasetError
from guidelines_core.grading.verdicts import Verdict

SUMS = 12

MODEL = """
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
for task in job["tasks"]:
    answers = pathlib.Path(task["answers"])
    known = {json.loads(line)["id"] for line in answers.open()} if answers.exists() else set()
    with answers.open("a") as out, pathlib.Path(task["requests"]).open() as requests:
        for line in requests:
            request = json.loads(line)
            if request["id"] in known:
                continue
            question = request["messages"][0]["content"]
            first = int(question.split("What is ")[1].split(" ")[0])
            number = int(request["id"].split("#")[1])
            if first == STOP_AT:
                raise SystemExit("out of memory")
            text = chr(92) + "boxed{%d}" % (first + 1 if number < first else -1)
            finish = "too_long" if first == TOO_LONG else "stop"
            out.write(json.dumps({"id": request["id"], "text": text, "tokens": 5, "finish": finish}) + chr(10))
"""
"""Answers `What is n + 1?` right in its first n samples; job and files are those of `answer_chats`."""


def model(folder: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int = -1, too_long: int = -1) -> None:
    (folder / "answering.py").write_text(MODEL.replace("STOP_AT", str(stop_at)).replace("TOO_LONG", str(too_long)))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(pass_rate, "ANSWER_CHATS", "answering")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    lines = [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(SUMS)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def measured(source: Path, *more: str) -> int:
    out = source.with_name("measured.jsonl")
    return main(["--source", str(source), "--model", "M", "--out", str(out), "--samples", "8", *more])


def written(source: Path) -> dict[str, dict[str, Any]]:
    lines = source.with_name("measured.jsonl").read_text().splitlines()
    return {row["problem"]: row for row in map(json.loads, lines)}


def test_each_problem_gets_both_rates_from_different_solutions(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path, monkeypatch)
    assert measured(source) == 0
    rows = written(source)
    rates = {n: (rows[f"What is {n} + 1?"]["pass_rate"], rows[f"What is {n} + 1?"]["baseline"]) for n in range(SUMS)}
    assert rates == {n: (min(n, 4) / 4, max(0, min(n, 8) - 4) / 4) for n in range(SUMS)}
    said = json.loads(source.with_name("measured.jsonl.json").read_text())
    assert (said["model"], said["samples"], said["problems"]) == ("M", 8, SUMS)
    assert not source.with_name("measured.jsonl.answers").exists()


def test_what_was_answered_before_a_failure_is_not_asked_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model(tmp_path, monkeypatch, stop_at=7)
    assert measured(source) == 1
    assert "out of memory" in capsys.readouterr().err
    (kept,) = source.with_name("measured.jsonl.answers").glob("*.answers.jsonl")
    before = kept.read_text()
    assert before.count("\n") >= 8
    marked = before.replace("boxed{1}", "boxed{1} kept")
    kept.write_text(marked)
    model(tmp_path, monkeypatch)
    monkeypatch.setattr(shutil, "rmtree", lambda folder: None)
    assert measured(source) == 0
    assert kept.read_text().startswith(marked)
    assert len(written(source)) == SUMS


def test_a_problem_without_a_verdict_has_no_rate(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path, monkeypatch, too_long=3)
    assert measured(source) == 0
    row = written(source)["What is 3 + 1?"]
    assert (row["pass_rate"], row["baseline"]) == (None, None)
    timeouts = [Verdict(False, "timeout"), Verdict(True, "correct"), None]
    assert share_right(timeouts) == 1.0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--samples", "3"], "--samples 3: expected an even number"),
        (["--temperature", "0"], "--temperature 0.0: greedy"),
        (["--out", "x.parquet"], "--out x.parquet: expected a file that ends in .jsonl"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    source: Path, more: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measured(source, *more) == 2
    assert reason in capsys.readouterr().err


def test_training_problems_lie_between_the_bounds_and_rows_have_their_baseline(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path, monkeypatch)
    assert measured(source) == 0
    rated = source.with_name("measured.jsonl")
    found = prepare(str(rated), tmp_path / "out", size=9, seed=0, val_size=2, pass_rate=[0.25, 0.75])
    train = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert found.pass_rate == [0.25, 0.75]
    assert found.measured is not None
    assert found.measured["model"] == "M"
    rows = written(source)
    chosen = [row["extra_info"] for row in train]
    assert chosen
    for row in chosen:
        assert 0.25 <= rows[row["question"]]["pass_rate"] <= 0.75
        assert row["baseline"] == rows[row["question"]]["baseline"]
    inside = sum(0.25 <= row["pass_rate"] <= 0.75 for row in rows.values())
    assert found.dropped["outside_pass_rate"] == SUMS - found.val_rows - found.train_rows
    assert inside - found.val_rows <= found.train_rows <= inside
    assert Manifest.load(tmp_path / "out") == found


def test_a_choice_by_rates_that_nobody_measured_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no problem of .* has a pass rate; measure them"):
        prepare(str(source), tmp_path / "out", size=9, seed=0, pass_rate=[0.1, 0.9])


def test_the_answering_module_is_there() -> None:
    assert find_spec(pass_rate.ANSWER_CHATS) is not None
