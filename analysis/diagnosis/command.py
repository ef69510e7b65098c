"""The command of `analysis/bottleneck.py`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.diagnosis.findings import as_json, of_figures, of_run
from analysis.diagnosis.page import page
from analysis.diagnosis.report import report
from analysis.pages import output
from guidelines_core.config.compose import ConfigError
from guidelines_core.hardware.shapes import gpus
from guidelines_core.runs.lookup import RunError


def main(arguments: list[str] | None = None) -> int:
    """Report on the run or the figures that the command line names and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="bottleneck.py", description="Where a step's time goes, and what to change first."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("run", nargs="?", metavar="RUN", help="a run's id or name")
    what.add_argument("--figures", type=Path, metavar="FILE", help="a YAML of figures in place of a run")
    parser.add_argument("--gpu", choices=sorted(gpus()), help="what it ran on (default: what the run recorded)")
    output.add_json(parser)
    output.add_html(parser)
    options = parser.parse_args(arguments)
    try:
        output.check_folders(options)
        found = of_figures(options.figures, options.gpu) if options.figures else of_run(options.run, options.gpu)
    except (RunError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    report(found, output.console(options))
    output.write_json(options, as_json(found))
    if options.html:
        options.html.write_text(page(found), encoding="utf-8")
    return 0
