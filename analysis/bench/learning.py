"""Does an experiment learn in a fixed time? Train it for some minutes, then measure the lift, as a table and as JSON.

    python -m analysis.bench.learning --name NAME --arm ARM --minutes M --data FILE [FILE …] \
        [--problems N] [--out FILE.json] [--keep DIR] [key=value …]

The experiment runs as it stands, with the overrides, until its last step or for M minutes from its launch; then SIGTERM
lets it finish and save its step. The lift is measured with its last checkpoint on the problems of FILE, which no step
and no choice of a checkpoint has seen; that of a further FILE stands under `transfer`. `--out` holds one entry for each
ARM under `arms`: an arm of the same name is replaced, the others stay. Run, MLflow store and checkpoints lie in
`--keep`, or in a folder that is removed.

Exit codes: 0 done, 1 the run or the lift failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.bench.curve import learned
from analysis.bench.learning_table import same_steps, table
from guidelines_core.paths import ROOT
from guidelines_core.runs.claim_file import read_claim
from guidelines_core.runs.provenance import provenance
from guidelines_core.terminal import plain_console

COMPARED = (("untrained", "trained"), ("none", "trained"), ("none", "untrained"))
"""The lift's comparisons that an arm holds: what the second gains over the first."""


class ArmFailed(RuntimeError):
    """The run or the lift ended with an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure the lift, print the arms' table and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.bench.learning", description="Does an experiment learn in a fixed time?"
    )
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument("--arm", required=True, help="what this arm is called in the JSON")
    parser.add_argument("--minutes", type=float, required=True, help="from the launch until the last step begins")
    parser.add_argument("--data", required=True, nargs="+", metavar="FILE", help="the problems of the lift")
    parser.add_argument("--problems", type=int, metavar="N", help="only the first N of each")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the JSON of the arms")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep run, store and checkpoints here")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="the experiment's overrides")
    options = parser.parse_intermixed_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-learning-") as folder:
            measured = one_arm((options.keep or Path(folder)).resolve(), options)
    except ArmFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    arms = [measured]
    if options.out:
        kept = json.loads(options.out.read_text(encoding="utf-8"))["arms"] if options.out.exists() else []
        arms = with_arm(kept, measured)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"arms": arms}, indent=1) + "\n", encoding="utf-8")
    plain_console().print(table(arms), same_steps(arms))
    return 0


def one_arm(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the arm's entry: what was run, where, its curve, and the lift of its last checkpoint.

    Raises:
        ArmFailed: the run trained no step or failed, or the lift did.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    directory = folder / options.arm
    command = ["experiments/run.py", "--name", options.name, *options.overrides]
    print("python", shlex.join(command), flush=True)
    began = time.monotonic()
    code = train([*command, f"trainer.default_local_dir={directory}"], environment, 60 * options.minutes)
    minutes = (time.monotonic() - began) / 60
    if code not in (0, 130):
        raise ArmFailed(f"experiments/run.py ended with exit code {code}; its log is in {directory / 'logs'}")
    found = learned(directory)
    if not found["steps"]:
        raise ArmFailed(f"no step was trained in {options.minutes:g} minutes: give --minutes more")
    lift, *others = lifted(directory, environment, options.data, options.problems)
    return {
        "name": options.arm,
        "command": "python " + shlex.join(command),
        "machine": provenance(),
        "minutes": round(minutes, 1),
        **summary(lift),
        **found,
        "steps": len(found["steps"]),
        "curve": found["steps"],
        "lift": lift,
        "transfer": [{"data": Path(other["data"]).name, **summary(other), "lift": other} for other in others],
    }


def train(words: Sequence[str], environment: Mapping[str, str], seconds: float) -> int:
    """Run this script for at most so many seconds, then send SIGTERM, and return its exit code."""
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        return process.wait()
    except KeyboardInterrupt:
        # It is in this terminal's foreground, so Ctrl-C reached it as well.
        process.wait()
        raise


def lifted(
    directory: Path, environment: Mapping[str, str], data: Sequence[str], problems: int | None
) -> list[dict[str, Any]]:
    """Return the lift of the run's last checkpoint on each file of `data`, as `analysis/lift.py` writes it.

    Raises:
        ArmFailed: it ended with an error.
    """
    file = directory / "lift.json"
    words = [
        "analysis/lift.py",
        read_claim(directory).run_id,
        "--checkpoint",
        "last",
        "--data",
        *data,
        "--json",
        str(file),
    ]
    words += [] if problems is None else ["--problems", str(problems)]
    code = subprocess.run([sys.executable, *words], cwd=ROOT, env=dict(environment)).returncode
    if code != 0:
        raise ArmFailed(f"analysis/lift.py ended with exit code {code}")
    return list(json.loads(file.read_text(encoding="utf-8")).values())


def summary(lift: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an arm's first lines say of its lift: points with intervals, accuracies, leaks, repetitions."""
    kinds = {arm["kind"]: arm for arm in lift["arms"]}
    pairs = {(pair["base"], pair["better"]): pair["paired"] for pair in lift["pairs"]}
    return {
        "problems": lift["problems"],
        **{
            f"{better}_over_{base}": {
                name: round(100 * pairs[base, better]["difference"][key], 4)
                for name, key in (("points", "value"), ("low", "low"), ("high", "high"))
            }
            for base, better in COMPARED
            if (base, better) in pairs
        },
        "accuracy": {kind: arm["accuracy"]["value"] for kind, arm in kinds.items()},
        "leak_rate": kinds["trained"]["leaks"] if "trained" in kinds else None,
        "repeated": kinds["trained"]["repeated"] if "trained" in kinds else None,
    }


def with_arm(arms: Sequence[dict[str, Any]], arm: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the arms with this one in the place of the one of its name, or at the end."""
    if all(other["name"] != arm["name"] for other in arms):
        return [*arms, arm]
    return [arm if other["name"] == arm["name"] else other for other in arms]


if __name__ == "__main__":
    sys.exit(main())
