"""That what is printed never ends a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from rich.table import Table

from guidelines_core.paths import ROOT
from guidelines_core.terminal import plain_console

LINES = """
import sys
from guidelines_core.terminal import keep_output
keep_output()
from rich.console import Console
from rich.live import Live
out, err = Console(), Console(stderr=True)
for number in range(3000):
    out.print(f"[bold]step {number}[/] · \u221e")
    print("plain ·")
with Live(console=out):
    pass
err.print("· done")
sys.exit(7)
"""


def run(code: str, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as PROGRAM in a shell's `command` and return what came of it."""
    return subprocess.run(
        ["bash", "-c", command.replace("PROGRAM", f"{sys.executable} -c '{code}'")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        encoding="latin-1",
    )


def test_a_reader_that_goes_away_ends_nothing() -> None:
    done = run(LINES, "PROGRAM | head -1; echo ${PIPESTATUS[0]}")
    assert done.stdout.splitlines()[0].startswith("step 0")
    assert done.stdout.splitlines()[-1] == "7"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["PROGRAM >&-", "PROGRAM > /dev/full", "PROGRAM >&- 2>&- <&-"])
def test_output_that_cannot_be_written_ends_nothing(command: str) -> None:
    assert run(LINES, command).returncode == 7


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_lacks_is_replaced(encoding: str) -> None:
    done = run(LINES, "PROGRAM", PYTHONIOENCODING=encoding)
    assert done.returncode == 7
    dot = "?" if encoding == "ascii" else "·"
    assert done.stdout.splitlines()[0] == f"step 0 {dot} ?"
    assert done.stderr == f"{dot} done\n"


def test_a_command_that_only_reads_prints_what_the_encoding_has() -> None:
    code = 'from guidelines_core.terminal import replace_unprintable; replace_unprintable(); print("a · b")'
    assert run(code, "PROGRAM", PYTHONIOENCODING="ascii").stdout == "a ? b\n"


@pytest.mark.parametrize("text", ["[/home/user]", "[bold]", "[link=x]", ":smile:", "a [0] b", "[/]", "\\[x]"])
def test_a_text_is_printed_as_it_is_wherever_it_stands(text: str) -> None:
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    console = plain_console(width=80)
    with console.capture() as printed:
        console.print(text, highlight=False)
        console.print(table)
    assert printed.get().count(text) == 5


@pytest.mark.parametrize(("variables", "lines"), [({}, 1), ({"COLUMNS": "80"}, 2)])
def test_a_pipe_gets_long_lines_unless_the_user_says_how_wide_it_is(variables: dict[str, str], lines: int) -> None:
    code = 'from guidelines_core.terminal import plain_console; plain_console().print("word " * 30)'
    assert len(run(code, "env -u COLUMNS " * (not variables) + "PROGRAM", **variables).stdout.splitlines()) == lines


def test_every_console_of_the_project_prints_texts_as_they_are() -> None:
    folders = ("analysis", "experiments", "guidelines_core", "sweeps", "tests/chaos")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    making = re.compile(r"\bConsole\(|rich import print|Panel\.fit\(")
    assert [str(path.relative_to(ROOT)) for path in sources if making.search(path.read_text())] == [
        "guidelines_core/terminal.py"
    ]
