"""Writes one page about a run: settings, results, time and cost, and how to reproduce it.

    python analysis/report.py RUN … [--json [FILE]] [--html FILE]
    python analysis/report.py RUN --watch --html FILE

A RUN is a run's id or name; a bare name means its newest FINISHED top-level run. The page and its plots become the
artifacts `report/` of each run; --html also writes the page to a file, and --json gives its figures. Several runs share
one page with a comparison. A run's lift is included once `analysis/lift.py` has measured it.

With --watch a bare name means the newest RUNNING run. FILE is written again after each of its steps, and the browser
that shows it reloads it. Exit codes: 0 done, 2 refused, 1 failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from analysis.pages import output, page
from analysis.pages.run import Report, report
from analysis.stats.comparison import answer, compare
from analysis.store.runs import Run, labels, resolve_all
from guidelines_core.runs.checkpoints import write_atomically
from guidelines_core.runs.journal import STEP
from guidelines_core.runs.lookup import RunError, find_run, open_store
from guidelines_core.terminal import plain_console, replace_unprintable

FOLDER = "report"
POLL_S, RELOAD_S = 2.0, 10
"""Seconds between two looks whether a run has gone on, and between two times that a browser loads its page."""


def main() -> int:
    """Resolve, read, write the page, attach it; return the exit code."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description="One page of a run, or of some.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's id or name")
    output.add_json(parser)
    output.add_html(parser)
    parser.add_argument("--watch", action="store_true", help="write the page of a run that goes on after each step")
    options = parser.parse_args()
    if options.watch and (len(options.runs) > 1 or not options.html or options.json):
        parser.error("--watch: expected one RUN and --html FILE, without --json")
    try:
        output.check_folders(options)
        if options.watch:
            return watch(Run(client := open_store(), find_run(options.runs[0], client, "RUNNING")), options.html)
        runs = resolve_all(options.runs, open_store())
    except RunError as error:
        plain_console(stderr=True).print(str(error), style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        return 130
    console = output.console(options)
    reports = {name: report(run, name) for name, run in zip(labels(runs), runs, strict=True)}
    made = as_page(runs, reports)
    for (name, found), run in zip(reports.items(), runs, strict=True):
        attach(run, found, made)
        for sentence in found.headline:
            console.print(f"{name}: {sentence}", highlight=False, soft_wrap=True)
        console.print(f"{name}: attached as {FOLDER}/report.html to run {run.id}", highlight=False)
    output.write_json(options, {name: found.as_json for name, found in reports.items()})
    if options.html:
        options.html.write_text(made, encoding="utf-8")
    return 0


def watch(run: Run, file: Path) -> int:
    """Write a run's page after each of its steps until the run ends, then attach it; return the exit code."""
    plain_console().print(f"{run.name} ({run.status}): {file} is written after each step", highlight=False)
    while True:
        found = report(run, run.name)
        going_on = run.status == "RUNNING"
        lead = f"MLflow run {run.id}, {run.status}"
        made = page.page(f"Report of {run.name}", lead, found.sections, RELOAD_S if going_on else None)
        write_atomically(file.resolve(), made)
        if not going_on:
            attach(run, found, made)
            return 0
        before = state(run)
        while state(run) == before:
            time.sleep(POLL_S)
            run = replace(run, entity=run.client.get_run(run.id))


def state(run: Run) -> tuple[str, float | None]:
    """Return what a new page is written for when it changes: the run's status and last step."""
    return run.status, run.final.get(STEP)


def as_page(runs: list[Run], reports: Mapping[str, Report]) -> str:
    """Return the page: the run's parts, or a comparison and each run's parts under its name."""
    if len(runs) == 1:
        ((name, found),) = reports.items()
        return page.page(f"Report of {name}", f"MLflow run {runs[0].id}, {runs[0].status}", found.sections)
    sections = [page.Section("Which is better?", [page.text(sentence) for sentence in answer(compare(runs))])]
    for name, found in reports.items():
        sections += [page.Section(f"{name}: {part.title}", part.parts) for part in found.sections]
    lead = ", ".join(f"{name}: MLflow run {run.id}" for name, run in zip(reports, runs, strict=True))
    return page.page(f"Report of {len(runs)} runs", lead, sections)


def attach(run: Run, found: Report, made: str) -> None:
    """Log the page and the run's plots as artifacts of the run."""
    run.client.log_text(run.id, made, f"{FOLDER}/report.html")
    for name, figure in found.plots.items():
        run.client.log_text(run.id, page.svg(figure), f"{FOLDER}/{name}.svg")


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
