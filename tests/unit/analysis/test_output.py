from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from analysis.pages import output
from guidelines_core.runs.lookup import RunError


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*")
    output.add_json(parser)
    output.add_html(parser)
    return parser.parse_args(words)


def test_json_without_a_file_is_printed_and_tables_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["a", "--json"], ["--json", "-", "a"], ["--json", "--html", "page.html", "a"]):
        arguments = given(*words)
        output.write_json(arguments, {"é": 1})
        output.console(arguments).print("table")
        printed = capsys.readouterr()
        assert (json.loads(printed.out), printed.err, arguments.runs) == ({"é": 1}, "table\n", ["a"])


def test_json_with_a_file_is_written_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = given("a", "--json", str(tmp_path / "found.json"))
    output.write_json(arguments, [1])
    output.console(arguments).print("table")
    assert json.loads((tmp_path / "found.json").read_text()) == [1]
    assert capsys.readouterr() == ("table\n", "")
    output.write_json(given("a"), [2])
    assert capsys.readouterr().out == ""


def test_a_run_after_json_is_not_taken_for_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        given("--json", "quickstart", "other")
    assert ended.value.code == 2
    assert "give --json after the other arguments" in capsys.readouterr().err


def test_a_file_without_a_folder_is_refused(tmp_path: Path) -> None:
    for option, file in (("--json", "none/found.json"), ("--html", "none/page.html")):
        with pytest.raises(RunError, match=f"{option}=.*{file}: there is no folder"):
            output.check_folders(given(option, str(tmp_path / file)))
    output.check_folders(given("--json", "--html", str(tmp_path / "page.html")))
