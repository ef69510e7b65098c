"""Compares runs: different settings, results, which is better, and the right answers that exact match rejects.

    python analysis/compare.py RUN RUN … [--json [FILE]] [--html FILE] [--regrade]

A RUN is a run's id or name; a bare name means its newest FINISHED top-level run. The others are compared with the
first RUN. Runs with different graders are compared by the verdicts of one grader, which every stored row has;
`--regrade` grades every stored solution again. Exit codes: 0 done, 2 refused, 1 failed.
"""

from __future__ import annotations

import argparse
import logging
import string
import sys

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from analysis.pages import output, page
from analysis.pages.tables import show
from analysis.stats.comparison import Comparison, answer, compare
from analysis.stats.summary import curves, in_words
from analysis.stats.verdicts import Judged, pairs_to_grade
from analysis.store.runs import Run, resolve_all
from guidelines_core.grading.pool import GradingPool
from guidelines_core.runs.lookup import RunError, open_store
from guidelines_core.terminal import plain_console, replace_unprintable

WRONGED = (
    "Answers that math-verify calls right and exact match wrong, of those that math-verify calls right; training and "
    "validation together."
)
PAIRED = (
    "Accuracy by math-verify on the last validation's problems that both have, with the 95 % paired bootstrap interval "
    "of the difference. p is of McNemar's exact test, corrected for the number of comparisons by Holm's way."
)
ACCURACY = "With 95 % bootstrap intervals over problems."
FIGURES = "Final: the mean of the last tenth of a metric's values."
CURVES = "The line is the running mean with its 95 % interval, a dot is a step; validation has Wilson's interval."


def main() -> int:
    """Resolve, read, compare, print; return the exit code."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    options = parse_arguments()
    err = plain_console(stderr=True)
    try:
        output.check_folders(options)
        runs = resolve_all(options.runs, open_store())
        if len(runs) < 2:
            raise RunError("one RUN alone: give two or more to compare; analysis/report.py shows one")
    except RunError as error:
        err.print(str(error), style="red", highlight=False, soft_wrap=True)
        return 2
    comparison = compare_regraded(runs, err) if options.regrade else compare(runs)
    draw(comparison, output.console(options))
    output.write_json(options, comparison.as_json())
    if options.html:
        options.html.write_text(as_page(comparison), encoding="utf-8")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description="Compare runs; the first is what the others are compared with.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's id or name")
    output.add_json(parser)
    output.add_html(parser)
    parser.add_argument("--regrade", action="store_true", help="grade every stored solution again")
    return parser.parse_args()


def compare_regraded(runs: list[Run], console: Console) -> Comparison:
    """Compare the runs with new verdicts, and show the progress."""
    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with GradingPool() as pool, Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sum(pairs_to_grade(run) for run in runs))
        return compare(runs, pool, lambda done: bar.advance(task, done))


def draw(comparison: Comparison, console: Console) -> None:
    """Print the comparison; in tables, letters stand for the runs."""
    letters = dict(zip(comparison.status, string.ascii_uppercase, strict=False))
    for sentence in answer(comparison):
        console.print(sentence, style="bold", highlight=False)
    for sentence in comparison.notes:
        console.print(sentence, style="yellow", highlight=False)
    for name, letter in letters.items():
        console.print(f"{letter}  {name}", highlight=False)

    def table(frame: pd.DataFrame, title: str) -> None:
        show(console, frame.rename(index=letters, columns=letters), title)

    if len(comparison.differences):
        table(comparison.differences, "What was set differently")
    else:
        console.print("Nothing that was recorded was set differently.")
    table(in_words(comparison.figures, comparison.status), f"Figures. {FIGURES}")
    table(comparison.validated, f"Final validation. {ACCURACY}")
    table(comparison.paired.replace({"better": letters}), f"Is it better? {PAIRED}")
    table(comparison.wronged, f"What exact match wronged. {WRONGED}")
    if len(comparison.examples):
        table(comparison.examples, "Some that exact match wronged")
    for name, judged in comparison.judged.items():
        if judged.changed is not None:
            console.print(changes(name, judged), highlight=False)


def changes(name: str, judged: Judged) -> str:
    """Return how many verdicts a regrading changed, in words."""
    counts = (judged.changed or {}).items()
    each = ", ".join(f"{count} of {verdict.removesuffix('_correct')}" for verdict, count in counts)
    return f"{name}: {judged.pairs} rows graded again; verdicts that differ from the stored ones: {each}."


def as_page(comparison: Comparison) -> str:
    """Return the comparison as one HTML page."""
    names = list(comparison.status)
    figure = curves(comparison.histories)
    graders = ", ".join(f"{name} by {grader or 'a grader unknown'}" for name, grader in comparison.grader.items())
    regraded = [changes(name, judged) for name, judged in comparison.judged.items() if judged.changed is not None]
    return page.page(
        f"Comparison of {len(names)} runs",
        f"Trained on rewards: {graders}. Compared with {names[0]}.",
        [
            page.Section("The answer", [page.text(sentence) for sentence in answer(comparison)]),
            page.Section("Before you believe it", [page.text(sentence) for sentence in comparison.notes]),
            page.Section(
                "What was set differently",
                [page.table(comparison.differences)]
                if len(comparison.differences)
                else [page.text("Nothing that was recorded.")],
            ),
            page.Section("Figures", [page.table(in_words(comparison.figures, comparison.status), FIGURES)]),
            page.Section("Curves", [page.plot(figure, CURVES)] if figure else []),
            page.Section(
                "Final validation", [page.table(comparison.validated, ACCURACY), page.table(comparison.paired, PAIRED)]
            ),
            page.Section(
                "What exact match wronged",
                [
                    page.table(comparison.wronged, WRONGED),
                    *([page.table(comparison.examples)] if len(comparison.examples) else []),
                    *map(page.text, regraded),
                ],
            ),
        ],
    )


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
