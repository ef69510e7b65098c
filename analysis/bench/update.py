"""Measures a step's training side on one GPU: old log-probs, reference log-probs and update.

    python -m analysis.bench.update --arms analysis/arms/update.yaml --out FILE [--only a,b] [--profile DIR]

Each arm is a named experiment with overrides, as in `benchmark.py`. Its own process runs verl's worker
(`ActorRolloutRefWorker`) without Ray, on rollouts of random tokens. MFU is the FLOP/s that the real tokens need (2N and
6N, `hardware/shapes.py`) as a share of what a large bf16 matrix product reaches in the same call. The model
must lie on the disk: `python -m guidelines_core.models.random_qwen`. --profile runs each phase once more under torch's
profiler, whose table of operations and kernels goes to DIR/ARM-WORKLOAD-PHASE.txt. `python -m analysis.bench.table
FILE` prints the table of seconds again. Exit codes:
0 every arm measured, 1 one failed, 2 refused.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Without it a query for GPUs makes CUDA unusable in the arms' forked processes.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import numpy as np
import yaml

from analysis.bench.arms import config_hash, read_arms
from analysis.bench.table import update_table
from analysis.bench.update_arm import PASSES, measure_peak, run_arm
from analysis.benchmark import hardware, write
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.runs.provenance import provenance
from guidelines_core.terminal import plain_console
from guidelines_core.verl_adapter.local_workers import preload


def main() -> int:
    """Run the arms in turn, write the JSON after each, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Time the training side of a step on one GPU, without Ray and vLLM.")
    parser.add_argument("--arms", required=True, type=Path, help="a YAML file of analysis/arms/")
    parser.add_argument("--out", required=True, type=Path, help="the JSON; arms that it holds are not run again")
    parser.add_argument("--work", type=Path, help="keep the arms' log-probs here (default: a temporary folder)")
    parser.add_argument("--only", help="these arms, with commas between (default: all)")
    parser.add_argument(
        "--time-limit-s", type=float, default=480, help="no arm goes on for longer (default %(default)s)"
    )
    parser.add_argument("--profile", type=Path, help="write what torch's profiler sees of each phase to this folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every arm")
    options = parser.parse_args()
    deadline = time.monotonic() + options.time_limit_s
    try:
        arms = [
            arm
            for arm in read_arms(options.arms, options.overrides)
            if arm.name in (options.only or arm.name).split(",")
        ]
        configs = {arm.name: compose(arm.experiment, arm.overrides) for arm in arms}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    written = {arm["name"]: arm for arm in yaml.safe_load(options.arms.read_text(encoding="utf-8"))["arms"]}
    # Set before verl is imported, which reads them once; arms of one file share a device.
    os.environ.update({key: str(value) for key, value in configs[arms[0].name].guidelines.environment.items()})
    result: dict[str, Any] = {
        **hardware(),
        "versions": provenance(),
        "command": shlex.join(["python", "-m", "analysis.bench.update", *sys.argv[1:]]),
        "arms": json.loads(options.out.read_text())["arms"] if options.out.exists() else [],
    }
    measured = {(entry["name"], entry["config_hash"]) for entry in result["arms"] if "failed" not in entry}
    with tempfile.TemporaryDirectory(prefix="bench-update-") as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.profile:
            options.profile.mkdir(parents=True, exist_ok=True)
        context: Any = multiprocessing.get_context(start_method(folder))
        peak = json.loads((folder / "peak.json").read_text())["flops"]
        for arm in arms:
            about = {"name": arm.name, "config_hash": config_hash(arm), "overrides": list(arm.overrides),
                     "peak_flops": peak}  # fmt: skip
            if (arm.name, about["config_hash"]) in measured:
                continue
            result["arms"] = [entry for entry in result["arms"] if entry["name"] != arm.name]
            file = folder / f"{arm.name}.json"
            file.unlink(missing_ok=True)
            began = time.monotonic()
            entry = written[arm.name]
            process = context.Process(
                target=run_arm,
                args=(configs[arm.name], entry.get("workloads", ["even"]), entry.get("phases", list(PASSES)), file,
                      peak, options.profile),
            )  # fmt: skip
            if began < deadline:
                process.start()
                process.join(max(0, deadline - began))
                found = ended(process, file)
            else:
                found = {"failed": "not started: the time limit had passed"}
            result["arms"].append({**about, **found, "whole_s": round(time.monotonic() - began, 1)})
            compare(result["arms"], folder)
            write(options.out, result)
            print(json.dumps(result["arms"][-1]), flush=True)
    plain_console().print(update_table(result))
    return int(any("failed" in entry for entry in result["arms"]))


def start_method(folder: Path) -> str:
    """Return how to start arms, and leave the peak that a trial process measured in `folder`.

    A fork spares each arm the imports; where it cannot use the GPU, a fresh process does.
    """
    preload()
    for method in ("fork", "spawn"):
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=measure_peak, args=(folder / "peak.json",))
        process.start()
        process.join()
        if process.exitcode == 0:
            return method
    raise SystemExit(f"no process could use the device: exit code {process.exitcode}")


def ended(process: Any, file: Path) -> dict[str, Any]:
    """End the arm's process if it still runs and return what it found, with `failed` if it did not find all."""
    running = process.is_alive()
    if running:
        process.kill()
        process.join()
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if running:
        found["failed"] = "the time limit came first"
    elif process.exitcode != 0:
        found.setdefault("failed", f"exit code {process.exitcode}")
    return found


def compare(entries: list[dict[str, Any]], folder: Path) -> None:
    """Add to each arm how far its log-probs are from those of the arms of padded rows and of the arm `fp32`."""
    files = {entry["name"]: folder / f"{entry['name']}.npy" for entry in entries}
    found = {name: np.load(file) for name, file in files.items() if file.exists()}
    for entry in entries:
        for other in ("reference", "padded", "fp32"):
            if entry["name"] != other and entry["name"] in found and other in found:
                far = np.abs(found[entry["name"]] - found[other])
                entry[f"log_probs_off_{other}"] = {"mean": float(far.mean()), "max": float(far.max())}


if __name__ == "__main__":
    sys.exit(main())
