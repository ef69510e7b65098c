"""Measures seconds per step and phase for arms: sets of overrides of a named experiment, run one after the other.

    python analysis/benchmark.py --arms analysis/arms/one-gpu.yaml --out analysis/results/one-gpu.json [key=value …] \
        [--json [FILE]]

Each arm is a run of `experiments/run.py` with its own MLflow store and folder. An arm that the JSON already has with
the same configuration is not run again. Exit codes: 0 every arm measured, 1 one failed, 2 refused.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from analysis.bench.generation import generation_of_run, one_at_a_time
from analysis.bench.gpu_load import load, sampled
from analysis.bench.table import PHASES, step_table
from analysis.bench.update_arm import measure_peak
from analysis.pages import output
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.config.layout import training_gpus
from guidelines_core.digests import text_sha256
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


@dataclass(frozen=True)
class Arm:
    """An experiment with overrides to measure.

    Attributes:
        name: unique among the arms.
        experiment: what `run.py --name` takes.
        overrides: `key=value` each.
        extrapolates: an earlier arm whose step is computed with this arm's seconds per solution, one at a time.
    """

    name: str
    experiment: str
    overrides: tuple[str, ...]
    extrapolates: str | None = None


def main() -> int:
    """Run the arms that are not measured yet, write the JSON after each, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Time arms, one real run after the other.")
    parser.add_argument("--arms", required=True, type=Path, help="a YAML file of analysis/arms/")
    parser.add_argument("--out", required=True, type=Path, help="the JSON; arms that it holds are not run again")
    parser.add_argument("--work", type=Path, help="keep the runs' folders here (default: a temporary folder)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every arm")
    output.add_json(parser)
    given = parser.parse_args()
    result: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"arms": []}
    here = hardware()
    if {key: result.get(key, value) for key, value in here.items()} != here:
        print(
            f"{given.out} was measured on {result['gpu']} x {result['gpu_count']}: give another --out", file=sys.stderr
        )
        return 2
    try:
        arms = read_arms(given.arms, given.overrides)
        hashes = {arm.name: config_hash(arm) for arm in arms}
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
            named = {"name": arm.name, "config_hash": hashes[arm.name], "experiment": arm.experiment}
            figured = measure(arm, (given.work or Path(folder)).resolve() / arm.name)
            if "failed" not in figured:
                figured = with_derived_figures(arm, {**figured, **peak}, result)
            entry = {**named, "overrides": list(arm.overrides), **figured}
            others = [other for other in result["arms"] if other["name"] != arm.name]
            result["arms"] = sorted([*others, entry], key=lambda e: list(hashes).index(e["name"]))
            first = next((other["s_per_step"] for other in result["arms"] if "failed" not in other), None)
            for other in result["arms"]:
                if "failed" not in other:
                    other["ratio_to_first"] = round(other["s_per_step"] / first, 3)
            write(given.out, result)
    output.console(given).print(step_table(result))
    output.write_json(given, result)
    return int(any("failed" in entry for entry in result["arms"]))


def hardware() -> dict[str, Any]:
    """Return the GPUs' name and count; a CPU has none."""
    found = devices()
    return {"gpu": found[0].name if found else "none", "gpu_count": len(found)}


def read_arms(file: Path, overrides: Sequence[str] = ()) -> list[Arm]:
    """Return the arms of a YAML file; `overrides` go to each, after its own.

    The file has `experiment`, `overrides` for every arm, and `arms`: each a `name`, and `experiment`, `overrides` and
    `extrapolates` where it differs.
    """
    read = yaml.safe_load(file.read_text(encoding="utf-8"))
    arms = [
        Arm(
            name=arm["name"],
            experiment=arm.get("experiment", read["experiment"]),
            overrides=(*read.get("overrides", ()), *arm.get("overrides", ()), *overrides),
            extrapolates=arm.get("extrapolates"),
        )
        for arm in read["arms"]
    ]
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}: two arms have one name in {', '.join(names)}")
    return arms


def config_hash(arm: Arm) -> str:
    """Return a hash of the arm's composed configuration, independent of the repository's path."""
    config = compose(arm.experiment, [*arm.overrides, "trainer.default_local_dir=run"])
    text = OmegaConf.to_yaml(config, sort_keys=True).replace(str(ROOT), "")
    return text_sha256(text)[:12]


def measure(arm: Arm, folder: Path) -> dict[str, Any]:
    """Run the arm in `folder` and return its figures, or `failed` with the reason.

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
    with sampled(load_file) if devices() else contextlib.nullcontext():
        code = subprocess.call(command, env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"})
    if code != 0:
        said = failure_line(log) if log.exists() else "refused before it started"
        return {"failed": f"exit code {code}: {said}"}
    run_s = round(time.time() - began, 1)
    entries = [json.loads(line)["data"] for line in journal.read_text().splitlines()]
    steps = [entry for entry in entries if STEP in entry]
    found = {**figures(steps, steps[0][LOGGED_AT] - began), **generation_of_run(directory, steps[1:] or steps)}
    if load_file.exists() and len(steps) > 1:
        lines = load_file.read_text().splitlines()
        found["gpus"] = load(lines, steps[0][LOGGED_AT], steps[-1][LOGGED_AT])
    return {**found, "run_s": run_s}


def figures(steps: Sequence[Mapping[str, float]], first_step_done_s: float) -> dict[str, Any]:
    """Return an arm's figures: medians of the steps after the first, which compiles and warms up; all in seconds.

    Args:
        steps: each step's metrics as verl logs them.
        first_step_done_s: from the launch to the end of the first step.
    """
    later = steps[1:] or steps

    def median(key: str) -> float:
        return round(statistics.median(step[key] for step in later), 4)

    return {
        "s_per_step": median("timing_s/step"),
        "phases": {name: median(f"timing_s/{name}") for name in PHASES if f"timing_s/{name}" in later[0]},
        "every_step_s": [round(step["timing_s/step"], 2) for step in steps],
        "launch_to_first_step_s": round(first_step_done_s - steps[0]["timing_s/step"], 1),
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

    The estimate is that of `hardware/timing.py` for the mean lengths that the arm had; `estimate_off` is its error as a
    share of the measured step. FLOPs are those that the rollouts' tokens need (`hardware/shapes.py`). MFU refers to the
    peak measured in the same call, the floor to the peaks of `known/gpus.yaml`; unknown hardware has neither these nor
    an estimate.
    """
    metrics, seconds = found["metrics"], found["phases"]
    real, padded = padded_sequences(config)
    lengths = Lengths(*(round(metrics[key]) for key in ("prompt_length/mean", "guideline/tokens", "solution/tokens")))
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
    sys.exit(main())
