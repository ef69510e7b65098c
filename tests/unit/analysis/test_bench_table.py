from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from analysis.bench import table as bench_table
from guidelines_core.paths import ROOT

RESULTS = ROOT / "analysis/results"


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def rows(table: Table) -> list[dict[str, str]]:
    """Return a table's rows by the headers of its columns."""
    columns = {str(column.header): list(column.cells) for column in table.columns}
    return [{name: str(cells[row]) for name, cells in columns.items()} for row in range(table.row_count)]


def test_an_update_has_a_row_for_each_arm_and_workload_with_its_phases_and_their_sum() -> None:
    arms = result("update-h200.json")["arms"]
    measured = {(arm["name"], name): arm[name] for arm in arms for name in ("even", "tailed") if arm.get(name)}
    shown = {(row["arm"], row["workload"]): row for row in rows(bench_table.table(result("update-h200.json")))}
    assert len(measured) > 10
    assert measured.keys() <= shown.keys()
    for key, phases in measured.items():
        if set(phases) != {"old_log_prob", "ref", "update"}:
            continue
        row = shown[key]
        assert [float(row[f"{name} s"]) for name in phases] == pytest.approx(
            [p["s"] for p in phases.values()], abs=5e-3
        )
        assert float(row["sum"]) == pytest.approx(sum(p["s"] for p in phases.values()), abs=5e-3)


def test_a_solvers_row_is_extrapolated_or_not_and_compared_with_the_last_arm() -> None:
    arms = result("solver-h200.json")["arms"]
    shown = rows(bench_table.table(result("solver-h200.json")))
    assert [row["arm"] for row in shown] == [arm["name"] for arm in arms]
    for row, arm in zip(shown, arms, strict=True):
        assert ("extrapolated" in row["s a step"]) == arm["extrapolated"]
        assert float(row["s a step"].split()[0]) == pytest.approx(arm["s_per_step"], abs=5e-3)
        assert float(row["x"]) == pytest.approx(arm["s_per_step"] / arms[-1]["s_per_step"], abs=0.05)


def test_a_steps_table_has_a_column_for_each_arm() -> None:
    arm = {"name": "a", "s_per_step": 2.0, "phases": {"step": 2.0}, "launch_to_first_step_s": 9.0}
    failed = {"name": "b", "failed": "exit code 1"}
    shown = {
        row["seconds"]: row for row in rows(bench_table.table({"gpu": "G", "gpu_count": 1, "arms": [arm, failed]}))
    }
    assert (shown["step"]["a"], shown["step"]["b"]) == ("2.00", "")
    assert shown["launch_to_first_step"]["a"] == "9"
    assert (shown["failed"]["a"], shown["failed"]["b"]) == ("", "exit code 1")


def test_the_command_prints_what_the_result_says_of_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["table", str(RESULTS / "update-h200.json")])
    assert bench_table.main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert " ".join(result("update-h200.json")["note"].split()) in printed


@pytest.mark.parametrize(("content", "says"), [(None, "cannot be read"), ("{", "cannot be read"), ("[]", "no arms")])
def test_a_file_that_is_no_benchmark_is_refused(
    content: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    monkeypatch.setattr(sys, "argv", ["table", str(tmp_path / "a.json")])
    with pytest.raises(SystemExit) as ended:
        bench_table.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
