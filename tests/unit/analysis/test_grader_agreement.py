from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from analysis import grader_agreement


def test_counts_are_printed_as_tables_and_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("2", r"\boxed{2}", True), ("3", r"\boxed{4}", False), ("1/2", r"\boxed{0.5}", True)]
    file = tmp_path / "reports.jsonl"
    names = ("gold", "solution", "expected")
    file.write_text(
        "".join(
            json.dumps({**dict(zip(names, row, strict=True)), "kind": "number", "sure": "high"}) + "\n" for row in rows
        )
    )
    monkeypatch.setattr(sys, "argv", ["grader_agreement.py", str(file), "--json"])
    assert grader_agreement.main() == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)["reports.jsonl"]["kind"]
    assert found["number"] == found["all"]
    assert found["all"]["math_verify"] == {"cases": 3, "agreed": 3, "false_correct": 0}
    assert found["all"]["exact_match"] == {"cases": 3, "agreed": 2, "false_correct": 0}
    assert "3/3" in printed.err
    assert "2/3" in printed.err
