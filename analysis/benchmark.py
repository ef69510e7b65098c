"""Measures seconds per step and phase for arms: sets of overrides of a named experiment, run one after the other.

    python analysis/benchmark.py --arms analysis/arms/one-gpu.yaml --out analysis/results/one-gpu.json [key=value …] \
        [--json [FILE]]

Each arm is a run of `experiments/run.py` with its own MLflow store and folder; a `tailed` arm has two workloads and two
entries in the JSON (`analysis/bench/tailed.py`). An arm that the JSON already has with
the same configuration is not run again. Exit codes: 0 every arm measured, 1 one failed, 2 refused,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from analysis.bench.arms import Arm, config_hash, read_arms, require_steps
from analysis.bench.child import exit_code, measured_process
from analysis.bench.generation import generation_of_run, one_at_a_time
from analysis.bench.gpu_load import load, sampled
from analysis.bench.table import PHASES, step_table
from analysis.bench.update_arm import measure_peak
from analysis.bench.workloads import EVEN_STEPS
from analysis.pages import output
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.config.layout import training_gpus
from guidelines_core.hardware.gpus import devices
from guidelines_core.hardware.shapes import gpus
from guidelines_core.hardware.timing import (
    MEASURED,
    PEAK,
    Lengths,
    estimated_step,
    padded_sequences,
    shapes_of,
    tokens_per_step,
)
from guidelines_core.launch.training import failure_line
from guidelines_core.paths import ROOT
from guidelines_core.runs.journal import LOGGED_AT, STEP
from guidelines_core.runs.provenance import provenance
from guidelines_core.terminal import replace_unprintable
from guidelines_core.verl_adapter.old_log_probs import DIFFERENCE, FROM_ROLLOUT

FURTHER_METRICS = (
    "prompt_length/mean", "guideline/tokens", "solution/tokens", "reward/graded", "reward/ungraded", "perf/mfu/actor",
    "perf/throughput", "perf/max_memory_allocated_gb", "perf/max_memory_reserved_gb", "perf/cpu_memory_used_gb",
    "training/rollout_probs_diff_max", DIFFERENCE, FROM_ROLLOUT,
)  # fmt: skip
"""Further metrics, which show whether two arms did the same work, and at what cost."""


def main() -> int:
    """Run the arms that are not measured yet, write the JSON after each, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Time arms, one real run after the other.")
    parser.add_argument("--arms", required=True, type=Path, help="a YAML file of analysis/arms/")
    parser.add_argument("--out", required=True, type=Path, help="the JSON; arms that it holds are not run again")
    parser.add_argument("--work", type=Path, help="keep the runs' folders here (default: a temporary folder)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every arm")
    output.add_json(parser)
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"arms": []}
    here = hardware()
    if {key: result.get(key, value) for key, value in here.items()} != here:
        print(
            f"{options.out} was measured on {result['gpu']} x {result['gpu_count']}: give another --out",
            file=sys.stderr,
        )
        return 2
    try:
        arms = read_arms(options.arms, options.overrides)
        hashes = {arm.name: config_hash(arm) for arm in arms}
        require_steps(arms)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    result |= {
        **here,
        "versions": provenance(),
        "command": shlex.join(["python", "analysis/benchmark.py", *sys.argv[1:]]),
    }
    measured = {(entry["name"], entry["config_hash"]) for entry in result["arms"] if "failed" not in entry}
    due = [arm for arm in arms if (arm.name, hashes[arm.name]) not in measured]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        peak = {"peak_flops": peak_flops(Path(folder) / "peak.json")} if due and here["gpu_count"] else {}
        for arm in due:
            found = measure(arm, (options.work or Path(folder)).resolve() / arm.name)
            others = [other for other in result["arms"] if other["name"] not in arm.entries]
            entries = []
            for name, figured in zip(arm.entries, found, strict=False):
                if "failed" not in figured:
                    figured = with_derived_figures(arm, {**figured, **peak}, result)
                named = {"name": name, "config_hash": hashes[arm.name], "experiment": arm.experiment}
                entries.append({**named, "overrides": list(arm.overrides), **figured})
            order = [name for each in arms for name in each.entries]
            result["arms"] = sorted([*others, *entries], key=lambda entry: order.index(entry["name"]))
            compare_with_first(result["arms"], {name for each in arms for name in each.entries[1:]})
            write(options.out, result)
    output.console(options).print(step_table(result))
    output.write_json(options, result)
    return int(any("failed" in entry for entry in result["arms"]))


def compare_with_first(entries: Sequence[dict[str, Any]], tailed: set[str]) -> None:
    """Give each entry the ratio of its step to that of the first entry of its workload."""
    for workload in (True, False):
        done = [entry for entry in entries if "failed" not in entry and (entry["name"] in tailed) == workload]
        for entry in done:
            entry["ratio_to_first"] = round(entry["s_per_step"] / done[0]["s_per_step"], 3)


def hardware() -> dict[str, Any]:
    """Return the GPUs' name and count; a CPU has none."""
    found = devices()
    return {"gpu": found[0].name if found else "none", "gpu_count": len(found)}


def measure(arm: Arm, folder: Path) -> list[dict[str, Any]]:
    """Run the arm in `folder` and return the figures of each of its workloads, or `failed` with the reason.

    Files of a failed or interrupted arm in the folder are removed first.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    directory = folder / "run"
    command = [sys.executable, str(ROOT / "experiments/run.py"), "--name", arm.experiment, *arm.overrides,
               f"trainer.default_local_dir={directory}"]  # fmt: skip
    journal, log = (directory / "logs" / f"attempt-1.{suffix}" for suffix in ("jsonl", "log"))
    load_file = folder / "gpus.csv"
    began = time.time()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    with (
        sampled(load_file, gpus_here) if (gpus_here := devices()) else contextlib.nullcontext(),
        measured_process(command, env=environment) as process,
    ):
        code = process.wait()
    if code != 0:
        said = failure_line(log) if log.exists() else "refused before it started"
        return [{"failed": f"exit code {code}: {said}"}]
    run_s = round(time.time() - began, 1)
    entries = [json.loads(line)["data"] for line in journal.read_text().splitlines()]
    every = [entry for entry in entries if STEP in entry]
    launch_s = every[0][LOGGED_AT] - began - every[0]["timing_s/step"]
    found = []
    for steps in (every[:EVEN_STEPS], every[EVEN_STEPS:]) if arm.tailed else (every,):
        each = {**figures(steps), **generation_of_run(directory, steps[1:] or steps)}
        each |= {"launch_to_first_step_s": round(launch_s, 1), "run_s": run_s}
        if load_file.exists() and len(steps) > 1:
            lines = load_file.read_text().splitlines()
            each["gpus"] = load(lines, steps[0][LOGGED_AT], steps[-1][LOGGED_AT])
        found.append(each)
    return found


def figures(steps: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return a workload's figures: medians of the steps after the first, which compiles and warms up; all in seconds.

    `steps` are each step's metrics as verl logs them.
    """
    later = steps[1:] or steps

    def median(key: str) -> float:
        return round(statistics.median(step[key] for step in later), 4)

    return {
        "s_per_step": median("timing_s/step"),
        "phases": {name: median(f"timing_s/{name}") for name in PHASES if f"timing_s/{name}" in later[0]},
        "every_step_s": [round(step["timing_s/step"], 2) for step in steps],
        "metrics": {key: median(key) for key in FURTHER_METRICS if key in later[0]},
    }


def peak_flops(file: Path) -> float:
    """Return the FLOP/s of a large bf16 product, measured in a separate process to leave no memory on the GPU."""
    process = multiprocessing.get_context("spawn").Process(target=measure_peak, args=(file,))
    process.start()
    process.join()
    return float(json.loads(file.read_text())["flops"])


def with_derived_figures(arm: Arm, found: dict[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measured arm's figures with those derived from them; `result` holds the arms before it."""
    if arm.extrapolates is None:
        return found | derived(compose(arm.experiment, arm.overrides), found, result["gpu"])
    base = next((other for other in result["arms"] if other["name"] == arm.extrapolates), {"failed": ""})
    if "failed" in base:
        return {"failed": f"the arm {arm.extrapolates} that it extrapolates has no figures"}
    whole = one_at_a_time(base, found)
    if "floor_s" in base:
        whole |= {"floor_s": base["floor_s"], "ratio_to_floor": round(whole["s_per_step"] / base["floor_s"], 1)}
    return {**whole, "launch_to_first_step_s": found["launch_to_first_step_s"], "run_s": found["run_s"]}


def derived(config: DictConfig, found: Mapping[str, Any], gpu_name: str) -> dict[str, Any]:
    """Return the figures derived from an arm's: tokens a second, padded rows, MFU by phase, estimate and floor.

    The estimate is that of `hardware/timing.py` for the lengths that the arm had; `estimate_off` is its error as a
    share of the measured step. FLOPs are those that the rollouts' tokens need (`hardware/shapes.py`). MFU refers to the
    peak measured in the same call, the floor to the peaks of `known/gpus.yaml`; unknown hardware has neither these nor
    an estimate.
    """
    metrics, seconds = found["metrics"], found["phases"]
    real, padded = padded_sequences(config)
    lengths = Lengths(
        *(round(metrics[key]) for key in ("prompt_length/mean", "guideline/tokens", "solution/tokens")),
        *(round(found[key]) for key in ("longest_guideline", "longest_solution")),
    )
    more: dict[str, Any] = {
        "tokens_per_s": round(tokens_per_step(config, lengths) / found["s_per_step"]),
        "padded_share": round(1 - real / padded, 4),
    }
    gpu = next((known for name, known in gpus().items() if name in gpu_name), None)
    if gpu is None:
        return more
    floor, estimate = (estimated_step(config, gpu, lengths, efficiency) for efficiency in (PEAK, MEASURED))
    workers = training_gpus(config)
    length = lengths.prompt + lengths.guideline
    forward = real * length * shapes_of(config)[0].forward_flops(length) / workers / found.get("peak_flops", gpu.flops)
    passes = {"old_log_prob": 1, "ref": 1, "update_actor": 3}
    if metrics.get(FROM_ROLLOUT):
        del passes["old_log_prob"]
    return {
        **more,
        "mfu": {phase: round(n * forward / seconds[phase], 4) for phase, n in passes.items() if phase in seconds},
        "floor_s": round(floor["step"], 2),
        "ratio_to_floor": round(found["s_per_step"] / floor["step"], 1),
        "estimate": {phase: round(seconds, 2) for phase, seconds in estimate.items()},
        "estimate_off": round(estimate["step"] / found["s_per_step"] - 1, 3),
    }


def write(file: Path, result: Mapping[str, Any]) -> None:
    """Write the JSON atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(result, indent=1) + "\n")
    new.replace(file)


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(exit_code(main))
