"""The arguments `--json` and `--html` of the analysis commands, and what they write."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from guidelines_core.runs.lookup import RunError
from guidelines_core.terminal import plain_console

STDOUT = "-"


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, which prints the result, and `--json FILE`, which writes it."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        type=_json_file,
        metavar="FILE",
        help="print the result as JSON, and the tables on standard error; with FILE, write it there",
    )


def add_html(parser: argparse.ArgumentParser) -> None:
    """Add `--html FILE`."""
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one HTML page")


def check_folders(given: argparse.Namespace) -> None:
    """Check that the files that are to be written have folders, before minutes of work.

    Raises:
        RunError: one of them has none.
    """
    for name in ("json", "html"):
        file = getattr(given, name, None)
        if file and file != STDOUT and not Path(file).resolve().parent.is_dir():
            raise RunError(
                f"--{name}={file}: there is no folder {Path(file).resolve().parent}; make it or name another file"
            )


def console(given: argparse.Namespace) -> Console:
    """Return where tables are printed: standard error if the JSON goes to standard output."""
    return plain_console(stderr=given.json == STDOUT)


def write_json(given: argparse.Namespace, result: object) -> None:
    """Write `result` as JSON where `--json` says; nothing without `--json`."""
    if given.json is None:
        return
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if given.json == STDOUT:
        print(text)
    else:
        Path(given.json).write_text(text + "\n", encoding="utf-8")


def _json_file(text: str) -> str:
    """Check the value of `--json`, which might be the RUN that follows it."""
    if text != STDOUT and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(
            f"{text!r} does not end in .json: name a .json file, or give --json after the other arguments"
        )
    return text
