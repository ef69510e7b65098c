"""The command line of `throughput.py`, and the checks of its arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guidelines_core.config.compose import ConfigError
from guidelines_core.runs.stores import masked, tracking_uri, unreachable
from sweeps.axes import SPACES
from sweeps.objective import OBJECTIVES
from sweeps.storage import refuse_unreachable

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Matches an experiment's name."""


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments; `overrides` holds its key=value words."""
    parser = argparse.ArgumentParser(description="Find the point of a space with the most graded rollouts a second.")
    add = parser.add_argument
    add("--name", required=True, help="the experiment")
    add("--trials", required=True, type=int, help="trials of the study, those of earlier starts included")
    add("--storage", help="Optuna's database (default: optuna.db at the repository's root); postgresql://… for several")
    add("--space", type=Path, default=SPACES / "quick.yaml", help="a YAML of axes (default %(default)s)")
    add("--objective", choices=sorted(OBJECTIVES), default="graded", help="effective: only groups with mixed rewards")
    add("--pareto", action="store_true", help="truncation as a second objective, not as a limit")
    add("--truncated", type=float, default=0.05, help="truncated share that is allowed (default %(default)s)")
    add("--warm-up", type=int, default=1, help="steps of a trial that are not measured (default %(default)s)")
    add("--steps", type=int, default=3, help="steps of a trial that are measured (default %(default)s)")
    add("--export", metavar="NAME", help="write the best point as experiments/conf/NAME.yaml")
    add("--confirm", action="store_true", help="measure the best point against the reference again, alternating")
    add("--ray", metavar="ADDRESS", help="run the sweep in tasks of this Ray cluster: `auto`, or HOST:6379")
    add("--workers", type=int, default=1, help="with --ray: how many measure at once (default %(default)s)")
    add("overrides", nargs="*", metavar="key=value", help="any key of the composed configuration, for every trial")
    return parser.parse_intermixed_args()


def refuse(options: argparse.Namespace) -> None:
    """Check the ranges of the arguments, and whether MLflow's and Optuna's stores can be reached.

    Raises:
        ConfigError: a sentence for each fault, on its own line.
    """
    findings = list(range_findings(options))
    # In parallel: each may take its whole deadline.
    with ThreadPoolExecutor() as pool:
        tracking, storage = pool.submit(unreachable, tracking_uri()), pool.submit(refuse_unreachable, options.storage)
    if away := tracking.result():
        remedy = "start that server, or unset it"
        findings.append(f"MLFLOW_TRACKING_URI={masked(tracking_uri())}: {away.or_else(remedy)}")
    if error := storage.exception():
        findings.append(str(error))
    if findings:
        raise ConfigError("\n".join(findings))


def range_findings(options: argparse.Namespace) -> Iterator[str]:
    """Yield a sentence for each argument that is out of range."""
    for name, least in (("trials", 1), ("steps", 1), ("warm_up", 0), ("workers", 1)):
        if getattr(options, name) < least:
            yield f"--{name.replace('_', '-')}={getattr(options, name)}: expected {least} or more"
    if not 0 <= options.truncated <= 1:
        yield f"--truncated={options.truncated}: expected a share from 0 to 1"
    if options.export and not re.fullmatch(NAME, options.export):
        yield f"--export {options.export}: expected an experiment's name, of letters, digits and `.`, `_`, `-`"
