"""A trainer that trains nothing: it speaks the sweep's channel, and fails as a trial's `data.seed` says."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import yaml

from guidelines_core.launch.driver import receive_job
from guidelines_core.verl_adapter.trials import WALL
from sweeps.channel import COMMANDS, EVENTS, FOLDER, Lines, stop_file

FINE, STALLS, OUT_OF_MEMORY, DIES, ENDLESS = range(5)
STEP_S = 0.2


def main() -> None:
    """Serve trials until the process is ended."""
    receive_job()
    folder = Path(os.environ[FOLDER])
    commands, events = Lines(folder / COMMANDS), Lines(folder / EVENTS)
    events.write(event="ready")
    while True:
        for command in commands.new():
            config = yaml.safe_load(Path(command["config"]).read_text())
            behaviour = config["data"]["seed"]
            if behaviour == OUT_OF_MEMORY:
                print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB", flush=True)
                events.write(event="end", name=command["name"], how="failed", reason="RayTaskError: worker died")
                continue
            if behaviour == DIES:
                print("RuntimeError: the driver is no more", flush=True)
                sys.exit(1)
            how = "done"
            with Path(command["config"]).with_suffix(".jsonl").open("a") as journal:
                for step in range(1, config["trainer"]["total_training_steps"] + 1 + 100 * (behaviour == ENDLESS)):
                    while behaviour == ENDLESS and step > 2 and not stop_file(folder, command["name"]).exists():
                        time.sleep(0.02)
                    while behaviour == STALLS and step > 1:
                        time.sleep(1)
                    if stop_file(folder, command["name"]).exists():
                        how = "stopped"
                        break
                    time.sleep(STEP_S)
                    journal.write(json.dumps({"step": step, "data": figures(config)}) + "\n")
                    journal.flush()
            events.write(event="end", name=command["name"], how=how, reason="")
        time.sleep(0.02)


def figures(config: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return a step's metrics."""
    return {
        WALL: STEP_S,
        "reward/graded": config["data"]["train_batch_size"] * 4.0,
        "reward/mixed_groups": 0.5,
        "reward/math_verify_accuracy": 0.5,
        "prompt_length/mean": 10.0,
        "guideline/tokens": 10.0,
        "solution/tokens": 10.0,
        "guideline/truncated": 0.0,
        "solution/truncated": 0.0,
    }


if __name__ == "__main__":
    main()
