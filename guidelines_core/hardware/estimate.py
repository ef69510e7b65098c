"""What a configuration takes on given GPUs: memory by role, seconds by phase, hours, and the hardware's floor.

    python -m guidelines_core.hardware.estimate --name NAME [--gpu H100|H200|A100] [--flops F --bandwidth B \
        --memory GIB] [key=value …]

Seconds come from `timing` and memory from `footprint`. The command also prints the estimate's error against the steps
of `known/measured-step.yaml` and `known/measured-training.yaml`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import yaml
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.hardware.footprint import checkpoint_bytes, checkpoints, memory
from guidelines_core.hardware.shapes import KNOWN, Gpu, gpus
from guidelines_core.hardware.timing import (
    MEASURED,
    PEAK,
    Lengths,
    estimated_step,
    longest,
    run_seconds,
    shapes_of,
    tokens_per_step,
    typical_lengths,
)
from guidelines_core.terminal import plain_console, replace_unprintable


def measured_step() -> tuple[DictConfig, Gpu, Lengths, dict[str, float]]:
    """Return the measured step: its configuration, GPU, lengths, and seconds by phase and in all."""
    known = yaml.safe_load((KNOWN / "measured-step.yaml").read_text(encoding="utf-8"))
    config = compose(known["experiment"], known["overrides"], environ={})
    seconds = {**known["seconds"], "step": known["step"]}
    return config, gpus()[known["gpu"]], Lengths(**known["lengths"]), seconds


def measured_training() -> dict[str, tuple[DictConfig, Gpu, Lengths, dict[str, float]]]:
    """Return the measured training phases of a step by experiment, each as `measured_step`."""
    known = yaml.safe_load((KNOWN / "measured-training.yaml").read_text(encoding="utf-8"))
    return {
        name: (
            compose(name, known["overrides"], environ={}),
            gpus()[known["gpu"]],
            Lengths(**known["lengths"]),
            seconds,
        )
        for name, seconds in known["seconds"].items()
    }


def forecast(config: DictConfig, gpu: Gpu) -> str:
    """Return one line: the hours, GPU-hours and money that a run of `config` on such GPUs is estimated to take."""
    if config.trainer.device != "cuda":
        return "Cost: hours of this machine's CPU, no GPU-hours"
    lengths = typical_lengths(config)
    try:
        planner, solver = shapes_of(config)
    except ConfigError as error:
        return f"Cost: no estimate, {error}"
    hours = sum(run_seconds(config, planner, solver, gpu, lengths, MEASURED).values()) / 3600
    gpu_hours, price = hours * layout.gpus_needed(config), config.guidelines.cost.gpu_hour
    money = "guidelines.cost.gpu_hour=PRICE adds the money" if price is None else f"${gpu_hours * price:,.2f}"
    solving = " (and what the solver elsewhere takes)" if solver is None else ""
    return (
        f"Cost: about {hours:,.1f} h{solving} on {layout.gpus_needed(config)} x {gpu.name}, {gpu_hours:,.1f} GPU-hours "
        f"({money}), with guidelines of {lengths.guideline} and solutions of {lengths.solution} tokens"
    )


def report(config: DictConfig, gpu: Gpu, console: Console) -> None:
    """Print the estimate of `config` on `gpu`, and the error of such an estimate."""
    planner, solver = shapes_of(config)
    console.print(layout.table(config, memory(config, planner, gpu), f" on {gpu.name} ({gpu.memory:.0f} GiB)"))
    measured_config, measured_gpu, measured, seconds = measured_step()
    limits, typical = longest(config), typical_lengths(config)
    columns = [(typical, MEASURED), (typical, PEAK), (limits, MEASURED), (limits, PEAK)]
    table = Table(
        title=f"{config.trainer.experiment_name} on {layout.gpus_needed(config)} x {gpu.name}",
        caption="floor: what the hardware's peak allows; prompt + guideline + solution tokens"
        + ("; the seconds of a solver that runs elsewhere are not in it" if solver is None else ""),
    )
    table.add_column("", no_wrap=True)
    for lengths, efficiency in columns:
        kind = "estimate" if efficiency is MEASURED else "floor"
        table.add_column(f"{kind}\n{lengths.prompt}+{lengths.guideline}+{lengths.solution}", justify="right")
    steps = [estimated_step(config, gpu, *column) for column in columns]
    for phase in steps[0]:
        table.add_row(f"{phase}, s", *(f"{step[phase]:.1f}" for step in steps), end_section=phase == "step")
    table.add_row("tokens a step", *(f"{tokens_per_step(config, lengths):,}" for lengths, _ in columns))
    runs = [run_seconds(config, planner, solver, gpu, *column) for column in columns]
    for part in runs[0]:
        table.add_row(f"{part}, h", *(f"{run[part] / 3600:.2f}" for run in runs))
    hours = [sum(run.values()) / 3600 for run in runs]
    table.add_row(f"{config.trainer.total_training_steps} steps, h", *(f"{h:.1f}" for h in hours))
    table.add_row("GPU-hours", *(f"{h * layout.gpus_needed(config):.1f}" for h in hours))
    if (price := config.guidelines.cost.gpu_hour) is not None:
        table.add_row("dollars", *(f"{h * layout.gpus_needed(config) * price:,.2f}" for h in hours))
    console.print(table)
    total = checkpoints(config) * checkpoint_bytes(config, planner)
    console.print(
        f"{checkpoints(config)} checkpoints of {checkpoint_bytes(config, planner) / 1e9:.0f} GB: {total / 1e9:.0f} GB"
    )
    errors = estimate_errors(measured_config, measured_gpu, measured, seconds)
    console.print(
        f"Error of this estimate on the step that was measured (layout=1p1, 2 x {measured_gpu.name}): {errors}"
    )
    for name, (trained, trained_gpu, lengths, found) in measured_training().items():
        errors = estimate_errors(trained, trained_gpu, lengths, found)
        console.print(f"Error on the training side of {name} (1 x {trained_gpu.name}): {errors}")


def estimate_errors(config: DictConfig, gpu: Gpu, lengths: Lengths, seconds: dict[str, float]) -> str:
    """Return the estimate's error against measured seconds, in words."""
    check = estimated_step(config, gpu, lengths, MEASURED)
    return ", ".join(
        f"{name} {check[name]:.1f} for {real:g} s ({check[name] / real - 1:+.0%})" for name, real in seconds.items()
    )


def add_gpu_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a kind of GPU or give another one's figures."""
    parser.add_argument("--gpu", choices=sorted(gpus()), default="H100", help="(default %(default)s)")
    parser.add_argument("--flops", type=float, help="bf16 FLOP/s of another GPU")
    parser.add_argument("--bandwidth", type=float, help="its memory's B/s")
    parser.add_argument("--memory", type=float, help="its memory in GiB")


def chosen_gpu(options: argparse.Namespace) -> Gpu:
    """Return the GPU that the arguments of `add_gpu_arguments` describe."""
    figures = {name: getattr(options, name) for name in ("flops", "bandwidth", "memory") if getattr(options, name)}
    gpu = gpus()[options.gpu]
    if not figures:
        return gpu
    return replace(gpu, name=f"{options.gpu} with " + ", ".join(f"{k} {v:g}" for k, v in figures.items()), **figures)


def main(arguments: list[str] | None = None) -> int:
    """Print the estimate that the command line asks for and return the exit code: 0, or 2 if refused."""
    parser = argparse.ArgumentParser(
        prog="python -m guidelines_core.hardware.estimate", description="What a run will take."
    )
    parser.add_argument("--name", required=True, help="the experiment")
    add_gpu_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the composed configuration")
    options = parser.parse_intermixed_args(arguments)
    try:
        config = compose(options.name, options.overrides)
        if config.trainer.device != "cuda":
            raise ConfigError(f"trainer.device={config.trainer.device}: only runs on GPUs are estimated; give layout=…")
        report(config, chosen_gpu(options), plain_console())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    replace_unprintable()
    sys.exit(main())
