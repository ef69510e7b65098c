"""The tiny run that `run.py` breaks: how it is started, inspected, killed and compared."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from guidelines_core.launch import processes, shared_memory
from guidelines_core.paths import ROOT
from guidelines_core.runs.checkpoints import SEAL, last_checkpoint
from guidelines_core.runs.journal import STEP, Entry, Journal, attempts, history
from guidelines_core.runs.metric_names import recorded

STEPS, SAVE_FREQ = 6, 2
OVERRIDES = {
    "guidelines.data.size": 4 * STEPS,
    "guidelines.data.val_size": 4,
    "guidelines.prompts.style": "instruct",
    "guidelines.solver.model": "models/tiny-random",
    # In bfloat16 an answer depends on what else was in its batch.
    "reward.reward_model.rollout.dtype": "float32",
    "guidelines.solver.max_tokens": 16,
    "guidelines.solver.temperature": 1.0,
    "guidelines.solver.deadline_s": 240,
    "guidelines.solver.probe_every_s": 2,
    "actor_rollout_ref.model.path": "models/tiny-random",
    "actor_rollout_ref.actor.optim.lr": 0.01,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "data.max_prompt_length": 512,
    "data.max_response_length": 16,
    "trainer.total_training_steps": STEPS,
    "trainer.save_freq": SAVE_FREQ,
    "trainer.test_freq": SAVE_FREQ,
}
STANDSTILL_S = 10.0
"""How long the writer of a checkpoint pauses while a process is killed."""

CLOCKED = re.compile(r"^start/|^cost/|^disk/|timing|perf/|latency|grader_s|solver_s|^solver/")
"""Matches the metrics that vary between equal runs: they depend on a clock, on the machine's memory or on how often the
solver was asked, and a resumed run has lost the solver's earlier answers."""

TARGETS: dict[str, Callable[[str], bool]] = {
    "run.py": lambda title: "experiments/run.py" in title,
    "supervisor": lambda title: title.split(" ")[1:3] == ["-m", "guidelines_core.launch.supervisor"],
    "verl's launcher": lambda title: title.split(" ")[1:3] == ["-m", "guidelines_core.launch.driver"],
    "verl's driver": lambda title: "GuidelinesTaskRunner" in title,
    "actor": lambda title: "WorkerDict" in title,
    "agent loop worker": lambda title: "AgentLoopWorker" in title,
    "reward worker": lambda title: "RewardWorker" in title,
    "solver's server": lambda title: "vLLMHttpServer" in title,
    "rollout server": lambda title: "vLLMHttpServer" in title,
    "raylet": lambda title: "raylet/raylet" in title,
}
"""The processes that may be killed, by process title."""


def servers_of(servers: Sequence[psutil.Process], reward_workers: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return vLLM's servers, which have one name, the solver's first: the only one that the reward workers ask.

    Before they do, it is a guess by the order of starts (`early_servers.py`).
    """
    asked = {found.raddr.port for worker in reward_workers for found in connections(worker) if found.raddr}
    listening = {
        server: {found.laddr.port for found in connections(server) if found.status == psutil.CONN_LISTEN}
        for server in servers
    }
    return sorted(servers, key=lambda server: (not asked & listening[server], server.create_time()))


def connections(process: psutil.Process) -> list[Any]:
    """Return the TCP connections of a process, none if it has ended."""
    try:
        return list(process.net_connections("tcp"))
    except psutil.Error:
        return []


@dataclass
class Loop:
    """One tiny run in `folder`, with a store of its own, started as often as it takes."""

    folder: Path
    uri: str = ""
    directory: Path = Path()
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, object] = field(default_factory=dict)
    segments: set[shared_memory.Segment] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.directory = self.folder / "run"

    @property
    def run_id(self) -> str:
        """The MLflow run's id."""
        return str(json.loads((self.directory / "claim.json").read_text())["run_id"])

    @property
    def status(self) -> str:
        """The run's status in MLflow."""
        return str(MlflowClient(self.uri).get_run(self.run_id).info.status)

    @property
    def reason(self) -> str:
        """Why the last attempt ended, as MLflow records it."""
        return str(MlflowClient(self.uri).get_run(self.run_id).data.tags.get("guidelines.end", ""))

    def start(self, *words: str) -> None:
        """Start the run in the background; what it prints goes to `said.log`."""
        problems = self.folder / "odd.jsonl"
        lines = [{"problem": f"Is {n} odd? Say 1 for yes, 0 for no.", "answer": str(n % 2)} for n in range(60)]
        problems.write_text("".join(json.dumps(line) + "\n" for line in lines))
        places = {"guidelines.data.source": problems, "trainer.default_local_dir": self.directory}
        overrides = [f"{key}={value}" for key, value in {**OVERRIDES, **places, **self.overrides}.items()]
        with (self.folder / "said.log").open("a") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "experiments/run.py"), "--name", "quickstart", *overrides, *words],
                cwd=ROOT,
                env={**os.environ, "MLFLOW_TRACKING_URI": self.uri, "COLUMNS": "200", **self.environment},
                stdout=said,
                stderr=said,
            )

    def wait(self, seconds: float = 1200.0) -> int:
        """Wait for the end and return the exit code; a run that hangs is ended and counts as 130."""
        self.until(lambda: False, seconds, pause=0.5)
        return self.end()

    def end(self) -> int:
        """End the run, if it is running, as Ctrl-C does, and return its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait()

    def until(self, condition: Callable[[], bool], seconds: float = 900.0, pause: float = 0.1) -> bool:
        """Wait until `condition` holds; return False if the run ends or the time passes before."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while not condition():
            self.note_segments()
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(pause)
        return True

    def note_segments(self) -> None:
        """Remember the segments of shared memory that the run has noted as its own; its end removes the note."""
        if (self.directory / "logs").is_dir():
            for folder in processes.attempt_folders(self.directory):
                self.segments |= shared_memory.recorded(folder)

    def history(self) -> list[Entry]:
        """Return the journal's entries that count."""
        return history(Journal(path).entries() for path in attempts(self.directory))

    def steps_done(self) -> int:
        """Return the last step in the journal, 0 before the first."""
        return max((entry.step for entry in self.history()), default=0)

    def unrecorded(self) -> int:
        """Return how many of the journal's steps the store lacks."""
        history = MlflowClient(self.uri).get_metric_history(self.run_id, STEP)
        return self.steps_done() - max((metric.step for metric in history), default=0)

    def goes_on_from(self, attempt: int) -> int:
        """Return the step after which an attempt, by its number, began; the last of all if there was nothing to do."""
        journal = self.directory / "logs" / f"attempt-{attempt}.jsonl"
        entries = list(Journal(journal).entries()) if journal.exists() else []
        return min((entry.step for entry in entries if STEP in entry.metrics), default=STEPS + 1) - 1

    def unsealed(self) -> list[str]:
        """Return the checkpoints that are not whole: one that is being written, or what is left of it."""
        return [folder.name for folder in self.directory.glob("global_step_?") if not (folder / SEAL).exists()]

    def refused(self, checkpoint: str) -> bool:
        """Say whether a start has said that it does not resume from a checkpoint, and set it aside."""
        said = f"{checkpoint} is not resumed from" in (self.folder / "said.log").read_text()
        return said and (self.directory / f"{checkpoint}.broken").is_dir()

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the run's processes by their names in `TARGETS`."""
        assert self.process is not None
        there = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        found: dict[str, list[psutil.Process]] = {name: [] for name in TARGETS}
        for process in there:
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            for name, matches in TARGETS.items():
                if matches(title):
                    found[name].append(process)
        servers = servers_of(found["solver's server"], found["reward worker"])
        found["solver's server"], found["rollout server"] = servers[:1], servers[1:]
        # So have the launcher and those of its forks that have not become anybody yet.
        found["verl's launcher"] = sorted(found["verl's launcher"], key=psutil.Process.create_time)[:1]
        return found

    def leftovers(self, seconds: float = 20.0) -> list[str]:
        """Return what is left of the run that has ended: processes, shared memory, temporary folders."""
        deadline = time.monotonic() + seconds
        while processes.leftovers(self.directory) and time.monotonic() < deadline:
            time.sleep(0.2)
        left = [f"process {process.pid}" for process in processes.leftovers(self.directory)]
        left += [segment.name for segment in sorted(self.segments & shared_memory.present())]
        return left + [folder.name for folder in processes.attempt_folders(self.directory) if folder.exists()]

    def finish(self, tries: int = 4) -> int:
        """Resume until the run is finished; return how often it took, 0 if it did not get there."""
        for number in range(1, tries + 1):
            self.start("--resume")
            if self.wait() == 0:
                return number
        return 0

    def checkpoint(self) -> int:
        """Return the step of the last whole checkpoint."""
        return last_checkpoint(self.directory)


def hit(loop: Loop, target: str, moment: str, draw: random.Random) -> dict[str, object] | None:
    """Kill `target` of a run that was just started, at a `moment` whose details `draw` chooses; say what was hit.

    Returns None if the moment never came.
    """
    if moment == "starting":
        step, delay = 0, draw.uniform(0, 40)
        there = loop.until(lambda: (loop.directory / "logs/attempt-1.jsonl").exists())
    elif moment == "writing a checkpoint":
        step, delay = draw.choice(range(SAVE_FREQ, STEPS + 1, SAVE_FREQ)), 0.0
        there = loop.until(lambda: loop.steps_done() >= step - 1)
    else:
        # Two steps take longer than the delay, so the run is still at work then.
        step, delay = draw.choice(range(STEPS - 1)), draw.uniform(0, 3)
        there = loop.until(lambda: loop.steps_done() >= step and bool(loop.processes()["agent loop worker"]))
    if not there:
        return None
    time.sleep(delay)
    # To look through the processes takes longer than to write this checkpoint, so the victim is found before.
    if not loop.until(lambda: bool(loop.processes()[target])):
        return None
    victim = draw.choice(loop.processes()[target])
    if moment != "writing a checkpoint":
        victim.kill()
        return {"after_step": loop.steps_done(), "delay_s": round(delay, 3)}
    # A tiny checkpoint is written in 30 ms: its writer stands still for the kill, as one of 18 GB would seem to.
    (writer,) = loop.processes()["actor"]
    if not loop.until(lambda: bool(loop.unsealed()), pause=0.0):
        return None
    writer.suspend()
    writing = loop.unsealed()
    victim.kill()
    time.sleep(STANDSTILL_S)
    with contextlib.suppress(psutil.NoSuchProcess):
        writer.resume()
    return {"after_step": loop.steps_done(), "being_written": writing}


def final_metrics(loop: Loop) -> dict[str, dict[int, float]]:
    """Return what a run measured without a clock, by metric and step, as MLflow holds it; the last value counts."""
    client = MlflowClient(loop.uri)
    names = [name for name in client.get_run(loop.run_id).data.metrics if not CLOCKED.search(recorded(name))]
    found = {}
    for name in names:
        metrics = sorted(client.get_metric_history(loop.run_id, name), key=lambda metric: metric.timestamp)
        found[name] = {metric.step: metric.value for metric in metrics}
    return found


def same(value: float, expected: float) -> bool:
    """Say whether two values are equal to 1e-5, relative or absolute, or both no numbers."""
    return math.isclose(value, expected, rel_tol=1e-5, abs_tol=1e-5) or (math.isnan(value) and math.isnan(expected))


def differences(metrics: dict[str, dict[int, float]], expected: dict[str, dict[int, float]]) -> list[str]:
    """Return the metrics in which two runs differ by more than 1e-5, relative or absolute."""
    return sorted(
        name
        for name in metrics.keys() | expected.keys()
        if metrics.get(name, {}).keys() != expected.get(name, {}).keys()
        or not all(same(metrics[name][step], expected[name][step]) for step in metrics[name])
    )
